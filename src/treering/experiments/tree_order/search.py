"""All sixteen numbers of the Lp penalty searched, beside an LSTM with as many settings tried."""

from collections.abc import Mapping
from functools import partial

from treering.experiments.abstract import Claim, Experiment, Option, Search, Suggest
from treering.experiments.judging import gains
from treering.experiments.tree_order.penalties import MATRICES
from treering.experiments.tree_order.protocol import (
    FOODS_EPOCHS,
    PAPER_SEEDS,
    READING,
    SEEDS,
    SOURCE,
    TASKS,
)

PENALISED, PLAIN = "lstm+lp, sixteen numbers searched", "lstm, decay and dropout searched"
EXPONENTS = (0.5, 1.0, 2.0)


def sixteen(trial: Suggest, options: Mapping[str, Option]) -> tuple[str, Mapping[str, Option]]:
    """A weight and an exponent for each of the eight matrices."""
    weights, exponents = [], []
    for matrix in MATRICES:
        weight = trial.suggest_float(f"weight {matrix}", 1e-7, 1e-2, log=True)
        # Three digits: a specification names the folder of a run.
        weights.append(f"{matrix}@{weight:.2e}")
        exponents.append(f"{matrix}@{trial.suggest_categorical(f'p {matrix}', EXPONENTS)}")
    return f"lstm+lp:weights={'/'.join(weights)}:exponents={'/'.join(exponents)}", options


def plain(trial: Suggest, options: Mapping[str, Option]) -> tuple[str, Mapping[str, Option]]:
    """What an LSTM is usually regularised with."""
    decay = trial.suggest_float("weight decay", 1e-5, 1.0, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.6)
    return "lstm", {**options, "weight_decay": float(f"{decay:.2e}"), "dropout": round(dropout, 2)}


def _searches(trials: int, seeds: int, **foods: Option) -> tuple[Search, ...]:
    return tuple(
        Search(task, name, partial(draw, options=options), trials, seeds)
        for task, options in zip(TASKS, ({}, foods), strict=True)
        for name, draw in ((PENALISED, sixteen), (PLAIN, plain))
    )


SEARCH = Experiment(
    name="tree-order/search",
    title="Lp penalties searched",
    source=SOURCE,
    claims=tuple(
        Claim(
            "Weights and exponents searched improve an LSTM searched as long",
            "better",
            gains(task, PENALISED, PLAIN),
            where=task,
        )
        for task in TASKS
    ),
    cpu=(),
    paper=(),
    searches={
        "cpu": _searches(20, SEEDS, epochs=FOODS_EPOCHS),
        "paper": _searches(200, PAPER_SEEDS),
    },
    reading=READING + " The LSTM beside it has as many settings of weight decay and dropout tried.",
)
