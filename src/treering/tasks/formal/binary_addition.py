"""The sum of two binary numbers."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import binary
from treering.tasks.formal.terminator import up_to_terminator


class BinaryAddition(GeneratedTask):
    """Output = a + b without leading zeros, then 2, then zeros: n + 1 positions.

    All numbers have the lowest digit first. The input is a, `+` (symbol 2), b: the place of
    the `+` is uniform, then a and b are uniform over the numbers of their length from 1 up.
    Below n = 3 there is one number, uniform in 0..2^n - 2, and the sum is itself. Accuracy
    counts the positions up to the terminator 2.

    >>> task = BinaryAddition()
    >>> task.solve(task.encode("001+01101"))  # 4 + 22 = 26
    tensor([[0, 1, 0, 1, 1, 2, 0, 0, 0, 0]])
    """

    name = "binary_addition"
    level = "context-sensitive"
    symbols = "01+"
    output_size = 3

    def output_length(self, length: int) -> int:
        return length + 1

    def mask(self, targets: Tensor) -> Tensor:
        return up_to_terminator(targets)

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return binary.draw_pairs(batch, length, generator)

    def check(self, inputs: Tensor) -> None:
        self.refuse(
            binary.pair_problem(inputs),
            inputs,
            "not two numbers around one '+' (below length 3: one number); write e.g. '01+1'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        if inputs.shape[1] < 3:
            total = inputs
        else:
            first, second = binary.split_pairs(inputs)
            total = binary.carried(first + second)
        return binary.terminated(torch.nn.functional.pad(total, (0, 1)))
