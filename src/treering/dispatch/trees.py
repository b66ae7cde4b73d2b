"""Merging cells along a tree: in C++, and with equal blocks merged once.

Legend: B batch, T time.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from treering._types import State
from treering.cells.abstract import Cell, MergeCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.cells.pr_rnn import PRRNNCell
from treering.dispatch.kernel import (
    SLOWER,
    Kernel,
    is_transformed,
    native_refuses,
    product_dtype,
)
from treering.kernels.native import tree as native_tree
from treering.kernels.native.computation import run
from treering.schedules.abstract import Call
from treering.schedules.tree import Tree, program

FEWEST_TOKENS = 16
"""Below this many, writing a tree's merges down costs more than running them faster saves."""


def _refuses(call: Call) -> str | None:
    assert isinstance(call.schedule, Tree)
    if call.schedule.group is not None:
        return "a tree over several processes exchanges states between its rounds"
    return None


def _slower(call: Call) -> str | None:
    if call.x.shape[0] * call.x.shape[1] < FEWEST_TOKENS:
        return f"for fewer than {FEWEST_TOKENS} tokens its preparation takes longer than it saves"
    return SLOWER if is_transformed(call) else None


def _native_refuses(call: Call) -> str | None:
    if isinstance(call.x, FakeTensor):
        return (
            "a tree's merges are written down as numbers, and there are none while shapes alone run"
        )
    form = form_of(call.cell)
    if form is None:
        return f"it is written for the gated merge, and this one is {_merging(call.cell)!r}"
    reason = native_refuses(call, form.dtypes) or _refuses(call)
    if reason is None and any(w.dtype != call.x.dtype for w in call.weights.values()):
        reason = "weights and input differ in dtype"
    return reason


def _shared_refuses(call: Call) -> str | None:
    reason = _refuses(call)
    if reason is None and is_transformed(call):
        reason = "under vmap and forward mode values cannot be compared"
    if reason is None and _leaves(call) is None:
        reason = "the tokens differ too much, or need gradients of their own, to merge equal ones"
    return reason


def _leaves(call: Call) -> tuple[Tensor, Tensor] | None:
    """Equal tokens: numbers (T, B) and places, if blocks of them are to be merged once.

    Where the input wants a gradient every token's is another, so nothing is shared; under vmap and
    forward mode, and where a mode replaces operators, values cannot be compared.
    """
    if call.x.requires_grad and torch.is_grad_enabled():
        return None
    if is_transformed(call) or isinstance(call.x, FakeTensor):
        return None
    return program.equal_tokens(call.x)


def _run(call: Call, native: bool) -> tuple[Any, State]:
    cell, w = call.cell, call.weights
    assert isinstance(cell, MergeCell)
    leaves = _leaves(call)
    shared = leaves is not None
    if leaves is None and call.lengths is not None:
        leaves = program.tokens_alone(call.x.shape[0], call.lengths)
    numbers, places = (None, None) if leaves is None else leaves
    merges = program.program_of(call, numbers, shared)
    x = call.x.flatten(0, 1)
    x = x if places is None else x.index_select(0, places)
    carried = program.carried_rows_of(call)
    rounds = merges.left, merges.right
    if not native:
        pool = program.execute(cell, w, x, carried, *rounds, merges.ends)
        return program.answer(call, merges, program.taken(merges.wanted(call.carry), pool))
    names = names_of(sum(name.startswith("weight_") for name in w))
    wanted = merges.wanted(call.carry)
    present = tuple(name in w for name in names)
    computation = _Merging(cell, carried is not None, present, len(wanted), product_dtype(call))
    given = [w[name] for name in names if name in w]
    tensors = [x, *(carried or ()), *given, *rounds, merges.round_end, *wanted]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        tensors += merges.uses
        tensors += [tensor for of_part in merges.places[: len(wanted)] for tensor in of_part]
    found, F = run(computation, tensors), computation.form.fields
    parts = [cell.state_type(*found[at : at + F]) for at in range(0, len(found), F)]
    return program.answer(call, merges, parts)


@lru_cache(maxsize=16)
def names_of(matrices: int) -> tuple[str, ...]:
    """Leaf, merge and the refinements, a matrix and a bias each."""
    parts = ["leaf", "merge", *(f"refine{r}" for r in range(matrices - 2))]
    return tuple(f"{kind}_{part}" for part in parts for kind in ("weight", "bias"))


@dataclass(frozen=True)
class _Merging(native_tree.Merging):
    """A cell's merges, known by its value."""

    cell: MergeCell
    carries: bool
    present: tuple[bool, ...]
    parts: int
    dtype: torch.dtype

    @property
    def form(self) -> native_tree.Form:
        return _FORMS[type(self.cell)]

    def by_operators(self, given: native_tree.Given) -> list[Tensor]:
        names = names_of(len(given.weights) // 2)
        weights = {n: t for n, t in zip(names, given.weights, strict=True) if t is not None}
        carried = self.cell.state_type(*given.carried) if self.carries else None
        rounds = given.left, given.right, given.round_end.tolist()
        low = self.dtype != given.x.dtype
        with torch.autocast("cpu", self.dtype if low else None, enabled=low):
            pool = program.execute(self.cell, weights, given.x, carried, *rounds)
        return [field for part in program.taken(given.wanted, pool) for field in part]


def _note(call: Call) -> str:
    leaves = _leaves(call)
    if leaves is None:
        return ""
    shared, alone = (
        program.program_of(call, *given).merges for given in ((leaves[0], True), (None, False))
    )
    return f", equal blocks merged once: {shared:,} of {alone:,} merges"


_CELLS: dict[str, type[MergeCell]] = {"pr-lstm": PRLSTMCell, "pr-rnn": PRRNNCell}
_FORMS: dict[type[Cell], native_tree.Form] = {
    PRLSTMCell: native_tree.PR_LSTM,
    PRRNNCell: native_tree.PR_RNN,
}


def form_of(cell: Cell) -> native_tree.Form | None:
    """How the kernel knows this cell, if it does."""
    return _FORMS.get(type(cell)) if _merging(cell) == "gated" else None


def _merging(cell: Cell) -> str:
    return cell.merging if isinstance(cell, PRLSTMCell) else "gated"


KERNELS = (
    *(
        Kernel(
            f"native-{name}",
            cell,
            Tree,
            _native_refuses,
            partial(_run, native=True),
            _slower,
            _note,
        )
        for name, cell in _CELLS.items()
    ),
    *(
        Kernel(
            f"shared-{name}",
            cell,
            Tree,
            _shared_refuses,
            partial(_run, native=False),
            _slower,
            _note,
        )
        for name, cell in _CELLS.items()
    ),
)
