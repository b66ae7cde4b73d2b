"""Tape-RNN: an RNN beside a ring of memory that it writes on and turns.

Legend: B batch, T time, I input, H hidden, S cells of the tape, D size of a cell, N input length.
"""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from treering.models.baselines.abstract import check_sizes, initialise
from treering.models.baselines.memory_rnn import MemoryRNN

MOVES = 5
WRITER = 64
"""Width of the two layers between h and what is written."""


@final
class TapeRNN(MemoryRNN):
    """An RNN with a differentiable tape: each step writes at the head and moves it, in shares.

        h_t = relu(W_x x_t + W_h h_{t-1} + W_m m_{t-1}[0] + b)
        w = m_{t-1}, its cell 0 replaced by V_3 relu(V_2 relu(V_1 h_t))   (each V with a bias)
        a = softmax(A h_t + b_a)
        m_t[k] = a_0 w[k] + a_1 w[k+1] + a_2 w[k-1] + a_3 w[k+N] + a_4 w[k-N]

    The head stands at cell 0; the tape is a ring of `tape_size` cells, indices modulo that, and
    begins with zeros. N is the length of the input, without the empty tokens behind it: the head
    may jump over all that was written. The parameters do not depend on `tape_size`.

    Cost: about H*(I + H + D) + 64*(H + 64 + D) multiply-adds and 5*S*D more a token, one step at a
    time.
    When not to use it: for speed; its tape is a loop over time in Python.
    Source: the benchmark of Deletang et al. (ICLR 2023), after Suzgun et al., arXiv 1911.03329:
    relu, writer of two layers of 64, 30 cells, all five moves. Cells of 8 are those of its example.
    A length of its own for each sequence of a batch is our addition.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, tape_size: int = 30, cell_size: int = 8
    ) -> None:
        check_sizes(tape_size=tape_size)
        super().__init__(input_size, hidden_size, tape_size, cell_size)
        self.moves = nn.Linear(hidden_size, MOVES)
        widths = (hidden_size, WRITER, WRITER, cell_size)
        first, second, third = (nn.Linear(*pair) for pair in pairwise(widths))
        self.writer = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        for linear in (self.moves, first, second, third):
            initialise(linear.weight, linear.bias, linear.in_features)

    def changed(self, memory: Tensor, h: Tensor, jump: int | Tensor) -> Tensor:
        S = self.cells
        shares = torch.softmax(self.moves(h), 1).unsqueeze(-1).unsqueeze(-1).unbind(1)
        written = self.writer(h).unsqueeze(1)
        # Twice around, so that every turned tape is a stretch of it.
        ring = torch.cat((written, memory[:, 1:], written, memory[:, 1:]), 1)
        moved = shares[0] * ring[:, :S]
        for share, turn in zip(shares[1:], (1, -1, jump, -jump), strict=True):
            moved = torch.addcmul(moved, share, _turned(ring, turn, S))
        return moved


def _turned(ring: Tensor, turn: int | Tensor, S: int) -> Tensor:
    """Cells `turn` to `turn + S` of the ring (B, 2S, D); turn may be (B,), one a sequence."""
    start = turn % S
    if isinstance(start, int):
        return ring[:, start : start + S]
    index = start.unsqueeze(1) + torch.arange(S, device=ring.device)
    return ring.gather(1, index.unsqueeze(-1).expand(-1, -1, ring.shape[-1]))
