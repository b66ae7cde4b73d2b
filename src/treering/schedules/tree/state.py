"""What a tree carries from one call to the next, and how ragged batches are cut into segments.

Legend: B batch, T time, H hidden, K levels (or stack slots) carried, S segments, N tokens in all.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from treering._errors import UserError
from treering._types import State, map_tensors

ROOM = 32
"""Slots of a traced tree's state, whose shapes may not depend on the number of tokens."""


class TreeState(NamedTuple):
    """State of a MergeCell under a tree; enough to go on as if the sequence had never been cut.

    After n tokens the sequence is covered by finished blocks, which later tokens can only be
    merged behind. O(log n) memory for the balanced bracket.

    blocks: the cell's state of each finished block, fields (B, K, H). Balanced: slot k holds the
        block of 2^k tokens if bit k of n is set, else zeros. Other brackets: last block first.
    folds: fields (B, K, H). Balanced: slot k is the left fold of all blocks of 2^k tokens or
        more. Other brackets: the fold of this block and all before it. Slot 0 is the whole
        sequence's state.
    length: n, the number of tokens read since the start or the last reset, (B,) int64.

    In a layer's state every tensor has a further first axis, layers times directions.
    """

    blocks: Any
    folds: Any
    length: Tensor

    @property
    def last(self) -> Any:
        """The cell's state of the whole sequence, fields (B, H), (L*D, B, H) in a layer's state."""
        return map_tensors(lambda field: field.select(-2, 0), self.folds)


class Segments(NamedTuple):
    """The stretches between resets of a ragged batch, one after the other without padding.

    start: tokens that precede the segment's first one in its own sequence, (S,).
    size: its tokens, (S,).
    tokens: for each token, segment by segment, its place b*T + t in the padded batch, (N,).
    origin: the batch row whose carried state the segment continues; B where it starts fresh, (S,).
    final: the last segment of each batch row, (B,).
    """

    start: Tensor
    size: Tensor
    tokens: Tensor
    origin: Tensor
    final: Tensor


def segments(
    T: int, B: int, lengths: Tensor | None, reset: Tensor | None, count: Tensor | None, device: Any
) -> Segments:
    """Cut a padded batch into segments; lengths (B,), reset (T, B), count (B,)."""
    time = torch.arange(T, device=device).expand(B, T)
    valid = time < (T if lengths is None else lengths.unsqueeze(1))
    anew = torch.zeros_like(valid) if reset is None else reset.t()
    tokens = valid.flatten().nonzero().squeeze(1)
    begins = ((time == 0) | anew).flatten()[tokens]
    size = torch.bincount(begins.cumsum(0) - 1)
    first = tokens[begins]
    row = first // T
    continues = (first % T == 0) & ~anew.flatten()[first]
    start = torch.zeros_like(row) if count is None else count[row].masked_fill(~continues, 0)
    origin = torch.where(continues, row, B)
    final = torch.bincount(row, minlength=B).cumsum(0) - 1
    return Segments(start, size, tokens, origin, final)


def carried_rows(state: State, origin: Tensor) -> list[State]:
    """Per slot, each segment's carried state: fields (B, K, H) -> K states of fields (S, H)."""

    def rows(field: Tensor) -> Tensor:
        return torch.cat((field, field.new_zeros(1, *field.shape[1:]))).index_select(0, origin)

    return unstack(map_tensors(rows, state), 1)


def unstack(state: State, dim: int) -> list[State]:
    """One state per slot of axis `dim`."""
    fields = [
        unstack(field, dim) if isinstance(field, tuple) else field.unbind(dim) for field in state
    ]
    return [type(state)(*parts) for parts in zip(*fields, strict=True)]


def stack(states: list[State], dim: int) -> State:
    """The inverse of `unstack`."""
    return map_tensors(lambda *parts: torch.stack(parts, dim), *states)


def count_after(
    T: int, B: int, lengths: Tensor | None, reset: Tensor | None, count: Tensor | None, device: Any
) -> Tensor:
    """Tokens each sequence has read since its start or its last reset, (B,) int64."""
    size = torch.full((B,), T, device=device) if lengths is None else lengths
    before = torch.zeros_like(size) if count is None else count
    if reset is None:
        return before + size
    time = torch.arange(T, device=device).unsqueeze(1)
    last = torch.where(reset & (time < size), time, -1).amax(0)
    return torch.where(last >= 0, size - last, before + size)


def with_room(state: TreeState, slots: int) -> TreeState:
    """The state with `slots` slots, the further ones empty, so that its shape tells no length."""
    missing = slots - cast(Tensor, state.folds[0]).shape[1]
    if missing < 0:
        raise UserError(
            f"a tree under torch.compile or torch.export carries {slots} blocks, and this state"
            f" has {slots - missing}; run it without, or start anew"
        )

    def widened(field: Tensor) -> Tensor:
        return F.pad(field, (0, 0, 0, missing))

    blocks, folds = (map_tensors(widened, held) for held in (state.blocks, state.folds))
    return TreeState(blocks, folds, state.length)
