"""Time and memory of every layer over sequence lengths."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import psutil

from treering import layers
from treering.bench.alone import EndedError, measure
from treering.bench.peers import transformer
from treering.bench.record import Case, CostAt, Growth, Middle
from treering.bench.table import Session

LENGTHS = {
    "smoke": (8, 16, 32),
    "quick": (1024, 4096, 16_384, 65_536, 262_144),
    "full": (1024, 4096, 16_384, 65_536, 262_144),
}
WIDTH = {"smoke": 4, "quick": 16, "full": 16}
"""Of input and state; one sequence."""
CALLS = {"smoke": 1, "quick": 4, "full": 12}
LONGER = 4
"""A length is this many times the one before."""
SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Curve:
    """One layer, trained or not."""

    layer: str
    mode: Literal["train", "infer"]

    @property
    def name(self) -> str:
        return f"growth-{self.layer}-{self.mode}"


def curves(budget: str) -> list[Curve]:
    """Every registered layer and a transformer; in the budget `smoke` one of each."""
    modes: tuple[Literal["train", "infer"], ...] = ("infer", "train")
    names = ("pr-lstm",) if budget == "smoke" else layers.names()
    return [Curve(name, mode) for name in (*names, transformer.NAME) for mode in modes]


def measure_curve(curve: Curve, session: Session) -> Iterator[Growth]:
    """The record after each length, shortest first; ends with a reason where it must stop."""
    budget, lengths = session.budget, LENGTHS[session.budget.name]
    width = WIDTH[budget.name]
    case = Case(
        layer=curve.layer,
        mode=curve.mode,
        batch=1,
        time=lengths[-1],
        input_size=width,
        hidden_size=width,
    )
    so_far = Growth(
        name=curve.name,
        case=case,
        **session.common,  # pyright: ignore[reportArgumentType]
    )
    for T in lengths:
        reason = _too_much(curve, so_far.points, session)
        if reason:
            yield so_far.model_copy(update={"reason": reason})
            return
        try:
            found = measure(
                case.model_copy(update={"time": T}),
                "auto",
                threads=session.machine.threads,
                calls=CALLS[budget.name],
                seconds=budget.seconds,
                patience=60 + 2 * budget.longest_call,
            )
        except EndedError as error:
            yield so_far.model_copy(update={"reason": f"at T = {T:,} {error}"})
            return
        point = CostAt(
            time=T,
            seconds=Middle.of(found.seconds),
            calls=len(found.seconds),
            peak_bytes=found.peak_bytes,
        )
        so_far = so_far.model_copy(update={"points": [*so_far.points, point], "ran": found.ran})
        yield so_far


def _too_much(curve: Curve, points: list[CostAt], session: Session) -> str:
    """Why the next length is not tried, from what the last one took.

    Cost is taken to grow as the length; attention's time as its square.
    """
    if not points:
        return ""
    slower = LONGER**2 if curve.layer == transformer.NAME else LONGER
    last = points[-1]
    limit = session.budget.longest_call
    if last.seconds.median * slower > limit:
        return (
            f"stopped after T = {last.time:,}, where a call takes {last.seconds.median:.1f} s:"
            f" the next would take more than {limit:g} s"
        )
    free = psutil.virtual_memory().available * SHARE_OF_MEMORY
    if last.peak_bytes * LONGER > free:
        return (
            f"stopped after T = {last.time:,}, where a call takes"
            f" {last.peak_bytes / 2**20:,.0f} MiB: the next would not fit in memory"
        )
    return ""
