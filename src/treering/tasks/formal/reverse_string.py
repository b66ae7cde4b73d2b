"""The input backwards."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class ReverseString(GeneratedTask):
    """Output = the uniform binary input of n symbols in reverse order.

    >>> task = ReverseString()
    >>> task.solve(task.encode("1101"))
    tensor([[1, 0, 1, 1]])
    """

    name = "reverse_string"
    level = "deterministic context-free"
    symbols = "01"
    output_size = 2

    def output_length(self, length: int) -> int:
        return length

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.flip(1)
