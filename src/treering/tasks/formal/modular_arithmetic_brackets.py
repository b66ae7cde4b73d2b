"""The value modulo 5 of a fully bracketed expression."""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import brackets


class ModularArithmeticBrackets(GeneratedTask):
    """Class = value modulo 5 of an expression over digits, `+`, `-`, `*` and brackets.

    Expressions by length n: d, -d, (d), (-d), and from n = 5 on (L op R) with the length of
    L uniform in 1..n-4. The eleventh symbol of the benchmark's alphabet, `x`, never occurs.

    >>> task = ModularArithmeticBrackets()
    >>> task.solve(task.encode("((2*-3)-(4))"))  # -10
    tensor([[0]])
    """

    name = "modular_arithmetic_brackets"
    level = "deterministic context-free"
    symbols = "01234+-*()x"
    output_size = 5

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return brackets.draw_expressions(batch, length, 3, generator)

    def check(self, inputs: Tensor) -> None:
        unknown = inputs > brackets.CLOSE
        wrong = unknown.any(1) | brackets.malformed(inputs.clamp_max(brackets.CLOSE))
        self.refuse(
            wrong,
            inputs,
            "not an expression with its own pair of brackets around each operator; write "
            "e.g. '(1+(2*-3))'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        return brackets.evaluate(inputs)[:, None]
