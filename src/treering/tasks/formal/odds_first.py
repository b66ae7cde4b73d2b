"""The symbols at odd indices, then those at even indices."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class OddsFirst(GeneratedTask):
    """Output = symbols at indices 1, 3, 5, ..., then 0, 2, 4, ..., counting from 0.

    This is the published code's order. Its comment counts from 1 and would put s_1 first;
    every published score was measured on the code's order. The input is uniform binary.

    >>> task = OddsFirst()
    >>> task.solve(task.encode("00110101"))
    tensor([[0, 1, 1, 1, 0, 1, 0, 0]])
    """

    name = "odds_first"
    level = "context-sensitive"
    symbols = "01"
    output_size = 2

    def output_length(self, length: int) -> int:
        return length

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return torch.cat((inputs[:, 1::2], inputs[:, ::2]), 1)
