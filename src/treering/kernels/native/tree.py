"""PR-LSTM along a program of merges, in C++: forward and backward, all rounds in one call each.

Legend: N leaves from the input, C carried rows, M merges, I input, H hidden, R refinements.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from treering.kernels.native import library

_P = ctypes.c_void_p
_S = ctypes.c_size_t


class _Call(ctypes.Structure):
    """`TreeCall` in tree.h, field by field."""

    _fields_ = (
        *((name, _S) for name in ("given", "N", "M", "I", "H")),
        *((name, ctypes.c_int) for name in ("refinements", "threads")),
        ("rounds", _S),
        *((name, _P) for name in ("round_end", "left", "right", "x")),
        *((name, _P) for name in ("w_leaf", "b_leaf", "w_merge", "b_merge")),
        *((name, _P) for name in ("w_refine", "b_refine", "h", "c")),
        *((name, _P) for name in ("leaf_gates", "merge_gates", "refine_gates")),
        *((name, _P) for name in ("inner_h", "inner_c")),
    )


class _Back(ctypes.Structure):
    """`TreeBack` in tree.h, field by field."""

    _fields_ = tuple(
        (name, _P)
        for name in (
            *("use_begin", "uses", "dh", "dc", "dh_left", "dh_right", "dc_left", "dc_right"),
            *("dx", "dh_leaf", "dc_leaf", "dw_leaf", "db_leaf", "dw_merge", "db_merge"),
            *("dw_refine", "db_refine"),
        )
    )


library.declare("tr_tree_forward", TreeCall=_Call)
library.declare("tr_tree_backward", TreeCall=_Call, TreeBack=_Back)


class Merges(NamedTuple):
    """Which rows of the pool are merged, and when.

    rows: before the first merge, N + C. left, right: (M,) int32 rows below the merge's own.
    round_end: int64, merges done after each round; the operands of a round are older than it.
    uses: for each row of the pool where its uses begin, and the uses, `2 * merge + side`; asked
        for by the backward pass alone.
    """

    rows: int
    left: Tensor
    right: Tensor
    round_end: Tensor
    uses: Callable[[], tuple[Tensor, Tensor]]


Reference = Callable[[Tensor, Any, Sequence[Tensor | None]], tuple[Tensor, Tensor]]
"""The same pool by differentiable operators: (x, carried (h, c) or None, weights) -> h, c."""


def merge_all(
    x: Tensor,
    carried: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor | None],
    merges: Merges,
    reference: Reference,
) -> tuple[Tensor, Tensor]:
    """The pool (N + C + M, H) of h and c: leaves of x (N, I), carried rows (C, H), merges.

    weights: leaf, merge, then each refinement, a matrix and a bias or None each; gate order and
    shapes as in `cells/pr_lstm.py`. float32, on the CPU. The first backward pass is the kernel's;
    a second one through the same graph, and derivatives of it, run the reference.
    """
    h, c = carried if carried is not None else (None, None)
    inputs = [None if t is None else t.contiguous() for t in (x, h, c, *weights)]
    return _MergeAll.apply(merges, reference, *inputs)


class _MergeAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        merges: Merges,
        reference: Reference,
        x: Tensor,
        carried_h: Tensor | None,
        carried_c: Tensor | None,
        *weights: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        N, M = len(x), len(merges.left)
        H, R = _sizes(weights)
        pools = []
        for carried in (carried_h, carried_c):
            pool = x.new_empty(merges.rows + M, H)
            if carried is not None:
                pool[N : merges.rows] = carried
            pools.append(pool)
        kept = None
        if any(ctx.needs_input_grad):
            shapes = ((N, 3, H), (M, 5, H), (R, M, 4, H), (R, M, H), (R, M, H))
            kept = [x.new_empty(shape) for shape in shapes]
        call = _describe(merges, x, weights, pools, kept)
        library.load().tr_tree_forward(call.structure)
        if kept is not None:
            ctx.set_materialize_grads(False)
            ctx.merges, ctx.reference, ctx.kept = merges, reference, kept
            ctx.save_for_backward(*pools, x, carried_h, carried_c, *weights)
        return pools[0], pools[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        *pools, x = ctx.saved_tensors[:3]
        weights = ctx.saved_tensors[5:]
        if torch.is_grad_enabled() or ctx.kept is None:
            return (None, None, *_by_reference(ctx, grads))
        merges: Merges = ctx.merges
        # The gates that were kept become their gradients.
        kept, ctx.kept = ctx.kept, None
        N, M = len(x), len(merges.left)
        H, _ = _sizes(weights)
        call = _describe(merges, x, weights, pools, kept)
        grads = tuple(None if g is None else g.contiguous() for g in grads)
        sides = [x.new_empty(M, H) for _ in range(4)]
        of_leaves = [x.new_empty(merges.rows, H) for _ in range(2)]
        _, _, needs_x, needs_h, needs_c, *needed = ctx.needs_input_grad
        dx = torch.empty_like(x) if needs_x else None
        dw = [
            torch.zeros_like(w) if w is not None and need else None
            for w, need in zip(weights, needed, strict=True)
        ]
        begin, uses = merges.uses()
        refine_w, refine_b = _pointers(dw[4::2]), _pointers(dw[5::2])
        back = _Back(
            *map(_at, (begin, uses, *grads, *sides, dx, *of_leaves, *dw[:4])),
            ctypes.cast(refine_w, _P),
            ctypes.cast(refine_b, _P),
        )
        library.load().tr_tree_backward(call.structure, back)
        carried = [
            rows[N:] if need else None
            for rows, need in zip(of_leaves, (needs_h, needs_c), strict=True)
        ]
        return (None, None, dx, *carried, *dw)


def _by_reference(ctx: Any, grads: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
    """Gradients of x, carried h and c, and the weights, themselves differentiable."""
    given = ctx.saved_tensors[2:]
    needed = ctx.needs_input_grad[2:]
    with torch.enable_grad():
        # Views, so that what is asked for is the gradient along this path alone.
        inputs = [
            None if t is None else t.view_as(t) if need else t.detach()
            for t, need in zip(given, needed, strict=True)
        ]
        x, h, c, *weights = inputs
        outputs = ctx.reference(x, None if h is None else (h, c), weights)
        reached = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in reached],
                [t for t, need in zip(inputs, needed, strict=True) if t is not None and need],
                [g for _, g in reached],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )
    for need in needed:
        yield next(found) if need else None


@dataclass(frozen=True)
class _Description:
    """The structure and what its pointers point to, which must live as long."""

    structure: _Call
    held: tuple[Any, ...]


def _describe(
    merges: Merges,
    x: Tensor,
    weights: Sequence[Tensor | None],
    pools: Sequence[Tensor],
    kept: Sequence[Tensor] | None,
) -> _Description:
    H, R = _sizes(weights)
    refine_w, refine_b = _pointers(weights[4::2]), _pointers(weights[5::2])
    structure = _Call(
        *(len(x), merges.rows, len(merges.left), x.shape[1], H),
        *(R, torch.get_num_threads(), len(merges.round_end)),
        *map(_at, (merges.round_end, merges.left, merges.right, x, *weights[:4])),
        *(ctypes.cast(refine_w, _P), ctypes.cast(refine_b, _P)),
        *map(_at, (*pools, *(kept or (None,) * 5))),
    )
    return _Description(structure, (merges, x, weights, pools, kept, refine_w, refine_b))


def _sizes(weights: Sequence[Tensor | None]) -> tuple[int, int]:
    """H and R, from leaf, merge and refinements, a matrix and a bias each."""
    leaf = weights[0]
    assert leaf is not None
    return leaf.shape[0] // 3, len(weights) // 2 - 2


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (_P * max(len(tensors), 1))(*map(_at, tensors))
