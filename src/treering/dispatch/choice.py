"""Which kernel runs a (cell, schedule) pair on this input, or why none does.

The schedule is the user's; a kernel only makes it faster. Every refusal has a reason, an explicit
request is obeyed or raises, and nothing falls back without saying so (`explain`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from treering._errors import UserError, nearest
from treering.cells.abstract import AffineCell, Cell, MergeCell, StepCell
from treering.dispatch import aten, steps, trees
from treering.dispatch.kernel import Kernel
from treering.schedules.abstract import Call, Schedule
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.tree import Tree

REFERENCE = "reference"
AUTO = "auto"

KERNELS: tuple[Kernel, ...] = (*aten.KERNELS, *steps.KERNELS, *trees.KERNELS)


@dataclass(frozen=True)
class Choice:
    """What will run, and one line saying why."""

    kernel: Kernel | None
    reason: str

    def line(self, schedule: Schedule) -> str:
        """What a person is told: `Sequential(): aten-lstm (its reason)`."""
        name = self.kernel.name if self.kernel else REFERENCE
        return f"{schedule}: {name} ({self.reason})"


def default_schedule(cell: Cell) -> Schedule:
    """The schedule a layer uses unless told otherwise: each kind of cell has its own."""
    for kind, schedule in ((MergeCell, Tree()), (AffineCell, Scan()), (StepCell, Sequential())):
        if isinstance(cell, kind):
            return schedule
    raise TypeError(f"{type(cell).__name__} is not one of the kinds of cell in cells.abstract")


_requested: ContextVar[str | None] = ContextVar("treering_kernels", default=None)
_listener: ContextVar[Callable[[str], None] | None] = ContextVar("treering_listener", default=None)


@contextmanager
def use_kernels(name: str) -> Iterator[None]:
    """Within the block, run `name`: "auto", "reference" or a kernel that must then be able to run.

    >>> with use_kernels("reference"):
    ...     pass

    Errors: ValueError for an unknown name; a kernel that cannot run raises at the call.
    """
    _check_name(name)
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def _check_name(name: str) -> None:
    known = [AUTO, REFERENCE, *(kernel.name for kernel in KERNELS)]
    if name not in known:
        raise UserError(nearest(name, known, "kernel"))


def asked() -> str:
    """What `use_kernels` or the environment variable TREERING_KERNELS asks for, unchecked."""
    return _requested.get() or os.environ.get("TREERING_KERNELS") or AUTO


def requested() -> str:
    """What is asked for. Errors: ValueError for an unknown name."""
    name = asked()
    _check_name(name)
    return name


def choose(schedule: Schedule, call: Call) -> Choice:
    """The kernel for this call, or the reference with the reason."""
    choice = _choose(schedule, call, requested())
    listener = _listener.get()
    if listener is not None:
        kernel = choice.kernel
        if kernel is not None and kernel.note is not None:
            choice = Choice(kernel, choice.reason + kernel.note(call))
        listener(choice.line(schedule))
    return choice


def _choose(schedule: Schedule, call: Call, name: str) -> Choice:
    if name == REFERENCE:
        return Choice(None, "TREERING_KERNELS or use_kernels asks for the reference")
    pair = f"{type(call.cell).__name__} under {type(schedule).__name__}"
    candidates = [
        kernel
        for kernel in KERNELS
        if type(call.cell) is kernel.cell and type(schedule) is kernel.schedule
    ]
    if name != AUTO:
        candidates = [kernel for kernel in candidates if kernel.name == name]
        if not candidates:
            raise UserError(f"kernel {name!r} was asked for, but it does not run {pair}")
    refusals = []
    for kernel in candidates:
        reason = kernel.refuses(call)
        if reason is None and name == AUTO and kernel.slower is not None:
            reason = kernel.slower(call)
        if reason is None:
            return Choice(kernel, "; ".join([f"{kernel.name} runs {pair}", *refusals]))
        refusals.append(f"{kernel.name}: {reason}")
    if name != AUTO:
        raise UserError(f"kernel {name!r} was asked for, but cannot run: {'; '.join(refusals)}")
    if not refusals:
        return Choice(None, f"no kernel is written for {pair}; plain PyTorch operators run it")
    return Choice(None, "; ".join(refusals))


@dataclass(frozen=True, repr=False)
class Explanation:
    """What would run, one line per layer and direction; shows itself as text."""

    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines)


def explain(
    layer: Any, x: Any, lengths: Tensor | None = None, ranks: Tensor | None = None
) -> Explanation:
    """Which schedule and kernel would run `layer(x)`, and why: an Explanation, printable.

    layer: a treering layer, alone or in `Reordered`. x: its input, (T, B, I) or (B, T, I) with
    `batch_first`; with ranks under `Tree("given")`. The call runs the layer once, on x, as it would
    run here: under torch.no_grad() as in inference, else as in training. Dropout's random numbers
    are given back.
    """
    lines: list[str] = []
    token = _listener.set(lines.append)
    devices = [x.data.device] if x.is_cuda else []
    try:
        with torch.random.fork_rng(devices):
            layer(x, lengths=lengths, **({} if ranks is None else {"ranks": ranks}))
    finally:
        _listener.reset(token)
    return Explanation(tuple(lines))
