"""Is the number of 01s and 10s together odd?"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class EvenPairs(GeneratedTask):
    """Class = (number of 01 + number of 10) modulo 2, of a uniform binary string.

    Every 01 or 10 changes the current symbol, so the class is also whether the first and the
    last symbol differ: that is how it is computed here. A string of one symbol is class 0.

    >>> task = EvenPairs()
    >>> task.solve(task.encode("0101001"))  # three 01 and two 10
    tensor([[1]])
    """

    name = "even_pairs"
    level = "regular"
    symbols = "01"
    output_size = 2

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs[:, :1] ^ inputs[:, -1:]
