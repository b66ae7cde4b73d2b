"""The integer square root of a binary number."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import binary, draws


class ComputeSqrt(GeneratedTask):
    """Output = floor of the square root in ceil(n / 2) digits, highest digit first.

    The input is a number of n digits, highest first, uniform in 1..2^n - 1.

    >>> task = ComputeSqrt()
    >>> task.solve(task.encode("100101"))  # 37
    tensor([[1, 1, 0]])
    """

    name = "compute_sqrt"
    level = "context-sensitive"
    symbols = "01"
    output_size = 2

    def output_length(self, length: int) -> int:
        return (length + 1) // 2

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        digits = draws.strings(batch, length, 2, generator)
        binary.redraw_zeros(digits, torch.ones_like(digits, dtype=torch.bool), generator)
        return digits

    def answer(self, inputs: Tensor) -> Tensor:
        return binary.root_big_endian(inputs)
