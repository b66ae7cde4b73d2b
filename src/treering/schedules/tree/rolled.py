"""The balanced and the left bracket as loops of an exported program, any number of tokens.

The balanced bracket runs in place in one buffer X (T, B, H) that starts as the leaves:

    up, for s = 1, 2, 4, ...:      X[2s-1], X[4s-1], ...  merge what lies s places before, itself;
    down, for s = ..., 4, 2, 1:    X[3s-1], X[5s-1], ...  likewise,

after which X[n-1] is the state after n tokens. These are the merges of `balanced.sweep` and no
more: T-1 on the way up and about as many on the way down, in about 2 log2 T rounds.

Legend: B batch, T time, H hidden, K slots carried; s block size, n tokens of a sequence.
"""

from typing import cast

import torch
from torch import Tensor

from treering._errors import UserError
from treering._types import State, map_tensors
from treering.cells.abstract import MergeCell
from treering.schedules.abstract import Call
from treering.schedules.rolled import Several, Stepped, over_time, repeat, size_of
from treering.schedules.states import choose, leaves_of, rebuilt
from treering.schedules.tree.state import ROOM, TreeState, count_after


def run(bracket: str, call: Call) -> tuple[State | Tensor, TreeState]:
    """`Tree.run` under torch.export; cost: each round copies the buffer once more."""
    if bracket == "left":
        return _left(call)
    if bracket == "random":
        raise UserError(
            "Tree('random') cannot be exported: its bracket is drawn token by token, which needs"
            " the number of tokens; export bracket='balanced' or 'left'"
        )
    if bracket == "given":
        raise UserError(
            "Tree('given') cannot be exported: which states are merged depends on the values of"
            " ranks; export bracket='balanced' or 'left'"
        )
    if call.state is not None or call.reset is not None:
        given = "a carried state" if call.reset is None else "reset"
        raise UserError(
            f"a tree cannot be exported with {given}: which blocks are merged would depend on the"
            " values; export it without, and call it on whole sequences"
        )
    return _balanced(call)


def _balanced(call: Call) -> tuple[State | Tensor, TreeState]:
    cell, x, lengths = call.cell, call.x, call.lengths
    assert isinstance(cell, MergeCell)
    T, B, _ = x.shape
    n = torch.full((B,), T, device=x.device) if lengths is None else lengths
    leaves = cell.leaf(call.weights, x)

    names = tuple(call.weights)
    weights = [*call.weights.values()]

    def merged(at: Tensor, s: int, fields: Several, shared: Several) -> list[Tensor]:
        left = rebuilt(leaves, [field.index_select(0, at - s) for field in fields])
        right = rebuilt(leaves, [field.index_select(0, at) for field in fields])
        new = leaves_of(cell.merge(dict(zip(names, shared, strict=True)), left, right))
        return [f.index_copy(0, at, v) for f, v in zip(fields, new, strict=True)]

    def up(carry: Several, T: int, shared: Several) -> Several:
        s = size_of(carry[0], 1)
        count = T // (2 * s)
        torch._check(count >= 0)
        at = torch.arange(count, device=x.device) * (2 * s) + (2 * s - 1)
        return carry[0] * 2, *merged(at, s, carry[1:], shared)

    def down(carry: Several, T: int, shared: Several) -> Several:
        s = size_of(carry[0], 1)
        count = (T - s) // (2 * s)
        torch._check(count >= 0)
        at = torch.arange(count, device=x.device) * (2 * s) + (3 * s - 1)
        return carry[0] // 2, *merged(at, s, carry[1:], shared)

    one = torch.ones((), dtype=torch.int64, device=x.device)
    above, *blocks = repeat(_fits, up, [one, *leaves_of(leaves)], T, weights)
    _, *states = repeat(_is_block, down, [above // 2, *blocks], T, weights)
    rows, held = rebuilt(leaves, states), rebuilt(leaves, blocks)

    sizes = torch.tensor([2**k for k in range(ROOM)], device=x.device)
    full = n.unsqueeze(1) // sizes
    last = TreeState(
        _slots(held, full * sizes, full % 2 == 1),
        _slots(rows, full * sizes, full > 0),
        count_after(T, B, lengths, None, None, x.device),
    )
    if call.wanted == "last":
        return cell.output(_folded(cell, call, held, n, above)), last
    return rows if call.wanted == "states" else cell.output(rows), last


def _slots(rows: State, ends: Tensor, present: Tensor) -> State:
    """Rows (T, B, H) that end after `ends` (B, K) tokens; zeros where not `present` (B, K)."""
    column = torch.arange(ends.shape[0], device=ends.device).unsqueeze(1)

    def one(field: Tensor) -> Tensor:
        picked = field[(ends - 1).clamp_min(0), column]
        return torch.where(present.unsqueeze(-1), picked, 0.0)

    return map_tensors(one, rows)


def _fits(size: Tensor, T: int) -> Tensor:
    return 2 * size <= T


def _is_block(size: Tensor, T: int) -> Tensor:
    del T
    return size >= 1


def _folded(cell: MergeCell, call: Call, blocks: State, n: Tensor, above: Tensor) -> State:
    """The last state alone: the blocks of n (B,), largest first, without the way down."""
    names, fields = tuple(call.weights), len(leaves_of(blocks))

    def body(carry: Several, T: int, shared: Several) -> Several:
        del T
        size, begun, *rest = carry
        n, held = shared[0], rebuilt(blocks, shared[1 : 1 + fields])
        weights = dict(zip(names, shared[1 + fields :], strict=True))
        column = torch.arange(n.shape[0], device=n.device)
        fold, ends = rebuilt(blocks, rest), n // size
        has = ends % 2 == 1
        block = map_tensors(lambda f: f[(ends * size - 1).clamp_min(0), column], held)
        grown = choose(begun, cell.merge(weights, fold, block), block)
        return size // 2, begun | has, *leaves_of(choose(has, grown, fold))

    begun = torch.zeros_like(n, dtype=torch.bool)
    empty = map_tensors(lambda f: torch.zeros_like(f[0]), blocks)
    shared = [n, *leaves_of(blocks), *call.weights.values()]
    carry = [above.clone(), begun, *leaves_of(empty)]
    return rebuilt(blocks, repeat(_is_block, body, carry, call.x.shape[0], shared)[2:])


def _left(call: Call) -> tuple[State | Tensor, TreeState]:
    cell, x, lengths = call.cell, call.x, call.lengths
    assert isinstance(cell, MergeCell)
    T, B, _ = x.shape
    leaves = cell.leaf(call.weights, x)
    names = tuple(call.weights)
    tree = cast(TreeState | None, call.state)
    time = torch.arange(T, device=x.device).unsqueeze(1)
    # A token with nothing on its left is its own state.
    alone = (time == 0).expand(T, B)
    count = None if tree is None else tree.length
    if count is not None:
        alone = alone & (count == 0)
    if call.reset is not None:
        alone = alone | call.reset
    valid = (time < (T if lengths is None else lengths)).expand(T, B)

    def step(carry: Several, now: Several, shared: Several) -> Stepped:
        *fields, alone, valid = now
        state, leaf = rebuilt(leaves, carry), rebuilt(leaves, fields)
        grown = cell.merge(dict(zip(names, shared, strict=True)), state, leaf)
        after = leaves_of(choose(valid, choose(alone, leaf, grown), state))
        return after, [] if call.wanted == "last" else after

    empty = map_tensors(lambda f: torch.zeros_like(f[0]), leaves)
    carry, seen = over_time(
        step,
        leaves_of(empty if tree is None else tree.last),
        [*leaves_of(leaves), alone, valid],
        [*call.weights.values()],
    )
    last = rebuilt(leaves, carry)
    slot = map_tensors(lambda field: field.unsqueeze(1), last)
    state = TreeState(slot, slot, count_after(T, B, lengths, call.reset, count, x.device))
    if call.wanted == "last":
        return cell.output(last), state
    rows = rebuilt(leaves, seen)
    return rows if call.wanted == "states" else cell.output(rows), state
