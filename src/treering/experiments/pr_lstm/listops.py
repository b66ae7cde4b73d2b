"""Nested expressions: does a fixed balanced tree help where the data has a tree of its own?"""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains

LAYERS = ("pr-lstm", "lstm", "gru", "lstm:bidirectional=true")

LISTOPS = Experiment(
    name="pr-lstm/listops",
    title="ListOps",
    source="our addition; data: Nangia and Bowman 2018",
    claims=(
        Claim("PR-LSTM is better than an LSTM on ListOps", OPEN, gains("listops", *LAYERS[:2])),
    ),
    cpu=(Grid("listops", LAYERS, 5, {"epochs": 3}),),
    paper=(Grid("listops", LAYERS, 5),),
    reading="Trained on 81,000 expressions drawn by the stated rules, those of at most 128 tokens;"
    " tested on the published test set, whole.",
)
