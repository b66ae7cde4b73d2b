"""The one symbol left out of a string written twice."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws

MISSING, FILLER = 2, 3


class MissingDuplicateString(GeneratedTask):
    """Class = the symbol of w w that was replaced by 2; w is uniform binary, n // 2 long.

    The position is uniform over w w. An odd length ends with the filler 3. At length 1 there
    is no w: the input is always 1 and so is the class.

    >>> task = MissingDuplicateString()
    >>> task.solve(task.encode("01100210"))  # 0110 0_10
    tensor([[1]])
    >>> task.solve(task.encode("1011213"))  # 101 1_1 and the filler
    tensor([[0]])
    """

    name = "missing_duplicate_string"
    level = "context-sensitive"
    symbols = "0123"
    output_size = 2

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        half = length // 2
        if half == 0:
            return torch.ones(batch, 1, dtype=torch.int64, device=draws.device(generator))
        word = draws.strings(batch, half, 2, generator)
        place = draws.strings(batch, 1, 2 * half, generator)
        twice = torch.cat((word, word), 1).scatter(1, place, MISSING)
        return torch.nn.functional.pad(twice, (0, length % 2), value=FILLER)

    def check(self, inputs: Tensor) -> None:
        length = inputs.shape[1]
        half = length // 2
        if half == 0:
            self.refuse(inputs[:, 0] != 1, inputs, "the only input of length 1 is '1'")
            return
        first, second = inputs[:, :half], inputs[:, half : 2 * half]
        agree = (first == second) | (first == MISSING) | (second == MISSING)
        wrong = (
            ~agree.all(1)
            | ((inputs == MISSING).sum(1) != 1)
            | (inputs[:, : 2 * half] == FILLER).any(1)
            | ((inputs[:, -1] == FILLER) != (length % 2 == 1))
        )
        self.refuse(
            wrong,
            inputs,
            "not a binary string twice with exactly one symbol replaced by 2 (and a final 3 "
            "if the length is odd); write e.g. '0120' or '01203'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        half = inputs.shape[1] // 2
        if half == 0:
            return inputs
        # Exactly one of the two copies holds the 2, so the smaller symbol at each place is w.
        first, second = inputs[:, :half], inputs[:, half : 2 * half]
        place = (inputs == MISSING).long().argmax(1, keepdim=True) % half
        return torch.minimum(first, second).gather(1, place)
