"""The unknown digit of an equation modulo 5.

Dimensions: B rows of a batch, T input positions.
"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import brackets, draws

UNKNOWN, EQUALS = 9, 10


class SolveEquation(GeneratedTask):
    """Class = the digit x for which the equation `expression = value` holds modulo 5.

    The expression has n - 2 symbols and the grammar of `modular_arithmetic_brackets` with
    `+` and `-` only, so x has the coefficient 1 or -1 and one solution. A uniform position
    is drawn and the first digit from there on, around the end, becomes x: digits after a
    long run of other symbols are chosen more often. Below n = 3 there is no equation: the
    input is all zeros and the class is 0.

    >>> task = SolveEquation()
    >>> task.solve(task.encode("(1-x)=3"))
    tensor([[3]])
    """

    name = "solve_equation"
    level = "deterministic context-free"
    symbols = "01234+-()x="
    output_size = 5

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        device = draws.device(generator)
        if length < 3:
            return torch.zeros(batch, length, dtype=torch.int64, device=device)
        size = length - 2
        expressions = brackets.draw_expressions(batch, size, 2, generator)
        value = brackets.evaluate(expressions)[:, None]
        chosen = draws.strings(batch, 1, size, generator)
        distance = (torch.arange(size, device=device) - chosen) % size
        distance = torch.where(expressions < brackets.PLUS, distance, size)
        equation = _from_bracket_symbols(device)[expressions]
        equation.scatter_(1, distance.argmin(1, keepdim=True), UNKNOWN)
        return torch.cat((equation, torch.full_like(value, EQUALS), value), 1)

    def check(self, inputs: Tensor) -> None:
        if inputs.shape[1] < 3:
            self.refuse(
                inputs.any(1), inputs, "below length 3 there is no equation; write '0' or '00'"
            )
            return
        wrong = (
            ((inputs == EQUALS).sum(1) != 1)
            | (inputs[:, -2] != EQUALS)
            | (inputs[:, -1] >= brackets.PLUS)
            | ((inputs == UNKNOWN).sum(1) != 1)
            | brackets.malformed(_with_unknown(inputs, 0))
        )
        self.refuse(
            wrong,
            inputs,
            "not a bracketed expression with one x, then '=' and a digit; write e.g. '(1-x)=3'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        if inputs.shape[1] < 3:
            return torch.zeros_like(inputs[:, :1])
        both = torch.cat((_with_unknown(inputs, 0), _with_unknown(inputs, 1)))
        at_0, at_1 = brackets.evaluate(both).chunk(2)
        # The coefficient of x is 1 or -1 (4 modulo 5), each its own inverse.
        coefficient = at_1 - at_0
        return (coefficient * (inputs[:, -1] - at_0) % 5)[:, None]


def _from_bracket_symbols(device: torch.device) -> Tensor:
    # TIMES is never drawn; its entry only keeps the numbering.
    return torch.tensor([0, 1, 2, 3, 4, 5, 6, 6, 7, 8], device=device)


def _with_unknown(inputs: Tensor, digit: int) -> Tensor:
    """The left side (B, T-2) in the symbols of `brackets`, with the digit in place of x."""
    # A second '=' is refused by its own test; here any symbol will do for it.
    symbols = [0, 1, 2, 3, 4, brackets.PLUS, brackets.MINUS, brackets.OPEN, brackets.CLOSE, digit]
    return torch.tensor([*symbols, 0], device=inputs.device)[inputs[:, :-2]]
