"""The balanced bracket, level by level over the whole batch.

After n tokens the sequence is split from the left into blocks whose sizes are the powers of two
of n, largest first; each block is a perfect tree of merges; blocks are folded from left to right.
Block j of level k spans tokens [j 2^k, (j+1) 2^k), wherever the call started, so a call that
carries a state on finds the missing left operands among the carried blocks.

Going up, level k+1 is made of neighbouring pairs of level k. Going down, the state after
n = q 2^k tokens (q odd) is the state after (q-1) 2^k tokens merged with the block that ends at n;
the former is known from level k+1 or carried. Both are the same row arithmetic for one uniform
batch, whose rows are whole (B, H) slabs, and for a ragged one, whose rows are single vectors.

Legend: B batch, T time, H hidden, K levels, S segments; n0 and n1: tokens before and after the
call; m new blocks of a level.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell
from treering.schedules.abstract import Wanted
from treering.schedules.states import choose
from treering.schedules.tree.remembered import remembered
from treering.schedules.tree.state import Segments

Rows = slice | Tensor
"""Rows of a level: a slice of slabs (uniform batch) or a LongTensor of vectors (ragged batch)."""


class Level(NamedTuple):
    """Which rows of level k go where. `pool` and `prefix` start with the carried rows, if any.

    left, right: rows of the pool whose merges are the new blocks of level k+1.
    fold_left, fold_right: rows of the prefix of level k+1, and of this level's new blocks, whose
        merges are states after an odd number of blocks; `alone`: new blocks that are such a state
        by themselves, with nothing on their left.
    arrange: puts [prefix of level k+1; merged; alone] into the order of this level's new blocks.
    final: row, in pool and prefix, of the last block and state of each sequence.
    has_block, has_fold: whether such a block is part of the final state, whether there is one.
    kept: whether the final fold is the carried one, unchanged.
    """

    left: Rows
    right: Rows
    fold_left: Rows
    fold_right: Rows
    alone: Rows
    arrange: Tensor
    final: Rows
    has_block: bool | Tensor
    has_fold: bool | Tensor
    kept: bool | Tensor


class Carried(NamedTuple):
    """Carried blocks and folds per level, rows first, padded with zeros to the levels needed."""

    blocks: list[State]
    folds: list[State]


class Sweep(NamedTuple):
    """Result: outputs' states by token row or of the last token, and what is carried on."""

    rows: State
    blocks: list[State]
    folds: list[State]


@remembered(512)
def uniform_plan(n0: int, size: int, carried: bool, device: torch.device) -> tuple[Level, ...]:
    """The plan of a batch whose sequences all go from n0 to n0 + size tokens."""
    n1, c = n0 + size, int(carried)
    levels = []
    for k in range(n1.bit_length()):
        q0, q1 = n0 >> k, n1 >> k
        m, m_above = q1 - q0, (q1 >> 1) - (q0 >> 1)
        pair = c - (q0 & 1)
        merged = [q for q in range(q0 + 1 + (q0 & 1), q1 + 1, 2) if q > 1]
        rows_above = c + m_above if q1 > 1 else 0
        order = []
        for q in range(q0 + 1, q1 + 1):
            if q == 1:
                order.append(rows_above + len(merged))
            elif q % 2:
                order.append(rows_above + (q - merged[0]) // 2)
            else:
                order.append(c + (q >> 1) - (q0 >> 1) - 1)
        start = c + ((merged[0] - 1) >> 1) - (q0 >> 1) - 1 if merged else 0
        first = merged[0] - q0 - 1 if merged else m
        levels.append(
            Level(
                left=slice(pair, pair + 2 * m_above, 2),
                right=slice(pair + 1, pair + 1 + 2 * m_above, 2),
                fold_left=slice(start, start + len(merged)),
                fold_right=slice(first, m, 2),
                alone=slice(0, int(q0 == 0 and q1 >= 1)),
                arrange=torch.tensor(order, dtype=torch.int64, device=device),
                final=slice(c + m - 1, c + m),
                has_block=bool(q1 & 1),
                has_fold=True,
                kept=q0 == q1,
            )
        )
    return tuple(levels)


def ragged_plan(parts: Segments, carried: bool) -> tuple[Level, ...]:
    """The plan of segments that start and end each at its own count."""
    n0, n1 = parts.start, parts.start + parts.size
    c = len(n0) if carried else 0
    segment = torch.arange(len(n0), device=n0.device)

    def new_blocks(k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Row offset of each segment's new blocks; for each new block its segment and its q."""
        m = (n1 >> k) - (n0 >> k)
        offset = m.cumsum(0) - m
        of = segment.repeat_interleave(m)
        q = torch.arange(len(of), device=n0.device) - offset[of] + (n0 >> k)[of] + 1
        return offset, of, q

    def row(offset: Tensor, k: int, of: Tensor, q: Tensor) -> Tensor:
        """Row, in a level's pool or prefix, of what ends after q blocks of segment `of`.

        Local 0 is the carried row; without one nothing asks for it, and 0 stands in.
        """
        local = q - (n0 >> k)[of]
        return torch.where(local == 0, of if carried else 0, c + offset[of] + local - 1)

    levels = []
    here = new_blocks(0)
    top = int(n1.max()).bit_length() - 1
    for k in range(top + 1):
        above = new_blocks(k + 1)
        offset, of, q = here
        right = row(offset, k, above[1], 2 * above[2])
        left = row(offset, k, above[1], 2 * above[2] - 1)
        odd = (q & 1 == 1) & (q > 1)
        merged, alone = odd.nonzero().squeeze(1), (q == 1).nonzero().squeeze(1)
        before = row(above[0], k + 1, of, q >> 1)
        rows_above = c + len(above[1]) if k < top else 0
        arrange = torch.where(q & 1 == 0, before, 0)
        arrange[merged] = rows_above + torch.arange(len(merged), device=n0.device)
        arrange[alone] = rows_above + len(merged) + torch.arange(len(alone), device=n0.device)
        ends = n1[parts.final] >> k
        levels.append(
            Level(
                left=left,
                right=right,
                fold_left=before[merged],
                fold_right=merged,
                alone=alone,
                arrange=arrange,
                final=row(offset, k, parts.final, ends),
                has_block=ends & 1 == 1,
                has_fold=ends > 0,
                kept=ends == (n0[parts.final] >> k) if carried else False,
            )
        )
        here = above
    return tuple(levels)


def take(state: State, rows: Rows) -> State:
    """Rows of a state's fields along their first axis."""
    if isinstance(rows, slice):
        return map_tensors(lambda field: field[rows], state)
    # F.embedding is index_select with a gradient that is not added row by row on one core.
    return map_tensors(lambda field: F.embedding(rows, field), state)


def join(*states: State) -> State:
    """Concatenate along rows, leaving out what is empty."""
    filled = [state for state in states if len(first_field(state))] or [states[0]]
    return filled[0] if len(filled) == 1 else map_tensors(lambda *f: torch.cat(f), *filled)


def first_field(state: State) -> Tensor:
    return cast(Tensor, state[0])


def ascend(
    cell: MergeCell,
    weights: Weights,
    leaves: State,
    plan: tuple[Level, ...],
    carried: Carried | None,
) -> tuple[list[State], list[State]]:
    """New blocks of every level, and every level's pool: carried rows, then new blocks."""
    news, pools, new = [], [], leaves
    for k, level in enumerate(plan):
        pool = new if carried is None else join(carried.blocks[k], new)
        news.append(new)
        pools.append(pool)
        if k + 1 < len(plan):
            left = take(pool, level.left)
            if len(first_field(left)):
                new = cell.merge(weights, left, take(pool, level.right))
            else:
                new = map_tensors(lambda field: field[:0], new)
    return news, pools


def sweep(
    cell: MergeCell,
    weights: Weights,
    leaves: State,
    plan: tuple[Level, ...],
    carried: Carried | None,
    wanted: Wanted,
) -> Sweep:
    """Up, then down (all positions) or along the final blocks only (the last one)."""
    news, pools = ascend(cell, weights, leaves, plan, carried)
    blocks = [mask(take(p, lv.final), lv.has_block) for p, lv in zip(pools, plan, strict=True)]
    if wanted == "last":
        folds = fold_blocks(cell, weights, pools, plan, carried)
        return Sweep(folds[0], blocks, folds)

    folds = []
    above = rows = map_tensors(lambda field: field[:0], leaves)
    for k in reversed(range(len(plan))):
        level = plan[k]
        rows = descend(cell, weights, level, news[k], above)
        above = rows if carried is None else join(carried.folds[k], rows)
        folds.append(mask(take(above, level.final), level.has_fold))
    return Sweep(rows, blocks, folds[::-1])


def descend(cell: MergeCell, weights: Weights, level: Level, new: State, above: State) -> State:
    """The states after each of a level's new blocks, from the prefix of the level above."""
    if not len(first_field(new)):
        return new
    right = take(new, level.fold_right)
    merged = right
    if len(first_field(right)):
        merged = cell.merge(weights, take(above, level.fold_left), right)
    return take_arranged(join(above, merged, take(new, level.alone)), level.arrange)


def fold_blocks(
    cell: MergeCell,
    weights: Weights,
    pools: list[State],
    plan: tuple[Level, ...],
    carried: Carried | None,
) -> list[State]:
    """The final state's folds, largest blocks first, without the states before it."""
    folds: list[State] = []
    fold: State | None = None
    had: bool | Tensor = False
    for k in reversed(range(len(plan))):
        level, pool = plan[k], pools[k]
        if carried is not None and level.kept is True:
            fold = carried.folds[k]
        elif isinstance(level.has_block, Tensor):
            block = take(pool, level.final)
            if fold is None:
                fold = block
            else:
                assert isinstance(had, Tensor)
                grown = choose(had, cell.merge(weights, fold, block), block)
                fold = choose(level.has_block, grown, fold)
            if carried is not None:
                assert isinstance(level.kept, Tensor)
                assert isinstance(level.final, Tensor)
                # What is kept is the carried fold itself, not a new fold of the carried blocks.
                fold = choose(level.kept, take(carried.folds[k], level.final * level.kept), fold)
        elif level.has_block:
            block = take(pool, level.final)
            fold = block if fold is None else cell.merge(weights, fold, block)
        had = level.has_fold
        assert fold is not None
        folds.append(mask(fold, level.has_fold))
    return folds[::-1]


def take_arranged(state: State, rows: Tensor) -> State:
    """Rows of vectors, or of whole slabs where fields are (rows, B, H)."""
    if first_field(state).dim() > 2:
        return map_tensors(lambda field: field.index_select(0, rows), state)
    return take(state, rows)


def mask(state: State, present: bool | Tensor) -> State:
    """Zeros where a sequence has no such block."""
    if isinstance(present, bool):
        return state if present else map_tensors(torch.zeros_like, state)
    return map_tensors(lambda field: torch.where(present.unsqueeze(-1), field, 0.0), state)
