"""PyTorch's own whole-sequence LSTM, GRU and RNN operators (oneDNN on CPU, cuDNN on GPU).

One call runs the loop over time inside the operator. Numbers equal the reference up to rounding.

Legend: B batch, T time, I input, H hidden.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


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
