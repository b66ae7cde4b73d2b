"""Stack-RNN: an RNN beside a stack that it pushes on and pops from, in probability.

Legend: B batch, T time, H hidden, S cells of the stack, D size of a cell.
"""

from typing import final

import torch
from torch import Tensor, nn

from treering.models.baselines.abstract import check_sizes, initialise
from treering.models.baselines.memory_rnn import MemoryRNN


@final
class StackRNN(MemoryRNN):
    """An RNN with a differentiable stack: each step pushes, pops and does nothing, in shares.

        h_t = relu(W_x x_t + W_h h_{t-1} + W_m s_{t-1}[0] + b)
        push, pop, keep = softmax(A h_t + b_a);  v = V h_t + b_v
        s_t[0] = push * v + pop * s_{t-1}[1] + keep * s_{t-1}[0]
        s_t[k] = push * s_{t-1}[k-1] + pop * s_{t-1}[k+1] + keep * s_{t-1}[k]

    The stack begins empty, zeros; below its bottom are zeros, and what is pushed down past
    `stack_size` cells is lost: for inputs that must be remembered whole, as many cells as tokens.
    The parameters do not depend on it.

    Cost: about H*(I + H + 2D) multiply-adds and 3*S*D more a token, one step at a time.
    When not to use it: for speed; its stack is a loop over time in Python.
    Source: Joulin and Mikolov, arXiv 1503.01007, as the benchmark of Deletang et al. (ICLR 2023)
    has it: relu, a linear push value, 30 cells. Cells of 8 are those of its example. It has two
    biases in the recurrence, which are one function.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, stack_size: int = 30, cell_size: int = 8
    ) -> None:
        check_sizes(stack_size=stack_size)
        super().__init__(input_size, hidden_size, stack_size, cell_size)
        self.readout = nn.Linear(hidden_size, 3 + cell_size)
        initialise(self.readout.weight, self.readout.bias, hidden_size)

    def changed(self, memory: Tensor, h: Tensor, jump: int | Tensor) -> Tensor:
        del jump
        logits, value = self.readout(h).split((3, self.cell_size), 1)
        push, pop, keep = torch.softmax(logits, 1).unsqueeze(-1).unsqueeze(-1).unbind(1)
        below = memory.new_zeros(len(memory), 1, self.cell_size)
        row = torch.cat((value.unsqueeze(1), memory, below), 1)
        moved = torch.addcmul(push * row[:, :-2], pop, row[:, 2:])
        return torch.addcmul(moved, keep, memory)
