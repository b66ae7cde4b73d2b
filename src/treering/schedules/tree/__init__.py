"""A MergeCell along a tree: the order of the merges is part of the model.

Legend: B batch, T time, I input, H hidden, O output, K levels carried, S segments, N tokens.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from treering._errors import UserError
from treering._types import State, Weights, map_tensors
from treering.cells.abstract import Cell, MergeCell
from treering.schedules.abstract import Call, Schedule, Wanted
from treering.schedules.states import check_like, choose
from treering.schedules.tree import balanced, ranks, rolled, shift_reduce
from treering.schedules.tree.state import (
    ROOM,
    Segments,
    TreeState,
    carried_rows,
    count_after,
    segments,
    stack,
    unstack,
    with_room,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Tree", "TreeState"]

Bracket = Literal["balanced", "left", "random", "given"]
ONE_BLOCK = ("left", "given")
"""Brackets that end with one block, whatever the number of tokens."""


@dataclass(frozen=True)
class Tree(Schedule):
    """Merge token states over a bracketing of the sequence.

    `bracket="balanced"` (the PR-LSTM's): the n tokens are split from the left into blocks of the
    powers of two of n, largest first; each block is a perfect tree of merges; blocks are folded
    from left to right. For 7 tokens: merge(merge(B4, B2), B1). The bracket of a prefix does not
    depend on what follows, so all outputs are causal and streaming, carrying a state on, lengths
    and resets are exact.

    `bracket="left"`: a plain loop, merge(merge(merge(1, 2), 3), 4). `bracket="random"`: blocks
    are random binary trees, fixed by `seed` and position. Both for ablation and augmentation.
    With `block` a power of two above 1 the random trees stand on aligned blocks of so many tokens,
    in each of which merges are the balanced bracket's: then a model meets the spans that it will
    meet under that one, at depths that it would meet in far longer sequences only.

    `bracket="given"`: every sequence brings a binary tree of its own, such as its parse, as `ranks`
    of the call, (T, B) of numbers. Entry t is of the boundary behind token t: of two boundaries the
    one of lower rank is merged first, so minus the depth of the lowest node that spans a boundary
    gives the tree (equal neighbours: the later one first). The last token's entry is not read. The
    state after all n tokens is the tree's root. What is put out before is the left fold of the
    blocks finished so far: it sees no later token, only ranks, and is not what the tree of the
    prefix would give. So it can neither carry a state on nor be cut by resets, and a layer has one
    level and one direction. torch.export refuses it, ranks get no gradient.

    `random_in_training=True`: a layer in training reads every call, in each of its layers and
    directions, under a random bracket of its own (of `block`), and in evaluation under `bracket`. A
    number between 0 and 1 is the share of calls that are read so; the others are read under
    `bracket` in training, too. What is drawn comes from torch's default generator. A state cannot
    be carried on in training then, for it would be of another bracket. torch.compile, which would
    fix the bracket, refuses it there with fullgraph=True and else leaves such calls to plain
    PyTorch, after some compilations.

    Cost: T-1 merges in log2 T rounds for the last state, about 2T in 2 log2 T for all positions;
    one round runs over the whole batch. `left` takes T rounds, `random` about 3 ln T, `given` as
    many as its deepest tree has levels; its trees are written down in Python at every call, about
    five microseconds a merge.

    `group`: split the sequence over the ranks of a torch.distributed process group, "world" or a
    ProcessGroup (kept by name, so that a layer can be copied, pickled and printed). x on rank r
    is the r-th stretch of the sequence: P tokens, a power of two, on every rank but the last,
    1 to P there. Outputs are those at the rank's own positions; the state, and what `reduce`
    returns, are the whole sequence's, on every rank; all equal to one process's. The loss is the
    sum of the ranks' losses, each of its own outputs: every rank calls backward, and a weight's
    gradient is the sum over ranks (all-reduce). What reaches the replicated state or `reduce`'s
    result is summed over ranks too: use it on one rank, or divide by their number.
    Balanced bracket only, without lengths, reset, carried state, second directions and second
    derivatives. Cost over one process: ceil(log2 ranks) messages of one state (B, H), an
    exchange of sizes and one broadcast. All ranks must call the layer equally often.

    When not to use it: `left`, `random` and `given` for speed.
    Source: arXiv 2605.17108; checked there against the authors' code for n = 1..600.
    """

    bracket: Bracket = "balanced"
    seed: int = 0
    group: "str | ProcessGroup | None" = None
    random_in_training: float = False
    block: int = 1

    accepts: ClassVar[tuple[type[Cell], ...]] = (MergeCell,)
    guarantee: ClassVar[Literal["SAME", "DEFINES"]] = "DEFINES"

    def __post_init__(self) -> None:
        if self.bracket not in get_args(Bracket):
            raise UserError(
                f"bracket {self.bracket!r} is not known; write 'balanced', 'left', 'random' or"
                " 'given'"
            )
        if not 0 <= self.random_in_training <= 1:
            raise UserError(
                f"random_in_training = {self.random_in_training!r} is neither True or False nor a"
                " share of the calls; write a number from 0 to 1"
            )
        if not isinstance(self.block, int) or self.block < 1 or self.block & (self.block - 1):
            raise UserError(f"block = {self.block!r} is no power of two; write 1, 2, 4 or so on")
        if self.block > 1 and self.bracket != "random" and not self.random_in_training:
            raise UserError(
                f"block = {self.block} is what random trees stand on, and {self.bracket!r} has"
                " none; leave it out, or write random_in_training=True or bracket='random'"
            )
        if self.bracket == "given" and self.random_in_training:
            raise UserError(
                "a bracket that is given cannot be drawn as well; leave random_in_training out"
            )
        if self.group is None:
            return
        if self.bracket != "balanced":
            raise UserError(
                f"bracket {self.bracket!r} cannot be split over ranks; use bracket='balanced' or"
                " leave group out"
            )
        if self.random_in_training:
            raise UserError(
                "a random bracket cannot be split over ranks; leave random_in_training or group out"
            )
        object.__setattr__(self, "group", ranks.name_of(self.group))

    def __repr__(self) -> str:
        group = "" if self.group is None else f", group={self.group!r}"
        share = self.random_in_training
        random = f", random_in_training={share!r}" if share else ""
        block = f", block={self.block}" if self.block > 1 else ""
        return f"Tree(bracket={self.bracket!r}, seed={self.seed}{group}{random}{block})"

    def __str__(self) -> str:
        try:
            over = "" if self._group is None else f" over {ranks.count(self._group)} ranks"
        except UserError:
            # A layer can be printed before its group exists.
            over = ""
        return f"{self!r}{over}"

    def drawn(self, carries_on: bool) -> "Tree":
        if not self.random_in_training:
            return self
        if carries_on:
            raise UserError(
                "with random_in_training=True every call in training has a bracket of its own and"
                " cannot go on with a state; give whole sequences, or call eval() first"
            )
        if torch.compiler.is_compiling():
            raise UserError(
                "a bracket drawn for every call cannot be compiled; call the layer without"
                " torch.compile in training, or leave random_in_training out"
            )
        if self.random_in_training < 1 and float(torch.rand(())) >= self.random_in_training:
            return self
        return replace(self, bracket="random", seed=int(torch.randint(2**62, ())))

    @property
    def reads_ranks(self) -> bool:
        return self.bracket == "given"

    def refuses_reorder(self) -> str | None:
        if self.bracket == "given":
            return "the tree is over the tokens as they stand"
        if self.group is None:
            return None
        return "a rank has only its own stretch of time and could reorder nothing else"

    @property
    def _group(self) -> str | None:
        """The group by name, as `__post_init__` leaves it."""
        return cast(str | None, self.group)

    def run(self, call: Call) -> tuple[Any, State]:
        if self._group is not None and ranks.count(self._group) > 1:
            return ranks.run(self._group, call)
        cell, weights, x, wanted = call.cell, call.weights, call.x, call.wanted
        lengths, reset = call.lengths, call.reset
        assert isinstance(cell, MergeCell)
        T, B, _ = x.shape
        tree = cast(TreeState | None, call.state)
        count = None if tree is None else tree.length
        after = count_after(T, B, lengths, reset, count, x.device)
        if self.bracket == "left" or (self.bracket == "given" and B == 0):
            outputs, last = _run_left(cell, weights, x, tree, lengths, reset, wanted)
            slot = map_tensors(lambda field: field.unsqueeze(1), last)
            return outputs, TreeState(slot, slot, after)

        n0 = 0 if count is None or B == 0 else int(count[0])
        together = count is None or bool((count == n0).all())
        alike = lengths is None and reset is None and call.ranks is None and together
        if B == 0 or alike:
            result = self._run_uniform(cell, weights, x, tree, n0, wanted)
            blocks, folds = (
                stack([map_tensors(lambda f: f.squeeze(0), s) for s in slots], 1)
                for slots in (result.blocks, result.folds)
            )
            rows = result.rows
            if wanted == "last":
                rows = map_tensors(lambda field: field[-1], rows)
            found = rows if wanted == "states" else cell.output(rows)
            return found, TreeState(blocks, folds, after)

        parts = segments(T, B, lengths, reset, count, x.device)
        result = self._run_ragged(call, tree, parts)
        carried_on = TreeState(stack(result.blocks, 1), stack(result.folds, 1), after)
        if wanted == "last":
            return cell.output(carried_on.last), carried_on

        def padded(rows: Tensor) -> Tensor:
            flat = rows.new_zeros(B * T, rows.shape[-1]).index_copy(0, parts.tokens, rows)
            return flat.view(B, T, -1).transpose(0, 1)

        if wanted == "states":
            return map_tensors(padded, result.rows), carried_on
        return padded(cell.output(result.rows)), carried_on

    def _run_uniform(
        self,
        cell: MergeCell,
        weights: Weights,
        x: Tensor,
        state: TreeState | None,
        n0: int,
        wanted: Wanted,
    ) -> balanced.Sweep:
        """All sequences go from n0 to n0 + T tokens: rows are slabs (B, H)."""
        T = x.shape[0]
        leaves = cell.leaf(weights, x)
        carried = None
        if state is not None:
            slabs = (
                [map_tensors(lambda f: f.unsqueeze(0), s) for s in unstack(slots, 1)]
                for slots in (state.blocks, state.folds)
            )
            carried = balanced.Carried(*slabs)
        if self.bracket == "random":
            rank = shift_reduce.random_ranks(self.seed, self.block)
            return shift_reduce.run(cell, weights, leaves, [rank], [n0], [T], [0], carried)
        plan = balanced.uniform_plan(n0, T, carried is not None, x.device)
        return balanced.sweep(cell, weights, leaves, plan, _widen(carried, len(plan)), wanted)

    def _run_ragged(self, call: Call, state: TreeState | None, parts: Segments) -> balanced.Sweep:
        """Sequences of different counts or trees, or cut by resets: rows are vectors (H,)."""
        cell, weights, x = call.cell, call.weights, call.x
        assert isinstance(cell, MergeCell)
        T, B, _ = x.shape
        flat = x.transpose(0, 1).reshape(B * T, -1).index_select(0, parts.tokens)
        leaves = cell.leaf(weights, flat)
        carried = None
        if state is not None:
            carried = balanced.Carried(
                carried_rows(state.blocks, parts.origin), carried_rows(state.folds, parts.origin)
            )
        if self.bracket == "balanced":
            plan = balanced.ragged_plan(parts, carried is not None)
            carried = _widen(carried, len(plan))
            return balanced.sweep(cell, weights, leaves, plan, carried, call.wanted)
        starts, sizes, final = (
            column.tolist() for column in (parts.start, parts.size, parts.final)
        )
        if call.ranks is None:
            ranks = [shift_reduce.random_ranks(self.seed, self.block)] * len(sizes)
        else:
            # Without resets a segment is a sequence.
            columns = zip(call.ranks.t().tolist(), sizes, strict=True)
            ranks = [shift_reduce.given_rank(*column) for column in columns]
        folded = call.ranks is None or call.wanted != "last"
        return shift_reduce.run(cell, weights, leaves, ranks, starts, sizes, final, carried, folded)

    def rolled(self, call: Call) -> tuple[Any, State]:
        if self.group is not None:
            raise UserError(
                "a tree over ranks cannot be exported: its messages are no part of a program;"
                " load the weights into a layer without group and export that"
            )
        return rolled.run(self.bracket, call)

    def blank_state(self, cell: Cell, batch: int, like: Tensor) -> State:
        assert isinstance(cell, MergeCell)
        slots = 1 if self.bracket in ONE_BLOCK else ROOM
        shape = batch, slots, cell.hidden_size
        blocks, folds = (
            cell.state_type(*(like.new_zeros(shape) for _ in cell.state_type._fields))
            for _ in range(2)
        )
        return TreeState(blocks, folds, torch.zeros(batch, dtype=torch.int64, device=like.device))

    def cell_state(self, state: State) -> State:
        assert isinstance(state, TreeState)
        return state.last

    def fitted(self, state: State) -> State:
        assert isinstance(state, TreeState)
        return state if self.bracket in ONE_BLOCK else with_room(state, ROOM)

    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        assert isinstance(cell, MergeCell)
        if self.bracket == "given":
            raise UserError(
                f"{self!r} cannot go on with a state, since a call's tree is over whole sequences;"
                " leave the state out, or use bracket='balanced'"
            )
        if not (isinstance(state, tuple | list) and len(state) == 3):
            raise UserError(
                "the state of a tree is the TreeState(blocks, folds, length) that an earlier call"
                f" returned; got {type(state).__name__}"
            )
        tree = TreeState(*state)
        blocks = tree.blocks[0] if isinstance(tree.blocks, tuple | list) else None
        K = blocks.shape[1] if isinstance(blocks, Tensor) and blocks.dim() == 3 else 1
        fields = len(cell.state_type._fields)
        template = cell.state_type(*[like.new_zeros(batch, K, cell.hidden_size)] * fields)
        count = torch.zeros(batch, dtype=torch.int64, device=like.device)
        tree = check_like(tree, TreeState(template, template, count), type(cell).__name__)
        self._check_slots(tree.length, K)
        return tree

    def _check_slots(self, length: Tensor, K: int) -> None:
        """Refuse a state that cannot have come from as many tokens as it says, length (B,)."""
        for n in set(length.tolist()):
            if n < 0:
                raise UserError(f"the length of a tree's state must not be negative, got {n}")
            blocks = self._blocks(n)
            if blocks > K:
                raise UserError(
                    f"{self} carries {blocks} blocks after {n} tokens, but the state has room for"
                    f" {K}; pass on a state as an earlier call under the same bracket returned it"
                )

    def _blocks(self, n: int) -> int:
        """Slots that the state after n tokens needs."""
        if self.bracket == "random":
            return shift_reduce.program(
                shift_reduce.random_ranks(self.seed, self.block), n, 0
            ).slots
        return n.bit_length() if self.bracket == "balanced" else 1


def _widen(carried: balanced.Carried | None, levels: int) -> balanced.Carried | None:
    """Add levels of zeros for blocks that did not exist before this call."""
    if carried is None:
        return None
    zero = map_tensors(torch.zeros_like, carried.blocks[0])
    missing = [zero] * (levels - len(carried.blocks))
    return balanced.Carried([*carried.blocks, *missing], [*carried.folds, *missing])


def _run_left(
    cell: MergeCell,
    weights: Weights,
    x: Tensor,
    state: TreeState | None,
    lengths: Tensor | None,
    reset: Tensor | None,
    wanted: Wanted,
) -> tuple[Any, State]:
    """One merge a token, left to right."""
    leaves = unstack(cell.leaf(weights, x), 0)
    current = None if state is None else state.last
    states = []
    for t, leaf in enumerate(leaves):
        if current is None:
            new = leaf
        else:
            new = cell.merge(weights, current, leaf)
            fresh = None if reset is None else reset[t]
            if t == 0 and state is not None:
                empty = state.length == 0
                fresh = empty if fresh is None else fresh | empty
            if fresh is not None:
                new = choose(fresh, leaf, new)
            if lengths is not None:
                new = choose(lengths > t, new, current)
        current = new
        states.append(current)
    assert current is not None
    if wanted == "last":
        return cell.output(current), current
    rows = stack(states, 0)
    return rows if wanted == "states" else cell.output(rows), current
