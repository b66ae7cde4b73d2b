"""The symbols in ascending order."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class BucketSort(GeneratedTask):
    """Output = the uniform input over 0..4, sorted.

    >>> task = BucketSort()
    >>> task.solve(task.encode("10204112"))
    tensor([[0, 0, 1, 1, 1, 2, 2, 4]])
    """

    name = "bucket_sort"
    level = "context-sensitive"
    symbols = "01234"
    output_size = 5

    def output_length(self, length: int) -> int:
        return length

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 5, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.sort(1).values
