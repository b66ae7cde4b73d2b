"""Records as a measurement would leave them, and sessions of no length."""

from collections.abc import Callable
from typing import Any

from treering.bench.record import (
    Agreement,
    Case,
    Comparison,
    CostAt,
    Crossover,
    Growth,
    Machine,
    Middle,
    RatioAt,
)
from treering.bench.table import Session
from treering.bench.timing import BUDGETS

MACHINE = Machine(
    python="3.11",
    torch="2.13",
    treering="0.1",
    commit="abc1234",
    platform="Linux",
    processor="one of them",
    native="portable",
    threads=2,
    load=0.25,
)
COMMON: dict[str, Any] = {"command": "treering bench", "budget": "quick", "machine": MACHINE}
CASE = Case(layer="lstm", mode="train", batch=2, time=16, input_size=3, hidden_size=4)
SESSION = Session(BUDGETS["smoke"], MACHINE, "treering bench --budget smoke")


def comparison(ratio: tuple[float, float, float] | None = (2.0, 1.9, 2.1), **others: Any):
    """A measured row with these median and quartiles; without them one that was skipped."""
    fields: dict[str, Any] = {
        "name": "lstm-train",
        "group": "LSTM beside nn.LSTM",
        "case": CASE,
        "peer": "nn.LSTM",
        "quantity": "time",
        "target": 1.5,
        "status": "skipped",
        "reason": "not installed: nothing",
    }
    if ratio is not None:
        median, low, high = ratio
        middle = Middle(median=0.01, low=0.009, high=0.011)
        fields |= {
            "status": "measured",
            "reason": "",
            "pairs": 5,
            "ours": middle,
            "theirs": middle,
            "ratio": Middle(median=median, low=low, high=high),
            "operations": 10**9,
            "agreements": [
                Agreement(against="x", error=1e-7, worst="output", bound=1e-4, tensors=6)
            ],
        }
    return Comparison(**fields | COMMON | others)


def crossover(ratios: dict[int, float], **others: Any) -> Crossover:
    def middle(value: float) -> Middle:
        return Middle.of([value])

    points = [
        RatioAt(time=T, ours=middle(1), theirs=middle(r), ratio=middle(r))
        for T, r in ratios.items()
    ]
    fields = {"name": "crossover-a", "case": CASE, "peer": "nn.LSTM", "points": points}
    return Crossover(**fields | COMMON | others)


def growth(
    seconds: dict[int, float], bytes_of: Callable[[int], int] = lambda T: 1000 * T, **others: Any
) -> Growth:
    points = [
        CostAt(time=T, seconds=Middle.of([s]), calls=1, peak_bytes=bytes_of(T))
        for T, s in seconds.items()
    ]
    fields = {"name": "growth-lstm-train", "case": CASE, "points": points}
    return Growth(**fields | COMMON | others)
