"""Our addition: does a tree hold for propositions with more operators than it was trained on?"""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains, reaches_at

TASK = "logical-inference"
LAYERS = ("pr-lstm", "lstm", "gru")
HALFWAY = 0.75
"""Between always answering that nothing follows, right in about a half, and being right always."""

LOGIC = Experiment(
    name="pr-lstm/logic",
    title="Logical inference",
    source="our addition; data: Bowman et al. 2015, by way of Shen et al. 2019",
    claims=(
        Claim(
            "PR-LSTM is better than an LSTM on logical inference", OPEN, gains(TASK, *LAYERS[:2])
        ),
        *(
            Claim(
                f"{layer} is over 75% at 12 operators and more, trained on at most 6",
                OPEN,
                reaches_at(TASK, layer, 12, HALFWAY),
            )
            for layer in LAYERS
        ),
    ),
    cpu=(Grid(TASK, LAYERS, 5, {"epochs": 10}),),
    paper=(Grid(TASK, LAYERS, 10),),
    reading="Brackets are words that all layers read; none is told the tree. Guessing is right in"
    " about a half, and 75% is halfway from there to all.",
)
