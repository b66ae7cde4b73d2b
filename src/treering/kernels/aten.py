"""PyTorch's own whole-sequence LSTM, GRU and RNN operators (oneDNN on CPU, cuDNN on GPU).

One call runs the loop over time inside the operator. Numbers equal the reference up to rounding.

Legend: B batch, T time, I input, H hidden.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def run(
    operator: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: Sequence[Tensor],
    parameters: Sequence[Tensor],
    lengths: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run `operator` (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), one layer.

    x: (T, B, I); state: h (B, H), for an LSTM also c; parameters: W_ih, W_hh and both biases or
    none; lengths: (B,). Returns outputs (T, B, H) and each sequence's last state.
    """
    hidden = [part.unsqueeze(0) for part in state]
    options = (len(parameters) == 4, 1, 0.0, False, False)
    if lengths is None:
        first = hidden if operator is torch.lstm else hidden[0]
        outputs, *last = operator(x, first, list(parameters), *options, False)
        return outputs, tuple(part.squeeze(0) for part in last)

    packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    sorted_hidden = [part.index_select(1, order) for part in hidden]
    first = sorted_hidden if operator is torch.lstm else sorted_hidden[0]
    data, *last = operator(packed.data, packed.batch_sizes, first, list(parameters), *options)
    rows = PackedSequence(data, packed.batch_sizes, order, back)
    outputs, _ = pad_packed_sequence(rows, total_length=x.shape[0])
    return outputs, tuple(part.squeeze(0).index_select(0, back) for part in last)
