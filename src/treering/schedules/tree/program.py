"""A tree's merges written down: which rows meet in which round.

The order stands once, in the schedule; here the schedule runs on row numbers in place of states,
and what it asks to be merged is the program. Whoever executes it knows nothing of brackets,
lengths, resets or carried states, and can read operands where they are.

Rows: the leaves, then the carried blocks and folds, then the merges in order.

Legend: T time, B batch, K slots carried, M merges, N rows before the first merge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from treering._types import Hidden, HiddenCell, State, Weights, map_tensors
from treering.cells.abstract import MergeCell, ParameterSpec
from treering.schedules.abstract import Call
from treering.schedules.tree.remembered import once, remembered
from treering.schedules.tree.state import TreeState

if TYPE_CHECKING:
    from treering.schedules.tree import Tree

LONGEST = 2**20
"""Rows of a program that is still remembered for the next call."""


@dataclass(frozen=True, eq=False)
class Program:
    """Rounds of merges on one pool of rows.

    rows: before the first merge. left, right: (M,) int32 rows of the operands. ends: merges done
    after each round. outputs: rows of the outputs, (T, B) or (B,), -1 where a sequence has ended.
    state: a TreeState of rows (B, K), -1 where a slot is empty.
    """

    rows: int
    left: Tensor
    right: Tensor
    ends: tuple[int, ...]
    outputs: Tensor
    state: TreeState

    @property
    def merges(self) -> int:
        return len(self.left)

    @once
    def round_end(self) -> Tensor:
        """`ends` as a tensor, int64."""
        return torch.tensor(self.ends, dtype=torch.int64)

    @once
    def uses(self) -> tuple[Tensor, Tensor]:
        """For each row where its uses begin (rows + M + 1,), and the uses: 2 * merge + side."""
        return self._listed(torch.stack((self.left, self.right), 1).flatten().long())

    @once
    def places(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """For each of `wanted(True)`: for each row where its places begin, and its places."""
        return tuple(map(self._listed, self.wanted(True)))

    def wanted(self, carry: bool) -> tuple[Tensor, ...]:
        """Rows of the outputs, flat, and those of the state to go on with: blocks, folds."""
        state = (self.state.blocks[0], self.state.folds[0]) if carry else ()
        return tuple(rows.flatten() for rows in (self.outputs, *state))

    def _listed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """For each row of the pool where its entries of `rows` begin, and the entries in order."""
        counts = torch.bincount(rows[rows >= 0], minlength=self.rows + self.merges)
        begin = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
        none = int((rows < 0).sum())
        return begin, rows.argsort(stable=True)[none:].int()


@final
@dataclass(frozen=True)
class Recorder(MergeCell):
    """A cell whose state is a row number, one above the row; 0 stands for no state.

    share: equal pairs that are merged in one round are merged once.
    """

    first: int = 0
    share: bool = False
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list, compare=False)
    count: list[int] = field(default_factory=list, compare=False)

    state_type: ClassVar[type[Hidden] | type[HiddenCell]] = Hidden

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        return {}

    def leaf(self, weights: Weights, x: Tensor) -> Hidden:
        return Hidden(x)

    def merge(self, weights: Weights, left: State, right: State) -> Hidden:
        # Exact: row numbers are far below 2^53.
        a, b = (part[0].flatten().long() - 1 for part in (left, right))
        base = self.first + sum(self.count) + 1
        if self.share:
            key = a * (base + 1) + b
            _, numbers = key.unique(return_inverse=True)
            size = int(numbers.max()) + 1
            some = torch.empty(size, dtype=torch.int64).scatter_(0, numbers, torch.arange(len(a)))
            a, b = a[some], b[some]
        else:
            size, numbers = len(a), torch.arange(len(a))
        self.pairs.append((a, b))
        self.count.append(size)
        return Hidden((base + numbers).to(left[0].dtype).view_as(left[0]))


def program_of(call: Call, leaves: Tensor | None = None, share: bool = False) -> Program:
    """The merges of a call of a `Tree`.

    leaves: (T, B) rows of the tokens; without them every token has its own, t*B + b. share: tokens
    of one row are equal, so equal pairs are merged once.
    """
    T, B, _ = call.x.shape
    tree: Any = call.state
    n0 = _uniform_start(call)
    if leaves is None and n0 is not None and T * B <= LONGEST:
        slots = 0 if tree is None else tree.blocks[0].shape[1]
        wanted = "last" if call.wanted == "last" else "all"
        schedule: Any = call.schedule
        return _uniform(schedule, n0, T, B, slots, wanted)
    return _record(call, leaves, share)


def _uniform_start(call: Call) -> int | None:
    """The tokens before the call, where all sequences have as many and sizes alone decide."""
    of_values = (call.lengths, call.reset, call.ranks)
    if any(given is not None for given in of_values) or call.x.shape[1] == 0:
        return None
    if call.state is None:
        return 0
    length: Tensor = call.state[2]
    n0 = int(length[0])
    return n0 if bool((length == n0).all()) else None


@remembered(64)
def _uniform(schedule: "Tree", n0: int, T: int, B: int, slots: int, wanted: Any) -> Program:
    state = None
    if slots:
        blank = Hidden(torch.zeros(B, slots, 1))
        state = TreeState(blank, blank, torch.full((B,), n0))
    x = torch.zeros(T, B, 0)
    return _record(Call(Recorder(1), {}, x, state, None, None, wanted, schedule), None, False)


def _record(call: Call, given: Tensor | None, share: bool) -> Program:
    T, B, _ = call.x.shape
    if given is None:
        leaves = T * B
        numbers = torch.arange(1, leaves + 1).view(T, B)
    else:
        leaves = int(given.max()) + 1
        numbers = given + 1
    rows, state = leaves, None
    if call.state is not None:
        tree: Any = call.state
        K = tree.blocks[0].shape[1]
        carried = torch.arange(leaves + 1, leaves + 2 * B * K + 1, dtype=torch.float64)
        blocks, folds = (Hidden(part.view(B, K, 1)) for part in carried.chunk(2))
        state = TreeState(blocks, folds, tree.length.cpu())
        rows += 2 * B * K
    recorder = Recorder(1, first=rows, share=share)
    wanted = "last" if call.wanted == "last" else "all"
    outputs, after = call.schedule.run(
        replace(
            call,
            cell=recorder,
            weights={},
            x=numbers.double().unsqueeze(-1),
            state=state,
            lengths=None if call.lengths is None else call.lengths.cpu(),
            reset=None if call.reset is None else call.reset.cpu(),
            ranks=None if call.ranks is None else call.ranks.cpu(),
            wanted=wanted,
        )
    )
    ids = outputs.squeeze(-1).long() - 1
    held = TreeState(map_tensors(_rows, after[0]), map_tensors(_rows, after[1]), after[2])
    return _without_unused(recorder, rows, ids, held)


def _rows(field: Tensor) -> Tensor:
    return field.squeeze(-1).long() - 1


def _without_unused(recorder: Recorder, rows: int, outputs: Tensor, state: TreeState) -> Program:
    """The recorded rounds without merges that nothing comes of.

    A ragged batch merges rows side by side that only some sequences have.
    """
    total = rows + sum(recorder.count)
    needed = torch.zeros(total, dtype=torch.bool)
    for ids in (outputs, state.blocks[0], state.folds[0]):
        flat = ids.flatten()
        needed[flat[flat >= 0]] = True
    begin = total
    for (a, b), count in zip(reversed(recorder.pairs), reversed(recorder.count), strict=True):
        begin -= count
        used = needed[begin : begin + count]
        needed[a[used]] = True
        needed[b[used]] = True
    merged = needed[rows:]
    # -1, for no row, stays what it is.
    place = torch.full((total + 1,), -1, dtype=torch.int64)
    place[:rows] = torch.arange(rows)
    place[rows:total][merged] = rows + torch.arange(int(merged.sum()))
    lefts, rights, ends, at = [], [], [], 0
    for (a, b), count in zip(recorder.pairs, recorder.count, strict=True):
        used = merged[at : at + count]
        at += count
        if bool(used.any()):
            lefts.append(place[a[used]])
            rights.append(place[b[used]])
            ends.append((ends[-1] if ends else 0) + int(used.sum()))
    none = torch.zeros(0, dtype=torch.int32)
    return Program(
        rows,
        torch.cat(lefts).int() if lefts else none,
        torch.cat(rights).int() if rights else none,
        tuple(ends),
        place[outputs],
        TreeState(
            map_tensors(lambda ids: place[ids], state.blocks),
            map_tensors(lambda ids: place[ids], state.folds),
            state.length,
        ),
    )


def execute(
    cell: MergeCell,
    weights: Weights,
    x: Tensor,
    carried: State | None,
    left: Tensor,
    right: Tensor,
    ends: Sequence[int],
) -> State:
    """The pool of states, fields (rows + M, H), by the cell itself: x (N, I), carried (C, H).

    left, right, ends: a `Program`'s. Cost: one merge a round, and one copy of the pool; for
    brackets of few rounds.
    """
    pool = cell.leaf(weights, x)
    if carried is not None:
        pool = map_tensors(lambda a, b: torch.cat((a, b)), pool, carried)
    begin = 0
    for end in ends:
        operands = [
            map_tensors(lambda f, rows=side[begin:end]: F.embedding(rows, f), pool)
            for side in (left, right)
        ]
        merged = cell.merge(weights, operands[0], operands[1])
        pool = map_tensors(lambda a, b: torch.cat((a, b)), pool, merged)
        begin = end
    return pool


def carried_rows_of(call: Call) -> State | None:
    """What a call carries on as rows of the pool, fields (2 B K, H): blocks, then folds."""
    if call.state is None:
        return None
    tree: Any = call.state
    return map_tensors(
        lambda a, b: torch.cat((a.flatten(0, 1), b.flatten(0, 1))), tree.blocks, tree.folds
    )


def taken(wanted: Sequence[Tensor], pool: State) -> list[State]:
    """Rows of the pool, fields (K, H) for each of `Program.wanted`; 0 where it names no row."""

    def rows_of(rows: Tensor) -> State:
        none = (rows < 0).unsqueeze(-1)
        if not bool(none.any()):
            return map_tensors(lambda f: F.embedding(rows, f), pool)
        return map_tensors(lambda f: F.embedding(rows.clamp(min=0), f).masked_fill(none, 0), pool)

    return [rows_of(rows) for rows in wanted]


def answer(call: Call, program: Program, parts: Sequence[State]) -> tuple[Any, Any]:
    """What the call wants, and the state to go on with if it is asked for, out of `taken`."""

    def shaped(part: State, rows: Tensor) -> State:
        return map_tensors(lambda f: f.view(*rows.shape, -1), part)

    outputs = shaped(parts[0], program.outputs)
    found = outputs if call.wanted == "states" else call.cell.output(outputs)
    if not call.carry:
        return found, None
    blocks, folds = map(shaped, parts[1:], (program.state.blocks[0], program.state.folds[0]))
    return found, TreeState(blocks, folds, program.state.length.to(call.x.device))


def tokens_alone(T: int, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (T, B) of the tokens without the padding, and their places in T*B."""
    valid = torch.arange(T, device=lengths.device).unsqueeze(1) < lengths
    numbers = (valid.flatten().cumsum(0) - 1).view_as(valid)
    return numbers.masked_fill(~valid, 0), valid.flatten().nonzero().squeeze(1)


def equal_tokens(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Numbers (T, B) of the distinct rows of x (T, B, I), and where each is first, (D,) in T*B.

    None unless a look at some of them promises that equal blocks save merges.
    """
    T, B, _ = x.shape
    rows = x.detach().flatten(0, 1)
    if T < 4 or len(rows) < 64:
        return None
    # Row by row the same sum in the same order, so that equal rows have equal sums.
    weight = torch.linspace(0.5, 1.5, rows.shape[1], dtype=torch.float64, device=x.device).sin()
    some = rows[:: max(1, len(rows) // 64)]
    if not _saves(len((some.double() * weight).sum(-1).unique()), T, B):
        return None
    sums, numbers = (rows.double() * weight).sum(-1).unique(return_inverse=True)
    first = torch.empty(len(sums), dtype=torch.int64, device=x.device)
    # From the last to the first, so that the first one stays.
    places = torch.arange(len(rows) - 1, -1, -1, device=x.device)
    first[numbers.flip(0)] = places
    if not _saves(len(first), T, B) or not torch.equal(rows[first][numbers], rows):
        return None
    return numbers.view(T, B), first


def _saves(distinct: int, T: int, B: int) -> bool:
    """Whether blocks of so few distinct tokens are equal often enough to look for them."""
    merges, blocks, kinds = 0, T * B, float(distinct)
    while blocks > B:
        blocks //= 2
        kinds = min(kinds * kinds, float(blocks))
        merges += int(kinds)
    return merges < T * B / 2
