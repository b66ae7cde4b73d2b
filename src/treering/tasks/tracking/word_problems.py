"""The running product of group elements.

Dimensions: B rows of a batch, T positions, E elements of the group.
"""

from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws
from treering.tasks.tracking.groups import Group


class WordProblem(GeneratedTask):
    """Answer at t = the product x_0 x_1 ... x_t of uniform group elements, as an element.

    The products are read from the left, x_0 is done first (`Group`), and numbered like the inputs:
    0 is the identity. Inputs are uniform, and so is the answer at every position. Tracking the
    state takes one lookup a symbol for a recurrence that holds E states.

    Source: Merrill, Petty, Sabharwal 2024; every element is an input symbol, as there. Which
    factor of a product is done first is our reading; the other way round is the same problem with
    every element inverted.
    """

    level = "group"
    reads = "along"
    group: ClassVar[Group]

    @cached_property
    def _products(self) -> Tensor:
        return self.group.products()

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return draws.strings(batch, length, self.input_size, generator)

    def answer(self, inputs: Tensor) -> Tensor:
        products = self._products.to(inputs.device)
        running, done = inputs, 1
        # The product of the last `done` elements at every place, doubled until it is of all.
        while done < inputs.shape[1]:
            longer = products[running[:, :-done], running[:, done:]]
            running = torch.cat((running[:, :done], longer), 1)
            done *= 2
        return running


class WordProblemS3(WordProblem):
    """The running product in S3, all 6 permutations of three things: a group that is solvable.

    Constant-depth circuits with modular counting suffice, as they do for parity.

    >>> task = WordProblemS3()
    >>> task.solve(task.encode("021 102 102"))  # 021, 021 then 102 = 120, back to 021
    tensor([[1, 3, 1]])
    """

    name = "word_problem_s3"
    group = Group(3)
    symbols = group.names
    output_size = 6


class WordProblemS5(WordProblem):
    """The running product in S5, all 120 permutations of five things: complete for NC1.

    Models whose depth does not grow with the length, linear recurrences with diagonal matrices
    among them, cannot solve it for every length unless TC0 = NC1.

    >>> task = WordProblemS5()
    >>> task.solve(task.encode("12340 12340 12340 12340 12340"))  # a cycle of five
    tensor([[33, 64, 90, 96,  0]])
    """

    name = "word_problem_s5"
    group = Group(5)
    symbols = group.names
    output_size = 120


class WordProblemA5(WordProblem):
    """The running product in A5, the 60 even permutations of five things.

    The smallest group that is not solvable, and as hard as S5.

    >>> task = WordProblemA5()
    >>> task.solve(task.encode("12034 12034 12034"))  # a cycle of three
    tensor([[15, 24,  0]])
    """

    name = "word_problem_a5"
    group = Group(5, even=True)
    symbols = group.names
    output_size = 60
