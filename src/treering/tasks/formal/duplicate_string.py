"""The input twice."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class DuplicateString(GeneratedTask):
    """Output = w w, 2n positions, for a uniform binary input w of n symbols.

    >>> task = DuplicateString()
    >>> task.solve(task.encode("101"))
    tensor([[1, 0, 1, 1, 0, 1]])
    """

    name = "duplicate_string"
    level = "context-sensitive"
    symbols = "01"
    output_size = 2

    def output_length(self, length: int) -> int:
        return 2 * length

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return torch.cat((inputs, inputs), 1)
