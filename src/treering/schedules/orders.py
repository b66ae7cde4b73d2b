"""Input orders: which token a layer reads first.

Legend: B batch, T time.
"""

from functools import lru_cache

import torch
from torch import Tensor

LEVELS = 32
"""Levels that are searched when the number of tokens is not known: enough for 2^32 - 1."""


@lru_cache(maxsize=1024)
def _tree_order(n: int) -> tuple[int, ...]:
    order, level = [], [(0, n - 1)] if n else []
    while level:
        below = []
        for low, high in level:
            centre = (low + high) // 2
            order.append(centre)
            below += [(a, b) for a, b in ((low, centre - 1), (centre + 1, high)) if a <= b]
        level = below
    return tuple(order)


def tree_order(n: int) -> Tensor:
    """Centre first, then the centres of the halves, of the quarters, ...: LongTensor (n,).

    The level order of the balanced search tree over 0..n-1. Position k of the result is the
    index of the token read at step k. The centre of lo..hi is (lo + hi) // 2, the lower one of
    two: which of the two the paper takes is open, this is our reading.

    >>> tree_order(7).tolist()
    [3, 1, 5, 0, 2, 4, 6]

    Errors: ValueError for n < 0. Cost: O(n) once per n (remembered).
    Source: arXiv 2509.00087.
    """
    if n < 0:
        raise ValueError(f"tree_order needs a number of tokens of at least 0, got {n}")
    return torch.tensor(_tree_order(n), dtype=torch.int64)


def batch_order(lengths: Tensor, total: int) -> Tensor:
    """The tree order of each sequence by its own length, padding left in place: (T, B) int64.

    Every place is looked for in the tree, which gives its level; places are then sorted by level.
    """
    # The number of levels is not known while the number of tokens is only a name.
    levels = LEVELS if torch.compiler.is_compiling() else total.bit_length()
    place = torch.arange(total, device=lengths.device).unsqueeze(1)
    low = torch.zeros_like(place)
    high = lengths.to(torch.int64) - 1
    level = torch.zeros_like(low + high)
    for _ in range(levels):
        centre = (low + high) // 2
        low, high = (
            torch.where(place > centre, centre + 1, low),
            torch.where(place < centre, centre - 1, high),
        )
        level = level + (place != centre)
    level = torch.where(place < lengths, level, levels)
    return (level * total + place).argsort(dim=0)


def inverse(order: Tensor) -> Tensor:
    """The order (T, B) that undoes `order` (T, B)."""
    places = torch.arange(order.shape[0], device=order.device).unsqueeze(1).expand_as(order)
    return places.scatter(0, order, places)
