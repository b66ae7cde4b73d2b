"""The skip's alpha: a constant, learned, per channel, from the input, bounded."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import gains
from treering.experiments.ql_lstm.protocol import BOUNDED, READING, SOURCE

FORMS = {
    "a constant": "ql-lstm:bounded=true:skip=fixed",
    "one for each channel": "ql-lstm:bounded=true:skip=channel",
    "a function of the input": "ql-lstm:bounded=true:skip=input",
    "an unbounded one": "ql-lstm",
}
LAYERS = ("lstm", BOUNDED, *FORMS.values())

ALPHA = Experiment(
    name="ql-lstm/alpha",
    title="Forms of the additive skip",
    source=f"{SOURCE}; adaptive forms are its future work",
    claims=tuple(
        Claim(
            f"A learned, bounded alpha is better than {what}",
            OPEN,
            gains("imdb", BOUNDED, layer),
        )
        for what, layer in FORMS.items()
    ),
    cpu=(Grid("imdb", LAYERS, 5, {"max_tokens": 250, "epochs": 2}),),
    paper=(Grid("imdb", LAYERS, 10, {"max_tokens": 500, "epochs": 10}),),
    reading=READING,
)
