"""Is the number of ones odd?"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class ParityCheck(GeneratedTask):
    """Class = number of ones modulo 2, of a uniform binary string of n symbols.

    >>> task = ParityCheck()
    >>> task.solve(task.encode("1010100"))  # three ones
    tensor([[1]])
    """

    name = "parity_check"
    level = "regular"
    symbols = "01"
    output_size = 2

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.sum(1, keepdim=True) % 2
