"""One token through step cells, with as few checks as keep it right.

Legend: B batch, L layers, I input, H hidden.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import Cell
from treering.dispatch.choice import AUTO, asked
from treering.dispatch.steps import form_of
from treering.kernels.native import library
from treering.kernels.native import step as native_step


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

    state: fields (L, B, H). None where the token must take that way: every doubt leads to it.
    """
    form = form_of(cell)
    if (
        form is None
        or form.block_size
        or torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or _get_current_dispatch_mode_stack()
        or asked() != AUTO
        or len(state) != 1 + form.memory
    ):
        return None
    loaded = library.at_hand()
    if loaded is None:
        return None
    L, H = len(weights), cell.hidden_size
    B, I = x.shape  # noqa: E741
    tensors = (x, *state, *(weight for of_layer in weights for weight in of_layer.values()))
    for tensor in tensors:
        if (
            type(tensor) not in _PLAIN
            or tensor.dtype is not torch.float32
            or not (tensor.is_cpu and tensor.is_contiguous())
            or tensor.is_neg()
        ):
            return None
    if not 0 < B <= MOST_ROWS_AT_ONCE:
        return None
    # Loops, where `any` would take twice as long.
    for field in state:
        if field.shape != (L, B, H):
            return None
    for level, of_layer in enumerate(weights):
        expected = _shapes(cell, H if level else I)
        for name, weight in of_layer.items():
            if weight.shape != expected[name]:
                return None
    y, last = native_step.once(loaded.tr_step_once, form, x, state, weights)
    return y, HiddenCell(*last) if form.memory else Hidden(*last)
