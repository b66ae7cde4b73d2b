"""The blocks of the balanced bracket, level by level, for whoever wants to look at them.

Legend: B batch, T time, I input, H hidden, J blocks of a level.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell


def block_levels(
    cell: MergeCell, weights: Weights, x: Tensor, lengths: Tensor | None
) -> Iterator[tuple[State, Tensor]]:
    """Per level, the states of its blocks, fields (J, B, H), and which hold tokens only, (J, B).

    x: (T, B, I), finite everywhere; lengths: (B,). Level k has floor(T / 2^k) blocks.
    """
    T, B, _ = x.shape
    time = torch.arange(T, device=x.device).unsqueeze(1)
    valid = (time < (T if lengths is None else lengths.to(x.device))).expand(T, B)
    states = cell.leaf(weights, x)
    yield states, valid
    while len(valid) > 1:
        pairs = len(valid) // 2
        left = map_tensors(lambda f, n=2 * pairs: f[:n:2], states)
        right = map_tensors(lambda f, n=2 * pairs: f[1:n:2], states)
        states = cell.merge(weights, left, right)
        valid = valid[: 2 * pairs : 2] & valid[1 : 2 * pairs : 2]
        yield states, valid
