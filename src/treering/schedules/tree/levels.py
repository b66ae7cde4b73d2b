"""The blocks of the balanced bracket, level by level, for whoever wants to look at them.

Legend: B batch, T time, I input, H hidden, J blocks of a level.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell


class Level(NamedTuple):
    """The neighbouring blocks of one size, in a row."""

    states: State
    """Fields (J, B, H)."""
    pairs: State
    """Every two neighbours merged, fields (J - 1, B, H): blocks 0 and 1, 1 and 2, ..."""
    whole: Tensor
    """(J, B) bool: blocks made of tokens only."""


def block_levels(
    cell: MergeCell, weights: Weights, x: Tensor, lengths: Tensor | None
) -> Iterator[Level]:
    """The levels of two blocks and more, from the tokens up.

    x: (T, B, I), finite everywhere; lengths: (B,). Level k has floor(T / 2^k) blocks.
    """
    T, B, _ = x.shape
    time = torch.arange(T, device=x.device).unsqueeze(1)
    whole = (time < (T if lengths is None else lengths.to(x.device))).expand(T, B)
    states = cell.leaf(weights, x)
    while len(whole) > 1:
        left, right = (
            map_tensors(lambda f, s=s: f[s], states) for s in (slice(-1), slice(1, None))
        )
        pairs = cell.merge(weights, left, right)
        yield Level(states, pairs, whole)
        # Of the pairs, every other one is a block of the level above.
        states = map_tensors(lambda f: f[::2], pairs)
        whole = whole[:-1:2] & whole[1::2]
