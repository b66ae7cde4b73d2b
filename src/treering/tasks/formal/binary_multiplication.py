"""The product of two binary numbers."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import binary
from treering.tasks.formal.terminator import terminate, up_to_terminator


class BinaryMultiplication(GeneratedTask):
    """Output = a * b without leading zeros, then 2, then zeros: n positions.

    All numbers have the lowest digit first. The input is a, `*` (symbol 2), b: the place of
    the `*` is uniform, then a and b are uniform over the numbers of their length from 1 up.
    Below n = 3 there is one number, uniform in 0..2^n - 2, and by the benchmark's convention
    the output is 2 (n = 1) or 0 2 (n = 2). Accuracy counts the positions up to the
    terminator 2.

    >>> task = BinaryMultiplication()
    >>> task.solve(task.encode("001*01101"))  # 4 * 22 = 88
    tensor([[0, 0, 0, 1, 1, 0, 1, 2, 0]])
    """

    name = "binary_multiplication"
    level = "context-sensitive"
    symbols = "01*"
    output_size = 3

    def output_length(self, length: int) -> int:
        return length

    def mask(self, targets: Tensor) -> Tensor:
        return up_to_terminator(targets)

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return binary.draw_pairs(batch, length, generator)

    def check(self, inputs: Tensor) -> None:
        self.refuse(
            binary.pair_problem(inputs),
            inputs,
            "not two numbers around one '*' (below length 3: one number); write e.g. '01*1'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        length = inputs.shape[1]
        if length < 3:
            nothing = torch.zeros_like(inputs)
            return terminate(nothing, torch.full_like(inputs[:, 0], length - 1))
        first, second = binary.split_pairs(inputs)
        # The product has at most length - 1 digits: the rest of the 2 * length are zeros.
        return binary.terminated(binary.product(first, second)[:, :length])
