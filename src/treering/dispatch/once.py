"""One token through native kernels, with as few checks as keep it right.

Legend: L layers, B batch, I input, H hidden, K blocks that a tree carries.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import Cell, MergeCell
from treering.dispatch import steps, trees
from treering.dispatch.choice import AUTO, asked
from treering.kernels.native import library
from treering.kernels.native import step as native_step
from treering.kernels.native import tree as native_tree
from treering.schedules.tree import TreeState


@lru_cache(maxsize=256)
def _shapes(cell: Cell, input_size: int) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in cell.parameters(input_size).items()}


MOST_ROWS_AT_ONCE = 16
"""Above this many sequences a token is worth packed weights and several threads."""
_PLAIN = (Tensor, torch.nn.Parameter)


def step_once(
    cell: Cell, weights: Sequence[Weights], x: Tensor, state: State
) -> tuple[Tensor, State] | None:
    """One token x (B, I) through the layers of `weights`, without the way through `unroll`.

    state: of the cell's own schedule, fields (L, B, ...). None where the token must take that way:
    every doubt leads to it.
    """
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or _get_current_dispatch_mode_stack()
        or asked() != AUTO
        or not _readable(x)
        or not 0 < x.shape[0] <= MOST_ROWS_AT_ONCE
        or not _fit(cell, weights, x.shape[1])
    ):
        return None
    return (_tree if isinstance(cell, MergeCell) else _step)(cell, weights, x, state)


def _readable(tensor: Tensor) -> bool:
    return (
        type(tensor) in _PLAIN
        and tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.is_contiguous()
        and not tensor.is_neg()
    )


def _fit(cell: Cell, weights: Sequence[Weights], input_size: int) -> bool:
    for of_layer in weights:
        expected = _shapes(cell, input_size)
        for name, weight in of_layer.items():
            if not _readable(weight) or weight.shape != expected[name]:
                return False
        input_size = cell.hidden_size
    return True


def _step(
    cell: Cell, weights: Sequence[Weights], x: Tensor, state: State
) -> tuple[Tensor, State] | None:
    form, shape = steps.form_of(cell), (len(weights), x.shape[0], cell.hidden_size)
    if form is None or form.block_size or len(state) != 1 + form.memory:
        return None
    for field in state:
        if not _readable(field) or field.shape != shape:
            return None
    loaded = library.at_hand()
    if loaded is None:
        return None
    y, last = native_step.once(loaded.tr_step_once, form, x, state, weights)
    return y, HiddenCell(*last) if form.memory else Hidden(*last)


def _tree(
    cell: Cell, weights: Sequence[Weights], x: Tensor, state: State
) -> tuple[Tensor, State] | None:
    form = trees.form_of(cell)
    if form is None or not isinstance(state, TreeState):
        return None
    blocks, folds, length = state
    carried = (*blocks, *folds)
    if len(blocks) != form.fields or len(folds) != form.fields or not _readable(carried[0]):
        return None
    (L, B), K = length.shape, carried[0].shape[-2]
    if (len(weights), x.shape[0]) != (L, B) or not length.is_contiguous():
        return None
    for field in carried:
        if not _readable(field) or field.shape != (L, B, K, cell.hidden_size):
            return None
    counts = length.view(-1).tolist()
    least, most = min(counts), max(counts)
    loaded = library.at_hand()
    # A state that says what cannot be is refused in the other way's words.
    if loaded is None or least < 0 or most.bit_length() > K:
        return None
    names = trees.names_of(sum(name.startswith("weight_") for name in weights[0]))
    y, after = native_tree.once(
        *(loaded.tr_tree_once, form, x, carried, length, max(K, (most + 1).bit_length())),
        [[of_layer.get(name) for name in names] for of_layer in weights],
    )
    half = form.fields
    new_blocks, new_folds = (type(blocks)(*part) for part in (after[:half], after[half:]))
    return y, TreeState(new_blocks, new_folds, length + 1)
