"""A plain RNN with an external memory, of which it reads one vector a step.

Legend: B batch, T time, I input, H hidden, S cells of the memory, D size of a cell.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from treering._errors import ShapeError
from treering.models.baselines.abstract import Baseline, check_sizes, initialise, past_end


class MemoryState(NamedTuple):
    """State behind a token: h (B, H) and the memory (B, S, D), whose cell 0 is read next."""

    h: Tensor
    memory: Tensor


class MemoryRNN(Baseline):
    """`h_t = relu(W_x x_t + W_h h_{t-1} + W_m memory_{t-1}[0] + b)`; h_t then changes the memory.

    The output at t is h_t. A loop over time of few operations a step: what x has to say is
    computed for all T at once.
    """

    def __init__(self, input_size: int, hidden_size: int, cells: int, cell_size: int) -> None:
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, cell_size=cell_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.cells = cells
        self.cell_size = cell_size
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size + cell_size, hidden_size, bias=False)
        initialise(self.input.weight, self.input.bias, input_size + cell_size)
        # In the benchmark what is read comes in with x, and h through a matrix of its own.
        initialise(self.recurrent.weight[:, :hidden_size], None, hidden_size)
        initialise(self.recurrent.weight[:, hidden_size:], None, input_size + cell_size)

    @abstractmethod
    def changed(self, memory: Tensor, h: Tensor, jump: int | Tensor) -> Tensor:
        """The memory (B, S, D) after a step that led to h (B, H).

        jump: the length of the input, one for all sequences or (B,).
        """

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        *,
        input_length: int | None = None,
    ) -> tuple[Tensor, MemoryState]:
        x, lengths = self._checked(x, lengths)
        outputs, last = self._run(x, state, lengths, input_length)
        y = torch.stack(outputs, 1)
        if lengths is not None:
            y = y.masked_fill(past_end(x.shape[1], lengths).unsqueeze(-1), 0)
        return y, last

    def reduce(
        self, x: Tensor, lengths: Tensor | None = None, *, input_length: int | None = None
    ) -> Tensor:
        x, lengths = self._checked(x, lengths)
        return self._run(x, None, lengths, input_length)[1].h

    def _run(
        self, x: Tensor, state: Any, lengths: Tensor | None, input_length: int | None
    ) -> tuple[list[Tensor], MemoryState]:
        """h after every token, and each sequence's state after its own last one."""
        T = x.shape[1]
        h, memory = self._first(state, x)
        jump = input_length if input_length is not None else T if lengths is None else lengths
        weight = self.recurrent.weight.t()
        outputs = []
        for t, given in enumerate(self.input(x).unbind(1)):
            after = torch.relu(torch.addmm(given, torch.cat((h, memory[:, 0]), 1), weight))
            moved = self.changed(memory, after, jump)
            if lengths is not None:
                live = (lengths > t).unsqueeze(1)
                after = torch.where(live, after, h)
                moved = torch.where(live.unsqueeze(1), moved, memory)
            h, memory = after, moved
            outputs.append(h)
        return outputs, MemoryState(h, memory)

    def _first(self, state: Any, x: Tensor) -> MemoryState:
        B = x.shape[0]
        shapes = ((B, self.hidden_size), (B, self.cells, self.cell_size))
        if state is None:
            return MemoryState(*(x.new_zeros(shape) for shape in shapes))
        found = [tuple(part.shape) for part in state]
        if found != list(shapes):
            raise ShapeError(
                f"the state must be h {shapes[0]} and memory {shapes[1]}, got"
                f" {', '.join(map(str, found))}"
            )
        return MemoryState(*state)
