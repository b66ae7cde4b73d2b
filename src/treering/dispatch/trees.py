"""Merging cells along a tree: in C++, and with equal blocks merged once.

Legend: B batch, T time.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from treering._types import State
from treering.cells.abstract import Cell, MergeCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.cells.pr_rnn import PRRNNCell
from treering.dispatch.kernel import Kernel, is_transformed, native_refuses
from treering.kernels.native import tree as native_tree
from treering.schedules.abstract import Call
from treering.schedules.tree import Tree, program

FEWEST_TOKENS = 16
"""Below this many, writing a tree's merges down costs more than running them faster saves."""


def _refuses(call: Call) -> str | None:
    assert isinstance(call.schedule, Tree)
    if call.schedule.group is not None:
        return "a tree over several processes exchanges states between its rounds"
    if call.x.shape[0] * call.x.shape[1] < FEWEST_TOKENS:
        return f"for fewer than {FEWEST_TOKENS} tokens its preparation takes longer than it saves"
    return None


def _native_refuses(call: Call) -> str | None:
    reason = native_refuses(call) or _refuses(call)
    if reason is None and is_transformed(call):
        reason = "it has no rule for vmap and forward mode"
    if reason is None and _get_current_dispatch_mode_stack():
        reason = "a mode that counts or replaces PyTorch's operators would not see it"
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

    Where the input wants a gradient every token's is another, so nothing is shared.
    """
    if call.x.requires_grad and torch.is_grad_enabled():
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
    if not native:
        pool = program.execute(cell, w, x, carried, merges)
        return program.answer(call, merges, program.taken(merges, pool, call.carry))
    parts = ["leaf", "merge", *(f"refine{r}" for r in range(len(w) // (1 + cell.bias) - 2))]
    names = [f"{kind}_{part}" for part in parts for kind in ("weight", "bias")]

    def reference(x: Tensor, carried: Any, given: Any) -> tuple[Tensor, ...]:
        weights = {n: t for n, t in zip(names, given, strict=True) if t is not None}
        state = None if carried is None else cell.state_type(*carried)
        pool = program.execute(cell, weights, x, state, merges)
        return tuple(f for part in program.taken(merges, pool, call.carry) for f in part)

    given = [w.get(name) for name in names]
    rounds = native_tree.Merges(
        *(merges.rows, merges.left, merges.right, merges.round_end),
        *(lambda: merges.uses, merges.wanted(call.carry), merges.places),
    )
    found = native_tree.merge_all(_FORMS[type(cell)], x, carried, given, rounds, reference)
    F = len(cell.state_type._fields)
    parts = [cell.state_type(*found[at : at + F]) for at in range(0, len(found), F)]
    return program.answer(call, merges, parts)


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

KERNELS = (
    *(
        Kernel(
            f"native-{name}", cell, Tree, _native_refuses, partial(_run, native=True), note=_note
        )
        for name, cell in _CELLS.items()
    ),
    *(
        Kernel(
            f"shared-{name}", cell, Tree, _shared_refuses, partial(_run, native=False), note=_note
        )
        for name, cell in _CELLS.items()
    ),
)
