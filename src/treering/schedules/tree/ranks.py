"""The balanced bracket over the ranks of a process group, each of which holds a stretch of time.

All ranks but the last hold P tokens, a power of two, the last 1 to P. So rank r's part, if it is
P long, is block r of level p = log2 P, and the blocks of higher levels are made of ranks' blocks:

1. every rank goes up the levels of its own part;
2. in round k of ceil(log2 R), rank r and rank r XOR 2^k exchange the blocks of level p + k that
   cover them. What a rank gets from its left are just the blocks of the state before its part;
3. the last rank's state after its part is sent to all, because it is the whole sequence's;
4. every rank goes down the levels of its own part from the states at its two ends.

Backward takes the same way back: each message's gradient is sent to where the message came from.
A rank whose loss does not depend on a message must take part in its way back all the same, or the
others would wait forever. Therefore all messages of a call hang on one chain: a scalar that goes
into and comes out of every one of them, that all results depend on, and that depends on all that
gradients can be asked for.

Legend: R ranks, r a rank, P tokens per part, p levels below the parts' own, k rounds, F fields of a
state, B batch, T this rank's tokens, H hidden.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from zlib import crc32

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from treering._errors import UserError
from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell
from treering.schedules.abstract import Call
from treering.schedules.tree import balanced
from treering.schedules.tree.state import TreeState, stack

WORLD = "world"
NOT_SPLIT = {"lengths": 1, "reset": 2, "a state to carry on": 4}
"""What a call can be given but a tree over ranks cannot use, as bits of the header."""


class Parts(NamedTuple):
    """What the ranks have told each other: tokens of each, whether anybody wants gradients."""

    group: Any
    rank: int
    sizes: tuple[int, ...]
    gradients: bool

    @property
    def complete(self) -> int:
        """Parts that are a whole block."""
        return len(self.sizes) - (self.sizes[-1] < self.sizes[0])

    @property
    def level(self) -> int:
        """p, the level of a whole part's block."""
        return self.sizes[0].bit_length() - 1


def name_of(group: object) -> str:
    """The name under which `find` finds a group again: names can be copied, pickled and printed.

    Errors: TypeError for what is neither a name nor a process group of this process.
    """
    if isinstance(group, str):
        return group
    if not distributed.is_available() or not isinstance(group, distributed.ProcessGroup):
        raise TypeError(
            "group must be 'world', the name of a process group or a ProcessGroup that this"
            f" process belongs to, got {type(group).__name__}; only the members of a group build"
            " a layer over it"
        )
    if distributed.is_initialized() and group is distributed.group.WORLD:
        return WORLD
    return group.group_name


def find(name: str) -> Any:
    """The process group of this name."""
    if not (distributed.is_available() and distributed.is_initialized()):
        raise UserError(
            f"Tree(group={name!r}) needs torch.distributed; call"
            " torch.distributed.init_process_group first, or leave group out"
        )
    if name == WORLD:
        return distributed.group.WORLD
    try:
        # There is no public way back from a group's public name.
        resolve = distributed.distributed_c10d._resolve_process_group  # pyright: ignore[reportPrivateImportUsage]
        return resolve(cast(Any, name))
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"Tree(group={name!r}): this process knows no group of that name; write 'world', or"
            " pass the ProcessGroup that torch.distributed.new_group returned"
        ) from error


def count(name: str) -> int:
    """Ranks of the group, which must exist."""
    return distributed.get_world_size(find(name))


def run(name: str, call: Call) -> tuple[Any, State]:
    """Run a checked call whose x (T, B, I) is this rank's part of the sequence.

    Returns what `Schedule.run` does: outputs at this rank's positions, or the last one of the
    whole sequence, and the state after the whole sequence, the same on every rank.
    """
    cell, weights, x = call.cell, call.weights, call.x
    assert isinstance(cell, MergeCell)
    parts = _meet(find(name), call)
    rank, T, B = parts.rank, *x.shape[:2]
    first, last = rank == 0, rank == len(parts.sizes) - 1

    chain = next(iter(weights.values())).new_zeros((), requires_grad=parts.gradients)
    chain = Begin.apply(chain, x, *weights.values())
    leaves = cell.leaf(weights, x)
    plan = balanced.uniform_plan(0, T, False, x.device)
    news, _ = balanced.ascend(cell, weights, leaves, plan, None)

    own = news[-1] if parts.sizes[0] == T else None
    like = map_tensors(lambda field: field.new_zeros(1, *field.shape[1:]), leaves)
    before, whole, chain = _climb(cell, weights, own, like, parts, chain)
    if own is None:
        pieces = {k: map_tensors(lambda field: field[-1:], news[k]) for k in _bits(T)}
        after = {**before, **pieces}
    else:
        # Rank r's block ends r + 1 blocks: it has grown by one level for every low one of r.
        grown = parts.level + (~rank & (rank + 1)).bit_length() - 1
        after = {level: block for level, block in before.items() if level > grown}
        after[grown] = whole[grown]

    folds: dict[int, State] = {}
    folds_before: dict[int, State] = {}
    if call.wanted != "last":
        folds_before = _fold(cell, weights, before, {})
    if call.wanted != "last" or last:
        folds = _fold(cell, weights, after, folds_before)

    total = sum(parts.sizes)
    levels = _bits(total)
    if last:
        states = [*(after[k] for k in levels), *(folds[k] for k in levels)]
    else:
        states = [like] * 2 * len(levels)
    sent, chain = Spread.apply(parts.group, chain, torch.stack([_pack(s) for s in states]))
    received = [cell.state_type(*fields) for fields in sent.squeeze(2).unbind(0)]
    state = _assemble(levels, received, torch.full((B,), total, device=x.device))
    if call.wanted == "last":
        return cell.output(state.last), state

    edges = [] if first else [folds_before[min(folds_before)]]
    edges += [] if own is None else [folds[min(folds)]]
    above = cell.state_type(*Tie.apply(chain, *balanced.join(*edges)))
    start = None if first else map_tensors(lambda field: field[:1], above)
    rows = map_tensors(lambda field: field[len(field) - (own is not None) :], above)
    plan = balanced.uniform_plan(rank * parts.sizes[0], T, not first, x.device)
    for k in reversed(range(min(len(news), parts.level))):
        rows = balanced.descend(cell, weights, plan[k], news[k], above)
        above = rows if start is None else balanced.join(start, rows)
    return rows if call.wanted == "states" else cell.output(rows), state


def _bits(n: int) -> list[int]:
    return [k for k in range(n.bit_length()) if n >> k & 1]


def _pack(state: State) -> Tensor:
    """One message: (F, 1, B, H)."""
    return torch.stack(tuple(state))


def _climb(
    cell: MergeCell,
    weights: Weights,
    own: State | None,
    like: State,
    parts: Parts,
    chain: Tensor,
) -> tuple[dict[int, State], dict[int, State], Tensor]:
    """By level, the blocks of the state before this rank's part, and those that end with ranks
    around it: one of level p + k covers the 2^k ranks that agree with r above bit k.
    """
    rank, R, p = parts.rank, len(parts.sizes), parts.level
    before: dict[int, State] = {}
    whole = {} if own is None else {p: own}
    rounds = (R - 1).bit_length()
    for k in range(rounds):
        partner = rank ^ (1 << k)
        if partner >= R:
            continue
        on_right, top = bool(rank >> k & 1), k == rounds - 1
        # Who has a right neighbour is whole; what is right of it may not be. Above the top round
        # there is nobody left to whom a block could be passed on.
        leftward = not top and ((max(rank, partner) >> k) + 1) << k <= parts.complete
        sends, receives = (leftward, True) if on_right else (True, leftward)
        message = _pack(whole[p + k] if sends else like)
        got, chain = Exchange.apply(parts.group, partner, sends, receives, chain, message)
        block = cell.state_type(*got.unbind(0))
        if on_right:
            before[p + k] = block
            if p + k in whole and (not top or rank == R - 1):
                whole[p + k + 1] = cell.merge(weights, block, whole[p + k])
        elif receives:
            whole[p + k + 1] = cell.merge(weights, whole[p + k], block)
    return before, whole, chain


def _fold(
    cell: MergeCell, weights: Weights, blocks: dict[int, State], known: dict[int, State]
) -> dict[int, State]:
    """By level, the left fold of all blocks from that level up; `known` ones are not repeated."""
    folds: dict[int, State] = {}
    fold: State | None = None
    for level in sorted(blocks, reverse=True):
        if level in known:
            fold = known[level]
        else:
            fold = blocks[level] if fold is None else cell.merge(weights, fold, blocks[level])
        folds[level] = fold
    return folds


def _assemble(levels: list[int], states: Sequence[State], length: Tensor) -> TreeState:
    """A TreeState from the blocks, then the folds, of the levels that have a block."""
    given, folded = (dict(zip(levels, half, strict=True)) for half in _halves(states))
    none = map_tensors(torch.zeros_like, states[0])
    blocks, folds = [], []
    for level in range(levels[-1] + 1):
        blocks.append(given.get(level, none))
        folds.append(folded[min(k for k in levels if k >= level)])
    return TreeState(stack(blocks, 1), stack(folds, 1), length)


def _halves(states: Sequence[State]) -> tuple[Sequence[State], Sequence[State]]:
    middle = len(states) // 2
    return states[:middle], states[middle:]


def _meet(group: Any, call: Call) -> Parts:
    """Tell each other what each rank has been given; refuse on all ranks what one cannot do."""
    x, weights = call.x, call.weights
    shapes = [(name, tuple(weight.shape), weight.dtype) for name, weight in weights.items()]
    told = (call.cell, shapes, x.shape[-1], x.dtype, x.device.type, call.wanted)
    asked = (call.lengths, call.reset, call.state)
    header = [
        x.shape[0],
        x.shape[1],
        crc32(repr(told).encode()),
        sum(bit for bit, given in zip(NOT_SPLIT.values(), asked, strict=True) if given is not None),
        torch.is_grad_enabled(),
        torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights.values())),
    ]
    mine = torch.tensor([int(number) for number in header], device=x.device)
    everybodys = [torch.zeros_like(mine) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(everybodys, mine, group=group)
    columns = zip(*(numbers.tolist() for numbers in everybodys), strict=True)
    sizes, batches, calls, refused, modes, wishes = columns
    if len(set(calls)) > 1:
        raise UserError(
            "the ranks of a tree call different layers, or the same in different ways: cell,"
            " sizes, dtypes and the method called must agree; build the same layer on every rank"
        )
    if len(set(batches)) > 1:
        raise UserError(
            f"the ranks of a tree hold parts of the same sequences, but their batches are"
            f" {_listed(batches)}; give every rank the same rows of the batch"
        )
    for what, bit in NOT_SPLIT.items():
        where = [r for r, bits in enumerate(refused) if bits & bit]
        if where:
            raise UserError(
                f"a tree over {len(sizes)} ranks starts anew and reads whole sequences of equal"
                f" length, but rank {where[0]} was given {what}; leave it out, or run this call in"
                " one process with Tree()"
            )
    _check_sizes(sizes)
    if len(set(modes)) > 1:
        raise UserError(
            f"gradients are switched off on rank {modes.index(0)} of a tree and on on rank"
            f" {modes.index(1)}; enter torch.no_grad() on every rank or on none"
        )
    return Parts(group, distributed.get_rank(group), sizes, any(wishes))


def _check_sizes(sizes: tuple[int, ...]) -> None:
    P, R, n = sizes[0], len(sizes), sum(sizes)
    if P & (P - 1) == 0 and set(sizes[:-1]) == {P} and sizes[-1] <= P:
        return
    larger = 1 << (-(-n // R) - 1).bit_length()
    fine = " or ".join(
        f"{P} ({(R - 1) * P + 1} to {R * P} in all)" for P in (larger // 2, larger) if P
    )
    raise UserError(
        f"the {R} ranks of a tree hold {_listed(sizes)} tokens; every rank but the last must hold"
        f" the same power of two of them and the last at most as many: for these {n}, parts of"
        f" {fine}"
    )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


class Begin(torch.autograd.Function):
    """The beginning of a chain, which depends on all that gradients can be asked for.

    Weights get a gradient of zeros: one that this rank's part does not use has one nevertheless,
    so that gradients can be summed over ranks without asking which are there.
    """

    @staticmethod
    def forward(ctx: Any, chain: Tensor, x: Tensor, *weights: Tensor) -> Tensor:
        del x
        ctx.shapes = [weight.shape for weight in weights]
        return chain.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, *(grad.new_zeros(()).expand(shape) for shape in ctx.shapes)


class Exchange(torch.autograd.Function):
    """Send `message` to a partner, get the partner's; zeros where none is sent."""

    @staticmethod
    def forward(
        ctx: Any,
        group: Any,
        partner: int,
        sends: bool,
        receives: bool,
        chain: Tensor,
        message: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.link = group, partner, sends, receives
        return _swap(group, partner, sends, receives, message), chain.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_got: Tensor, grad_chain: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        group, partner, sends, receives = ctx.link
        grad = _swap(group, partner, receives, sends, grad_got.contiguous())
        return None, None, None, None, grad_chain, grad


def _swap(group: Any, partner: int, sends: bool, receives: bool, message: Tensor) -> Tensor:
    got = torch.zeros_like(message)
    if message.numel():
        halves = [(sends, distributed.isend, message), (receives, distributed.irecv, got)]
        operations = [
            distributed.P2POp(operator, tensor, group=group, group_peer=partner)
            for wanted, operator, tensor in halves
            if wanted
        ]
        for work in distributed.batch_isend_irecv(operations):
            work.wait()
    return got


class Spread(torch.autograd.Function):
    """The last rank's message on every rank; backward, the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, group: Any, chain: Tensor, message: Tensor) -> tuple[Tensor, Tensor]:
        ctx.group = group
        # Activation checkpointing runs a forward pass again until it has all saved tensors: with
        # one in the last message, it cannot stop before a message that other ranks wait for.
        ctx.save_for_backward(chain)
        spread = message.clone()
        if spread.numel():
            last = distributed.get_world_size(group) - 1
            distributed.broadcast(spread, group=group, group_src=last)
        return spread, chain.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spread: Tensor, grad_chain: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Unpacking is what makes checkpointing run forward again; it must precede any message.
        _ = ctx.saved_tensors
        grad = grad_spread.clone(memory_format=torch.contiguous_format)
        last = distributed.get_world_size(ctx.group) - 1
        if grad.numel():
            distributed.reduce(grad, group=ctx.group, group_dst=last)
        here = distributed.get_rank(ctx.group) == last
        return None, grad_chain, grad if here else torch.zeros_like(grad)


class Tie(torch.autograd.Function):
    """Make fields depend on the chain."""

    @staticmethod
    def forward(ctx: Any, chain: Tensor, *fields: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(chain)
        return tuple(field.clone() for field in fields)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (chain,) = ctx.saved_tensors
        return torch.zeros_like(chain), *grads
