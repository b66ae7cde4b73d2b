"""Which kernel runs a (cell, schedule) pair on this input, or why none does.

The schedule is the user's; a kernel only makes it faster. Every refusal has a reason, an explicit
request is obeyed or raises, and nothing falls back without saying so (`explain`).

Legend: B batch, T time, I input.
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
from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import AffineCell, Cell, MergeCell, StepCell
from treering.cells.gru import GRUCell
from treering.cells.lstm import LSTMCell
from treering.cells.rnn import RNNCell
from treering.kernels import aten
from treering.schedules.abstract import Schedule, Wanted
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.states import last_valid
from treering.schedules.tree import Tree

REFERENCE = "reference"
AUTO = "auto"


@dataclass(frozen=True)
class Request:
    """One call, as kernels see it: x (T, B, I), lengths (B,), reset (T, B)."""

    cell: Cell
    schedule: Schedule
    weights: Weights
    x: Tensor
    state: State | None
    lengths: Tensor | None
    reset: Tensor | None
    wanted: Wanted


@dataclass(frozen=True)
class Kernel:
    """A fast way to run one pair. `refuses` gives the reason why it cannot, or None."""

    name: str
    cell: type[Cell]
    schedule: type[Schedule]
    refuses: Callable[[Request], str | None]
    run: Callable[[Request], tuple[Tensor, State]]


@dataclass(frozen=True)
class Choice:
    """What will run, and one line saying why."""

    kernel: Kernel | None
    reason: str

    @property
    def name(self) -> str:
        return self.kernel.name if self.kernel else REFERENCE


def default_schedule(cell: Cell) -> Schedule:
    """The schedule a layer uses unless told otherwise: each kind of cell has its own."""
    for kind, schedule in ((MergeCell, Tree()), (AffineCell, Scan()), (StepCell, Sequential())):
        if isinstance(cell, kind):
            return schedule
    raise TypeError(f"{type(cell).__name__} is not one of the kinds of cell in cells.abstract")


def _aten_refuses(request: Request) -> str | None:
    if request.reset is not None:
        return "a reset mask needs the loop over time"
    if request.lengths is not None:
        # Measured: for packed input these operators are slower than the loop, at T = 512 by 20x.
        return "for sequences of different lengths the loop over time is faster"
    if not request.x.is_floating_point():
        return f"dtype {request.x.dtype} is not a floating-point type"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace PyTorch's recurrent operators"
    if request.x.shape[1] == 0:
        return "the batch is empty"
    return None


def _aten_run(request: Request) -> tuple[Tensor, State]:
    cell, w, x = request.cell, request.weights, request.x
    assert isinstance(cell, LSTMCell | GRUCell | RNNCell)
    operators: dict[type[Cell], Any] = {LSTMCell: torch.lstm, GRUCell: torch.gru}
    by_name = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
    operator = by_name[cell.nonlinearity] if isinstance(cell, RNNCell) else operators[type(cell)]
    state = cell.initial_state(x.shape[1], x) if request.state is None else request.state
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if cell.bias else [])]
    outputs, last = aten.run(operator, x, state, [w[n] for n in names])
    if request.wanted == "last":
        outputs = last_valid(outputs, request.lengths)
    return outputs, HiddenCell(*last) if isinstance(cell, LSTMCell) else Hidden(*last)


KERNELS: tuple[Kernel, ...] = tuple(
    Kernel(f"aten-{name}", cell, Sequential, _aten_refuses, _aten_run)
    for name, cell in (("lstm", LSTMCell), ("gru", GRUCell), ("rnn", RNNCell))
)

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


def requested() -> str:
    """What `use_kernels` or the environment variable TREERING_KERNELS asks for."""
    name = _requested.get() or os.environ.get("TREERING_KERNELS") or AUTO
    _check_name(name)
    return name


def choose(request: Request) -> Choice:
    """The kernel for this call, or the reference with the reason."""
    choice = _choose(request, requested())
    listener = _listener.get()
    if listener is not None:
        listener(f"{request.schedule}: {choice.name} ({choice.reason})")
    return choice


def _choose(request: Request, name: str) -> Choice:
    if name == REFERENCE:
        return Choice(None, "TREERING_KERNELS or use_kernels asks for the reference")
    pair = f"{type(request.cell).__name__} under {type(request.schedule).__name__}"
    candidates = [
        kernel
        for kernel in KERNELS
        if type(request.cell) is kernel.cell and type(request.schedule) is kernel.schedule
    ]
    if name != AUTO:
        candidates = [kernel for kernel in candidates if kernel.name == name]
        if not candidates:
            raise UserError(f"kernel {name!r} was asked for, but it does not run {pair}")
    refusals = []
    for kernel in candidates:
        reason = kernel.refuses(request)
        if reason is None:
            return Choice(kernel, f"{kernel.name} runs {pair}")
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


def explain(layer: Any, x: Any, lengths: Tensor | None = None) -> Explanation:
    """Which schedule and kernel would run `layer(x)`, and why: an Explanation, printable.

    layer: a treering layer, alone or in `Reordered`. x: its input, (T, B, I) or (B, T, I) with
    `batch_first`. The call runs the layer once, on x, without gradients; dropout's random numbers
    are given back.
    """
    lines: list[str] = []
    token = _listener.set(lines.append)
    devices = [x.data.device] if x.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            layer(x, lengths=lengths)
    finally:
        _listener.reset(token)
    return Explanation(tuple(lines))
