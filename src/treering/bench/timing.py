"""Two contenders in turn, so that a slow moment of the machine meets both."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from treering.bench.peers.abstract import Prepared

UNTIMED_BEFORE = 10e-3
"""Seconds. A briefer call is preceded by one that does not count: caches, branch predictors and
threads of a pool are then where they are when it is called again and again."""


@dataclass(frozen=True)
class Budget:
    """How long to measure: at least `pairs`, then until `seconds` have passed or `most` is met.

    block: seconds of one side's turn, which briefer calls are repeated to fill.
    """

    name: str
    pairs: int
    most: int
    seconds: float
    block: float
    longest_call: float
    """Seconds of one call in a sweep, above which longer sequences are left out."""


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("smoke", pairs=2, most=2, seconds=0.0, block=0.0, longest_call=1.0),
        Budget("quick", pairs=5, most=50, seconds=3.0, block=0.02, longest_call=60.0),
        Budget("full", pairs=15, most=400, seconds=20.0, block=0.05, longest_call=300.0),
    )
}


def paired(ours: Prepared, theirs: Prepared, budget: Budget) -> tuple[list[float], list[float]]:
    """Seconds of one call of each, turn by turn: A B B A A B ..., so that neither is always first.

    Both have been called before: what the first call alone costs (compiling, packing, allocating)
    is in neither.
    """
    sides = [_Side(one, budget) for one in (ours, theirs)]
    begin = perf_counter()
    with _undisturbed():
        while True:
            done = len(sides[0].times)
            for side in sides if done % 2 == 0 else sides[::-1]:
                side.turn()
            done += 1
            enough = perf_counter() - begin >= budget.seconds or done >= budget.most
            if done >= budget.pairs and enough:
                return sides[0].times, sides[1].times


class _Side:
    def __init__(self, prepared: Prepared, budget: Budget) -> None:
        self.call, self.scale = prepared.call, prepared.scale
        self.times: list[float] = []
        self.call()
        once = min(_seconds(self.call) for _ in range(3))
        self.untimed = once < UNTIMED_BEFORE
        self.repeats = max(1, round(budget.block / once)) if once else 1

    def turn(self) -> None:
        if self.untimed:
            self.call()
        begin = perf_counter()
        for _ in range(self.repeats):
            self.call()
        self.times.append((perf_counter() - begin) / self.repeats * self.scale)


def _seconds(call: Callable[[], Any]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Python's collector of cycles, which comes when it likes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
