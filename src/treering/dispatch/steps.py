"""Step cells along a whole sequence in C++.

Legend: B batch, T time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from treering._types import State
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.cells.gru import GRUCell
from treering.cells.lstm import GATES, LSTMCell
from treering.cells.min_gru import MinGRUCell
from treering.cells.min_lstm import MinLSTMCell
from treering.cells.nonlinear_gate_lstm import NonlinearGateLSTMCell
from treering.cells.ql_gru import QLGRUCell
from treering.cells.ql_lstm import QLLSTMCell
from treering.cells.ql_parts import QLCell
from treering.cells.ql_rnn import QLRNNCell
from treering.cells.regularised import RegularisedCell
from treering.cells.rnn import RNNCell
from treering.dispatch.kernel import SLOWER, Kernel, is_transformed, native_refuses
from treering.kernels.native import step as native_step
from treering.kernels.native import step_forms
from treering.kernels.native.computation import run
from treering.schedules.abstract import Call
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.states import leaves_of, rebuilt


def refuses(call: Call) -> str | None:
    """Why no kernel of a step cell can run this call, or None."""
    reason = native_refuses(call, (torch.float32, torch.bfloat16))
    cell = call.cell
    if reason is not None:
        return reason
    if torch.is_autocast_enabled("cpu"):
        return "under autocast products run in low precision, which it does not"
    if any(w.dtype != call.x.dtype or w.device != call.x.device for w in call.weights.values()):
        return "weights and input differ in dtype or device"
    if call.wanted == "states":
        return "inner states are asked for, which it does not keep"
    if "noise_hidden" in call.weights or "noise_zoneout" in call.weights:
        return "masks of recurrent dropout and zoneout need the loop over time"
    if isinstance(cell, QLCell) and cell.block_size and is_transformed(call):
        return "under transforms of torch.func the count of a block's steps has no derivative"
    return _needs_the_loop(cell)


def _needs_the_loop(cell: Cell) -> str | None:
    """Options that the kernel of a step cell does not have."""
    if not isinstance(cell, RegularisedCell):
        return None
    if cell.layer_norm and type(cell) not in _NORMED:
        return f"layer norm of {type(cell).__name__} needs the loop over time"
    if isinstance(cell, LSTMCell) and cell.proj_size:
        return "projections need the loop over time"
    if cell.zoneout and (cell.layer_norm or (isinstance(cell, QLCell) and cell.block_size)):
        return "zoneout together with layer norm or blocks needs the loop over time"
    return None


def _slower(call: Call) -> str | None:
    if isinstance(call.cell, AffineCell) and call.x.shape[0] == 1:
        return "one token is done before it has started"
    return SLOWER if is_transformed(call) else None


_NORMED = (LSTMCell, GRUCell, RNNCell, QLLSTMCell)
_FORMS: dict[type[Cell], Callable[[Any], step_forms.Form]] = {
    LSTMCell: lambda cell: step_forms.lstm(cell.layer_norm),
    GRUCell: lambda cell: step_forms.gru(cell.layer_norm),
    RNNCell: lambda cell: step_forms.rnn(cell.nonlinearity, cell.layer_norm),
    QLLSTMCell: lambda cell: step_forms.ql_lstm(cell.shared_blocks, _skip(cell), cell.layer_norm),
    QLGRUCell: lambda cell: step_forms.ql_gru(cell.shared_blocks, _skip(cell)),
    QLRNNCell: lambda cell: step_forms.ql_rnn(cell.shared_blocks, _skip(cell)),
    NonlinearGateLSTMCell: lambda cell: step_forms.nonlinear_gate_lstm(
        [GATES.index(gate) for gate in cell.gates]
    ),
    MinGRUCell: lambda cell: step_forms.min_gru(),
    MinLSTMCell: lambda cell: step_forms.min_lstm(),
}


def _skip(cell: QLCell) -> step_forms.Skip:
    return step_forms.Skip(cell.skip, cell.alpha, cell.bounded, cell.block_size)


@lru_cache(maxsize=256)
def form_of(cell: Cell) -> step_forms.Form | None:
    """How the kernel knows this cell; None where its options need the loop."""
    if type(cell) not in _FORMS or _needs_the_loop(cell) is not None:
        return None
    form = _FORMS[type(cell)](cell)
    return replace(form, zoneout=cell.zoneout) if isinstance(cell, RegularisedCell) else form


@dataclass(frozen=True)
class _Sequences(native_step.Sequences):
    """A cell along whole sequences, known by its value."""

    cell: StepCell | AffineCell
    names: tuple[str, ...]
    fields: int
    lengths: bool
    reset: bool

    @property
    def form(self) -> step_forms.Form:
        form = form_of(self.cell)
        assert form is not None
        return form

    def by_operators(self, given: native_step.Given) -> list[Tensor]:
        x, state, weights, lengths, reset = given
        first = rebuilt(self.cell.initial_state(x.shape[1], x), state)
        schedule = Scan() if isinstance(self.cell, AffineCell) else Sequential()
        call = Call(self.cell, weights, x, first, lengths, reset, "all", schedule, True)
        outputs, last = schedule.run(call)
        return [outputs, *leaves_of(last)]


def _wider(tensor: Tensor) -> Tensor:
    """bfloat16 in float32, which is exact: states and gates are rounded at the very end alone."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _as(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _run(call: Call) -> tuple[Tensor, State]:
    cell = call.cell
    assert isinstance(cell, StepCell | AffineCell)
    state = cell.initial_state(call.x.shape[1], call.x) if call.state is None else call.state
    masks = (call.lengths, call.reset)
    given = [mask is not None for mask in masks]
    fields = leaves_of(state)
    computation = _Sequences(cell, tuple(call.weights), len(fields), *given)
    tensors = [_wider(tensor) for tensor in (call.x, *fields, *call.weights.values())]
    tensors += [mask for mask in masks if mask is not None]
    outputs, *last = (_as(call.x.dtype, found) for found in run(computation, tensors))
    return (last[0] if call.wanted == "last" else outputs), rebuilt(state, last)


KERNELS = tuple(
    Kernel(f"native-{name}", cell, schedule, refuses, _run, _slower)
    for name, cell, schedule in (
        ("lstm", LSTMCell, Sequential),
        ("gru", GRUCell, Sequential),
        ("rnn", RNNCell, Sequential),
        ("ql-lstm", QLLSTMCell, Sequential),
        ("ql-gru", QLGRUCell, Sequential),
        ("ql-rnn", QLRNNCell, Sequential),
        ("nonlinear-gate-lstm", NonlinearGateLSTMCell, Sequential),
        ("min-gru", MinGRUCell, Scan),
        ("min-lstm", MinLSTMCell, Scan),
    )
)
