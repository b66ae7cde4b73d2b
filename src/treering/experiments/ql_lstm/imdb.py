"""Sentiment of film reviews at 500 tokens: accuracy and parameters, the whole and each part."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid
from treering.experiments.judging import fewer_parameters, gains, keeps_up
from treering.experiments.ql_lstm.protocol import (
    BIDIRECTIONAL,
    BOUNDED,
    FOUR,
    HGR_ASC,
    PSUG,
    READING,
    SOURCE,
)

ONE_POINT = 0.01

IMDB = Experiment(
    name="ql-lstm/imdb",
    title="Film reviews at 500 tokens",
    source=SOURCE,
    claims=(
        Claim(
            "QL-LSTM has about 48% fewer parameters than an LSTM of its size",
            "48%",
            fewer_parameters("imdb", "ql-lstm", "lstm", 0.48),
        ),
        *(
            Claim(
                f"{what} is competitive: less than a point below others",
                published,
                keeps_up("imdb", layer, other, ONE_POINT),
                where=name,
            )
            for layer, what, published in (
                ("ql-lstm", "QL-LSTM", "competitive"),
                (BOUNDED, "Bounded QL-LSTM", OPEN),
            )
            for other, name in (("lstm", "LSTM"), ("gru", "GRU"), (BIDIRECTIONAL, "BiLSTM"))
        ),
        Claim(
            "The additive skip alone improves on an LSTM",
            OPEN,
            gains("imdb", HGR_ASC, "lstm"),
        ),
    ),
    cpu=(
        Grid("imdb", FOUR, 3, {"max_tokens": 500}),
        Grid("imdb", (BOUNDED, PSUG, HGR_ASC), 3, {"max_tokens": 500}),
    ),
    paper=(Grid("imdb", (*FOUR, BOUNDED, PSUG, HGR_ASC), 10, {"max_tokens": 500, "epochs": 10}),),
    reading=READING,
)
