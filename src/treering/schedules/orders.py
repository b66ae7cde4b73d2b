"""Input orders: which token a layer reads first.

Legend: B batch, T time.
"""

from functools import lru_cache

import torch
from torch import Tensor


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
    """The tree order of each sequence by its own length, padding left in place: (T, B) int64."""
    columns = []
    for n in lengths.tolist():
        columns.append((*_tree_order(n), *range(n, total)))
    places = torch.tensor(columns, dtype=torch.int64, device=lengths.device)
    return places.view(len(columns), total).t()


def inverse(order: Tensor) -> Tensor:
    """The order (T, B) that undoes `order` (T, B)."""
    places = torch.arange(order.shape[0], device=order.device).unsqueeze(1).expand_as(order)
    return torch.empty_like(order).scatter_(0, order, places)
