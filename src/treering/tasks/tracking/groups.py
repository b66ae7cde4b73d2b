"""Finite groups of permutations as tables.

Dimensions: E elements.
"""

from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Group:
    """The symmetric group of `points` points, or its even half, the alternating group.

    Element number e is the e-th permutation in lexicographic order of its one-line notation
    (a(0), a(1), ...), so that element 0 is the identity. The product a b does a first and b after
    it: (a b)(i) = b(a(i)).

    >>> Group(3).elements
    ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    >>> int(Group(3).products()[1, 2])  # 0 1 2 -> 0 2 1, then 0 <-> 1: 1 2 0
    3
    """

    points: int
    even: bool = False

    @property
    def elements(self) -> tuple[tuple[int, ...], ...]:
        """The permutations, in the order of their numbers."""
        every = permutations(range(self.points))
        return tuple(one for one in every if not self.even or _is_even(one))

    @property
    def names(self) -> tuple[str, ...]:
        """Their one-line notations: 01234, 01243, ..."""
        return tuple("".join(map(str, element)) for element in self.elements)

    def products(self) -> Tensor:
        """(E, E) int64: the number of a b for the numbers of a and b."""
        elements = torch.tensor(self.elements)
        digits = self.points ** torch.arange(self.points - 1, -1, -1)
        number = torch.full((self.points**self.points,), -1)
        number[(elements * digits).sum(1)] = torch.arange(len(elements))
        # Row a, column b: b at the places a(0), a(1), ...
        both = elements[:, elements].transpose(0, 1)
        return number[(both * digits).sum(-1)]


def _is_even(permutation: tuple[int, ...]) -> bool:
    return sum(left > right for left, right in combinations(permutation, 2)) % 2 == 0
