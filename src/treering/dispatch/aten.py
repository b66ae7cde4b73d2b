"""PyTorch's own operators for LSTM, GRU and RNN cells.

Legend: B batch, T time, I input.
"""

from typing import Any

import torch
from torch import Tensor

from treering._types import Hidden, HiddenCell, State
from treering.cells.abstract import Cell
from treering.cells.gru import GRUCell
from treering.cells.lstm import LSTMCell
from treering.cells.regularised import RegularisedCell
from treering.cells.rnn import RNNCell
from treering.dispatch import steps
from treering.dispatch.kernel import Kernel, is_transformed
from treering.kernels import aten
from treering.schedules.abstract import Call
from treering.schedules.sequential import Sequential
from treering.schedules.states import last_valid, leaves_of

CUDNN_STEPS = 65_535


def _refuses(call: Call) -> str | None:
    if call.reset is not None:
        return "a reset mask needs the loop over time"
    if call.lengths is not None:
        # Measured: for packed input these operators are slower than the loop, at T = 512 by 20x.
        return "for sequences of different lengths the loop over time is faster"
    if call.wanted == "states":
        return "inner states are asked for, which PyTorch's operators keep to themselves"
    assert isinstance(call.cell, RegularisedCell)
    if call.cell.layer_norm or call.cell.zoneout or "noise_hidden" in call.weights:
        return "layer norm, zoneout and recurrent dropout need the loop over time"
    if isinstance(call.cell, LSTMCell) and call.cell.proj_size and call.x.device.type == "cpu":
        return "oneDNN has no projections, and without it PyTorch's operator is a loop as well"
    if torch.is_autocast_enabled(call.x.device.type):
        return "under autocast PyTorch's operators keep the state in low precision"
    if call.x.device.type == "cuda" and call.x.shape[0] > CUDNN_STEPS:
        # https://github.com/pytorch/pytorch/issues/133751
        return f"cuDNN stops at {CUDNN_STEPS} time steps"
    if not call.x.is_floating_point():
        return f"dtype {call.x.dtype} is not a floating-point type"
    if torch.compiler.is_compiling():
        return "torch.compile cannot trace PyTorch's recurrent operators"
    if is_transformed(call):
        return "PyTorch's recurrent operators have no rule for vmap and forward mode"
    if call.x.shape[1] == 0:
        return "the batch is empty"
    return None


OVERHEAD = 16_000_000
"""Multiply-adds of a call below which PyTorch's LSTM is done before ours has started."""

MANY_TOKENS, MANY_ROWS, FEW_WEIGHTS = 8192, 16, 2**21
"""Where ours is 1.1 to 1.2 times as fast as PyTorch's LSTM in inference, too."""


def _slower(call: Call) -> str | None:
    """Measured in turn, ten sizes a cell: T 1 to 512, B 1 to 128, H 64 to 1,024; two threads."""
    if steps.refuses(call) is not None or call.x.shape[0] == 1:
        return None
    if not isinstance(call.cell, LSTMCell):
        return "treering's own kernel is faster"
    T, B, _ = call.x.shape
    weights = sum(w.numel() for w in call.weights.values())
    trained = (call.x, *leaves_of(call.state or ()), *call.weights.values())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in trained):
        enough = T * B * weights >= OVERHEAD
        return "in training treering's own kernel is faster" if enough else None
    if T * B >= MANY_TOKENS and B >= MANY_ROWS and weights <= FEW_WEIGHTS:
        return "for so many tokens treering's own kernel is faster"
    return None


def _run(call: Call) -> tuple[Tensor, State]:
    cell, w, x = call.cell, call.weights, call.x
    assert isinstance(cell, LSTMCell | GRUCell | RNNCell)
    operators: dict[type[Cell], Any] = {LSTMCell: torch.lstm, GRUCell: torch.gru}
    by_name = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
    operator = by_name[cell.nonlinearity] if isinstance(cell, RNNCell) else operators[type(cell)]
    state = cell.initial_state(x.shape[1], x) if call.state is None else call.state
    outputs, last = aten.run(operator, x, state, [w[n] for n in cell.parameters(x.shape[2])])
    if call.wanted == "last":
        outputs = last_valid(outputs, call.lengths)
    return outputs, HiddenCell(*last) if isinstance(cell, LSTMCell) else Hidden(*last)


KERNELS = tuple(
    Kernel(f"aten-{name}", cell, Sequential, _refuses, _run, _slower)
    for name, cell in (("lstm", LSTMCell), ("gru", GRUCell), ("rnn", RNNCell))
)
