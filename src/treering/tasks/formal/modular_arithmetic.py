"""The value modulo 5 of an expression without brackets.

Dimensions: B rows of a batch, T input positions.
"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws

PLUS, MINUS, TIMES, BLANK = 5, 6, 7, 8


class ModularArithmetic(GeneratedTask):
    """Class = value modulo 5 of digit, operator, digit, ..., digit; `*` before `+` and `-`.

    Digits 0..4 and the operators `+`, `-`, `*` are uniform. An expression has odd length, so
    a requested even length n gives inputs of length n - 1. The blank `_` belongs to the
    alphabet and is never drawn; where it is given, it stands for 0 or for `+`.

    >>> task = ModularArithmetic()
    >>> task.solve(task.encode("1+2*3"))
    tensor([[2]])
    >>> task.solve(task.encode("0*1+4*3-2"))
    tensor([[0]])
    """

    name = "modular_arithmetic"
    level = "regular"
    symbols = "01234+-*_"
    output_size = 5

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        operators = (length - 1) // 2
        inputs = torch.empty(
            batch, 2 * operators + 1, dtype=torch.int64, device=draws.device(generator)
        )
        inputs[:, ::2] = draws.strings(batch, operators + 1, 5, generator)
        inputs[:, 1::2] = PLUS + draws.strings(batch, operators, 3, generator)
        return inputs

    def check(self, inputs: Tensor) -> None:
        position = torch.arange(inputs.shape[1], device=inputs.device)
        misplaced = torch.where(
            position % 2 == 0, (inputs >= PLUS) & (inputs != BLANK), inputs < PLUS
        )
        wrong = misplaced.any(1) | (inputs.shape[1] % 2 == 0)
        self.refuse(
            wrong, inputs, "not digit, operator, digit, ..., digit; alternate them, e.g. '1+2*3'"
        )

    def answer(self, inputs: Tensor) -> Tensor:
        digits = torch.where(inputs == BLANK, 0, inputs)[:, ::2].unbind(1)
        operators = inputs[:, 1::2]
        signs = torch.where(operators == MINUS, -1, 1).unbind(1)
        times = (operators == TIMES).unbind(1)
        total, term = torch.zeros_like(digits[0]), digits[0]
        for digit, sign, multiplies in zip(digits[1:], signs, times, strict=True):
            total = torch.where(multiplies, total, total + term)
            # The remainder at each step keeps the product of hundreds of digits in int64.
            term = torch.where(multiplies, term, sign) * digit % 5
        return ((total + term) % 5)[:, None]
