"""Unified gates in a GRU and in a plain RNN, the paper's future work."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import keeps_up
from treering.experiments.ql_lstm.protocol import READING, SOURCE

PAIRS = {"ql-gru": "gru", "ql-rnn": "rnn", "ql-gru:skip=none": "gru"}
LAYERS = ("gru", "rnn", *PAIRS)
TASKS = ("imdb", "r8")

SHARING = Experiment(
    name="ql-lstm/sharing",
    title="Unified gates in GRU and RNN",
    source=f"{SOURCE}, future work",
    claims=tuple(
        Claim(f"{layer} is less than a point below {base}", OPEN, judge, where=task)
        for task in TASKS
        for layer, base in PAIRS.items()
        for judge in [keeps_up(task, layer, base, 0.01)]
    ),
    cpu=(
        Grid("imdb", LAYERS, 5, {"max_tokens": 250, "epochs": 2}),
        Grid("r8", LAYERS, 5),
    ),
    paper=(
        Grid("imdb", LAYERS, 10, {"max_tokens": 500, "epochs": 10}),
        Grid("r8", LAYERS, 10),
    ),
    reading=f"{READING} The additive skip is the paper's, which nothing bounds.",
)
