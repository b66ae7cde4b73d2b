"""Does QL-LSTM hold longer documents better? 250, 500, 1,000 and 2,000 tokens."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid, Option
from treering.experiments.judging import gains
from treering.experiments.ql_lstm.protocol import BOUNDED, FOUR, READING, SOURCE

LENGTHS = (250, 500, 1000, 2000)


def _grids(seeds: int, lengths: tuple[int, ...], **options: Option) -> tuple[Grid, ...]:
    return tuple(
        Grid(
            "imdb",
            (*FOUR, BOUNDED),
            seeds,
            {"min_tokens": length, "max_tokens": length, **options},
            f"{length} tokens",
        )
        for length in lengths
    )


EXTENDED = Experiment(
    name="ql-lstm/lengths",
    title="Film reviews lengthened",
    source=SOURCE,
    claims=tuple(
        Claim(
            f"{what} is better than an LSTM on lengthened documents",
            published,
            gains("imdb", layer, "lstm", variant=f"{length} tokens"),
            where=f"{length} tokens",
        )
        for layer, what, published in (
            ("ql-lstm", "QL-LSTM", "stable at length"),
            (BOUNDED, "Bounded QL-LSTM", OPEN),
        )
        for length in LENGTHS
    ),
    cpu=_grids(2, LENGTHS, epochs=1),
    paper=_grids(10, LENGTHS, epochs=10),
    reading=READING + " A review shorter than the length is repeated until it has it: how the paper"
    " lengthens its documents is not public to us.",
)
