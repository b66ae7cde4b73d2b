"""Where does a walk on a circle of five places end?"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class CycleNavigation(GeneratedTask):
    """Class = sum of (symbol - 1) modulo 5: symbols 0, 1, 2 step back, stay, step forward.

    The walk starts at place 0; the string is uniform.

    >>> task = CycleNavigation()
    >>> task.solve(task.encode("+-0--"))  # 1 - 1 + 0 - 1 - 1 = -2
    tensor([[3]])
    """

    name = "cycle_navigation"
    level = "regular"
    symbols = "-0+"
    output_size = 5

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 3, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return (inputs - 1).sum(1, keepdim=True) % 5
