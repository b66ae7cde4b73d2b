"""Any bracket that reads from left to right, written as a shift-reduce program.

Every boundary between tokens t-1 and t has a rank that depends on t alone. After a token is
shifted, the two topmost blocks are merged as long as the boundary between them ranks below the
boundary that comes next; the state after n tokens is the left fold of the stack. Ranks growing
with t give the plain loop, ranks by the number of trailing zero bits of t the balanced bracket,
and ranks drawn at random the random bracket: blocks are random binary trees, about 2 ln n deep.
Because these ranks depend on positions only, streaming, carrying on and resets stay exact.

Any binary tree over n tokens is such a program, too: a boundary ranks by minus the depth of the
lowest node that spans it, and the end of the sequence above all, which leaves one block. Two
boundaries of equal rank have one of a higher rank between them, so none meets its equal.

Legend: B batch, T time, H hidden, K stack slots, S segments.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell
from treering.schedules.tree.balanced import Carried, Sweep, first_field, join, take_arranged

Rank = Callable[[int], float]


def balanced_rank(boundary: int) -> int:
    """By the number of times that two divides the position."""
    return (boundary & -boundary).bit_length()


class RandomRanks:
    """Seeded ranks, drawn once per position and then remembered: the same for every length.

    Inside aligned blocks of `block` tokens, a power of two, ranks are the balanced bracket's, and
    below all that are drawn.
    """

    def __init__(self, seed: int, block: int) -> None:
        self._draw = random.Random(seed)
        self._ranks: list[float] = []
        self._block = block

    def __call__(self, boundary: int) -> float:
        if boundary % self._block:
            return balanced_rank(boundary) - self._block.bit_length()
        while len(self._ranks) <= boundary:
            self._ranks.append(self._draw.random())
        return self._ranks[boundary]


@lru_cache(maxsize=64)
def random_ranks(seed: int, block: int) -> RandomRanks:
    return RandomRanks(seed, block)


def given_rank(ranks: Sequence[float], size: int) -> Rank:
    """The tree over `size` tokens whose boundary behind token t ranks `ranks[t]`."""
    closed = [*ranks[: size - 1], math.inf]
    return lambda boundary: closed[boundary - 1]


class Program(NamedTuple):
    """Merges of one segment. Nodes are numbered: carried blocks, carried folds (both from the
    bottom of the stack), leaves, then merges in order.

    slots: carried blocks. merges: (left, right) nodes. depths: round in which each merge can run.
    states: node of the state after each token. stack, folds: nodes carried on, bottom first.
    """

    slots: int
    merges: list[tuple[int, int]]
    depths: list[int]
    states: list[int]
    stack: list[int]
    folds: list[int]


def program(rank: Rank, start: int, size: int, folded: bool = True) -> Program:
    """The merges between `start` and `start + size` tokens.

    folded: False leaves out the folds, where one block is left at the end and no state before it
    is wanted.
    """
    ranks: list[float] = []
    for t in range(start):
        while ranks and ranks[-1] < rank(t + 1):
            ranks.pop()
        ranks.append(rank(t + 1))
    # ranks[i] is now the rank of the boundary behind block i of the stack.
    slots = len(ranks)
    stack, folds = list(range(slots)), list(range(slots, 2 * slots))
    depth = [0] * (2 * slots + size)
    merges: list[tuple[int, int]] = []
    states = []

    def merge(left: int, right: int) -> int:
        merges.append((left, right))
        depth.append(1 + max(depth[left], depth[right]))
        return len(depth) - 1

    for t in range(size):
        block = 2 * slots + t
        behind = rank(start + t + 1)
        while ranks and ranks[-1] < behind:
            ranks.pop()
            folds.pop()
            block = merge(stack.pop(), block)
        folds.append(merge(folds[-1], block) if stack and folded else block)
        stack.append(block)
        ranks.append(behind)
        states.append(folds[-1])
    return Program(slots, merges, depth[2 * slots + size :], states, stack, folds)


def run(
    cell: MergeCell,
    weights: Weights,
    leaves: State,
    ranks: Sequence[Rank],
    starts: Sequence[int],
    sizes: Sequence[int],
    final: Sequence[int],
    carried: Carried | None,
    folded: bool = True,
) -> Sweep:
    """Run the segments' programs together, one round per depth; rows as in `balanced`.

    ranks, starts, sizes: per segment; final: the segments whose end is carried on; carried: per
    slot, topmost block first, a row per segment; folded: see `program`.
    Cost: as many rounds as the deepest tree.
    """
    programs = [program(*of_one, folded) for of_one in zip(ranks, starts, sizes, strict=True)]
    S, slots = len(programs), 0 if carried is None else len(carried.blocks)
    pool = leaves if carried is None else join(*carried.blocks, *carried.folds, leaves)
    node_rows: list[list[int]] = []
    leaf = 2 * slots * S
    for s, p in enumerate(programs):
        blocks = [slot * S + s for slot in reversed(range(p.slots))]
        folds = [(slots + slot) * S + s for slot in reversed(range(p.slots))]
        node_rows.append([*blocks, *folds, *range(leaf, leaf + sizes[s]), *[-1] * len(p.merges)])
        leaf += sizes[s]

    device = first_field(leaves).device
    rows = len(first_field(pool))
    deepest = max((max(p.depths, default=0) for p in programs), default=0)
    rounds: list[list[tuple[int, int]]] = [[] for _ in range(deepest)]
    for s, p in enumerate(programs):
        for j, depth in enumerate(p.depths):
            rounds[depth - 1].append((s, j))
    for merges in rounds:
        left, right = [], []
        for s, j in merges:
            where, (a, b) = node_rows[s], programs[s].merges[j]
            left.append(where[a])
            right.append(where[b])
            where[len(where) - len(programs[s].merges) + j] = rows + len(left) - 1
        operands = [take_arranged(pool, torch.tensor(r, device=device)) for r in (left, right)]
        pool = join(pool, cell.merge(weights, *operands))
        rows += len(left)

    def pick(nodes: list[int | None]) -> State:
        index = torch.tensor([0 if n is None else n for n in nodes], device=device)
        picked = take_arranged(pool, index)
        absent = torch.tensor([n is None for n in nodes], device=device)
        if not absent.any():
            return picked
        return map_tensors(
            lambda f: f.masked_fill(absent.view(-1, *(1,) * (f.dim() - 1)), 0.0), picked
        )

    def slot_of(stack: str, slot: int) -> State:
        nodes: list[int | None] = []
        for s in final:
            held: list[int] = getattr(programs[s], stack)
            nodes.append(node_rows[s][held[-1 - slot]] if slot < len(held) else None)
        return pick(nodes)

    depth_of_stack = range(max(len(programs[s].stack) for s in final))
    states = pick(
        [where[n] for p, where in zip(programs, node_rows, strict=True) for n in p.states]
    )
    return Sweep(
        states,
        [slot_of("stack", k) for k in depth_of_stack],
        [slot_of("folds", k) for k in depth_of_stack],
    )
