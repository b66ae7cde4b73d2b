"""The paper's open question 3: documents beyond 500 tokens."""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid, Option
from treering.experiments.judging import gains
from treering.experiments.tree_order.protocol import SOURCE

BASES = {"an LSTM": "lstm", "a bidirectional LSTM": "lstm:bidirectional=true"}
LAYERS = tuple(layer for base in BASES.values() for layer in (base, f"{base}+tree-order"))


def _grids(seeds: int, **options: Option) -> tuple[Grid, ...]:
    return (
        Grid("imdb", LAYERS, seeds, {"min_tokens": 600, "max_tokens": 600, **options}),
        Grid("r8", LAYERS, seeds, {"max_tokens": 1000, "epochs": 10}),
    )


LONGER = Experiment(
    name="tree-order/longer",
    title="Beyond 500 tokens",
    source=f"{SOURCE}, its open question 3",
    claims=tuple(
        Claim(
            f"The tree order improves {what} on whole documents",
            OPEN,
            gains(task, f"{base}+tree-order", base),
            where=task,
        )
        for what, base in BASES.items()
        for task in ("imdb", "r8")
    ),
    cpu=_grids(5, epochs=1),
    paper=_grids(10, epochs=10),
    reading="R8's documents are read whole (at most 964 words); IMDB's are repeated or cut to 600"
    " tokens. On the budget `cpu` IMDB is read once, after which no layer is right on 70%.",
)
