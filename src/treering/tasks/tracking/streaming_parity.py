"""Is the number of ones so far odd?"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws


class StreamingParity(GeneratedTask):
    """Answer at t = number of ones among the symbols 0..t modulo 2, of a uniform binary string.

    `parity_check` asked at every symbol: the word problem of the group with two elements. That it
    is asked at each prefix tells a model what its state has to be, which makes it easier to learn.

    >>> task = StreamingParity()
    >>> task.solve(task.encode("1010100"))
    tensor([[1, 1, 0, 0, 1, 1, 1]])
    """

    name = "streaming_parity"
    level = "group"
    symbols = "01"
    output_size = 2
    reads = "along"

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, 2, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.cumsum(1) % 2
