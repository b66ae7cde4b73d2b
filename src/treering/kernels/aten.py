"""PyTorch's own whole-sequence LSTM, GRU and RNN operators (oneDNN on CPU, cuDNN on GPU).

One call runs the loop over time inside the operator. Numbers equal the reference up to rounding.

Legend: B batch, T time, I input, H hidden.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import flop_counter


def run(
    operator: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: Sequence[Tensor],
    parameters: Sequence[Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run `operator` (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), one layer.

    x: (T, B, I); state: h (B, H), for an LSTM also c; parameters: W_ih, W_hh, both biases or none,
    and a projection's matrix or none. Returns outputs (T, B, H) and the last state.
    """
    hidden = [part.unsqueeze(0) for part in state]
    first = hidden if operator is torch.lstm else hidden[0]
    biased = len(parameters) >= 4
    # cuDNN differentiates only what ran in its training mode; without dropout it changes nothing.
    train = torch.is_grad_enabled()
    outputs, *last = operator(x, first, list(parameters), biased, 1, 0.0, train, False, False)
    return outputs, tuple(part.squeeze(0) for part in last)


Shape = Sequence[int]


def _products(x: Shape, weights: Sequence[Shape]) -> int:
    """Operations of each matrix of `weights` times each token of x (..., I), two a multiply-add."""
    return 2 * math.prod(x[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _onednn_flops(x: Shape, w_ih: Shape, w_hh: Shape, *args: Any, **kwargs: Any) -> int:
    return _products(x, (w_ih, w_hh))


def _onednn_backward_flops(x: Shape, w_ih: Shape, w_hh: Shape, *args: Any, **kwargs: Any) -> int:
    # Gradients of what a matrix multiplies, and of the matrix.
    return 2 * _products(x, (w_ih, w_hh))


def _cudnn_flops(x: Shape, weights: Sequence[Shape], *args: Any, **kwargs: Any) -> int:
    return _products(x, weights)


def _cudnn_backward_flops(x: Shape, weights: Sequence[Shape], *args: Any, **kwargs: Any) -> int:
    *_, of_weights = args[-1]
    return (1 + of_weights) * _products(x, weights)


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mkldnn_rnn_layer: _onednn_flops,
    torch.ops.aten.mkldnn_rnn_layer_backward: _onednn_backward_flops,
    torch.ops.aten._cudnn_rnn: _cudnn_flops,
    torch.ops.aten._cudnn_rnn_backward: _cudnn_backward_flops,
}


def count_operations() -> None:
    """Tell `torch.utils.flop_counter.FlopCounterMode` what these operators cost.

    It takes an operator that it does not know for free. One that it knows, as a later PyTorch's
    may, is left alone.
    """
    for operator, formula in FORMULAS.items():
        if operator not in flop_counter.flop_registry:
            flop_counter.register_flop_formula(operator)(formula)


count_operations()
