"""Our addition: is the tree that the data has a better bracket than the fixed ones?"""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains

GIVEN = "pr-lstm:schedule=given"
LAYERS = ("pr-lstm", GIVEN, "pr-lstm:schedule=left", "lstm")
TREES = {
    "sst": "The parse is a better bracket than the balanced tree (sst)",
    "listops": "The tree of the expression is a better bracket than the balanced tree (listops)",
}

PARSE = Experiment(
    name="pr-lstm/parse",
    title="The tree that the data has",
    source="our addition; data: Socher et al. 2013, Nangia and Bowman 2018",
    claims=(
        *(Claim(text, OPEN, gains(task, GIVEN, "pr-lstm")) for task, text in TREES.items()),
        *(
            Claim(
                "Merging along the tree of the data is better than an LSTM",
                OPEN,
                gains(task, GIVEN, "lstm"),
                where=task,
            )
            for task in TREES
        ),
    ),
    cpu=(Grid("sst", LAYERS, 5), Grid("listops", LAYERS, 5, {"epochs": 3})),
    paper=(Grid("sst", LAYERS, 10), Grid("listops", LAYERS, 10)),
    reading="Labels are the sentence's alone, not those that the treebank has for every phrase, so"
    " that all layers learn from the same. ListOps' tree is the one its round brackets spell: an"
    " operator takes its arguments one after the other.",
)
