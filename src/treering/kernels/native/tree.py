"""Merging cells along a program of merges, in C++: forward and backward, a call each.

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
        *((name, ctypes.c_int) for name in ("kind", "refinements", "threads")),
        ("rounds", _S),
        *((name, _P) for name in ("round_end", "left", "right", "x")),
        *((name, _P) for name in ("w_leaf", "b_leaf", "w_merge", "b_merge")),
        *((name, _P) for name in ("w_refine", "b_refine", "h", "c", "slots")),
    )


class _Source(ctypes.Structure):
    """`TreeSource` in tree.h, field by field."""

    _fields_ = tuple((name, _P) for name in ("begin", "places", "dh", "dc"))


class _Back(ctypes.Structure):
    """`TreeBack` in tree.h, field by field."""

    _fields_ = (
        *((name, _P) for name in ("use_begin", "uses")),
        *(("sources", _S), ("source", ctypes.POINTER(_Source))),
        *((name, _P) for name in ("dx", "dh_carried", "dc_carried")),
        *((name, _P) for name in ("dw_leaf", "db_leaf", "dw_merge", "db_merge")),
        *((name, _P) for name in ("dw_refine", "db_refine")),
    )


library.declare("tr_tree_forward", TreeCall=_Call)
library.declare("tr_tree_backward", TreeCall=_Call, TreeBack=_Back)


class Form(NamedTuple):
    """A cell of tree_cells.h.

    kind: its number in `with_merging_cell`. leaf_gates: rows of a leaf's matrix, in H. fields:
    tensors that a state has. slot: `tree_slot` in tree.h, what training keeps of a merge, in H.
    """

    kind: int
    leaf_gates: int
    fields: int
    slot: int


PR_LSTM = Form(kind=0, leaf_gates=3, fields=2, slot=5)
PR_RNN = Form(kind=1, leaf_gates=1, fields=1, slot=2)


class Merges(NamedTuple):
    """Which rows of the pool are merged, and when.

    rows: before the first merge, N + C. left, right: (M,) int32 rows below the merge's own.
    round_end: int64, merges done after each round; the operands of a round are older than it.
    uses: for each row of the pool where its uses begin, and the uses, `2 * merge + side`.
    wanted: rows that are asked for, (K,) int64 each, -1 for none.
    places: of the rows wanted under a number: for each row of the pool where its places begin,
        and the places in K. Like `uses`, asked for by the backward pass alone.
    """

    rows: int
    left: Tensor
    right: Tensor
    round_end: Tensor
    uses: Callable[[], tuple[Tensor, Tensor]]
    wanted: tuple[Tensor, ...]
    places: Callable[[int], tuple[Tensor, Tensor]]


Reference = Callable[[Tensor, Any, Sequence[Tensor | None]], tuple[Tensor, ...]]
"""The same by differentiable operators: (x, carried or None, weights) -> what is wanted."""


def merge_all(
    form: Form,
    x: Tensor,
    carried: Sequence[Tensor] | None,
    weights: Sequence[Tensor | None],
    merges: Merges,
    reference: Reference,
) -> tuple[Tensor, ...]:
    """What is wanted of leaves of x (N, I), carried rows (C, H) a field, and merges.

    Rows of the pool (K, H), 0 where there is none: for each entry of `merges.wanted` every field.

    weights: leaf, merge, then each refinement, a matrix and a bias or None each; gate order and
    shapes as in the cell's file. float32, on the CPU. The first backward pass is the kernel's;
    a second one through the same graph, and derivatives of it, run the reference.

    Memory of training: the pool and `form.slot` rows a merge; what else the backward pass needs
    is computed again, which is the refinements' and the leaves' products once more.
    """
    given = [None] * form.fields if carried is None else carried
    inputs = [None if t is None else t.contiguous() for t in (x, *given, *weights)]
    return _MergeAll.apply(form, merges, reference, *inputs)


class _MergeAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, form: Form, merges: Merges, reference: Reference, *inputs: Tensor | None
    ) -> tuple[Tensor, ...]:
        x, carried, weights = _parts(form, inputs)
        N, M = len(x), len(merges.left)
        H, _ = _sizes(form, weights)
        pools = [x.new_empty(merges.rows + M, H) for _ in range(form.fields)]
        for pool, rows in zip(pools, carried, strict=True):
            if rows is not None:
                pool[N : merges.rows] = rows
        slots = x.new_empty(M, form.slot, H) if any(ctx.needs_input_grad) else None
        call = _describe(form, merges, x, weights, pools, slots)
        library.load().tr_tree_forward(call.structure)
        if slots is not None:
            ctx.set_materialize_grads(False)
            ctx.form, ctx.merges, ctx.reference, ctx.slots = form, merges, reference, slots
            ctx.save_for_backward(*pools, *inputs)
        return tuple(_taken(pool, rows) for rows in merges.wanted for pool in pools)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        form: Form = ctx.form
        merges: Merges = ctx.merges
        pools, inputs = ctx.saved_tensors[: form.fields], ctx.saved_tensors[form.fields :]
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or ctx.slots is None:
            return (None, None, None, *_by_reference(ctx.reference, form, inputs, needed, grads))
        # The slots change.
        slots, ctx.slots = ctx.slots, None
        x, carried, weights = _parts(form, inputs)
        call = _describe(form, merges, x, weights, pools, slots)
        # Held until the call is over.
        grads = tuple(None if g is None else g.contiguous() for g in grads)
        places, sources = _sources(form, merges, grads)
        needs_x, needs_carried, needs_weights = _parts(form, needed)
        dx = torch.empty_like(x) if needs_x else None
        shape = merges.rows - len(x), pools[0].shape[1]
        of_carried = [x.new_empty(shape) for _ in carried]
        dw = [
            torch.zeros_like(w) if w is not None and need else None
            for w, need in zip(weights, needs_weights, strict=True)
        ]
        begin, uses = merges.uses()
        refine_w, refine_b = _pointers(dw[4::2]), _pointers(dw[5::2])
        back = _Back(
            *map(_at, (begin, uses)),
            *(len(sources), sources),
            *map(_at, (dx, *_both(of_carried), *dw[:4])),
            ctypes.cast(refine_w, _P),
            ctypes.cast(refine_b, _P),
        )
        library.load().tr_tree_backward(call.structure, back)
        del places
        dcarried = [d if need else None for d, need in zip(of_carried, needs_carried, strict=True)]
        return (None, None, None, dx, *dcarried, *dw)


def _taken(pool: Tensor, rows: Tensor) -> Tensor:
    """Rows (K, H) of the pool, 0 for the row -1."""
    none = rows < 0
    if not bool(none.any()):
        return pool.index_select(0, rows)
    return pool.index_select(0, rows.clamp(min=0)).masked_fill_(none.unsqueeze(1), 0)


def _sources(form: Form, merges: Merges, grads: Sequence[Tensor | None]) -> tuple[Any, Any]:
    """What reaches each of the wanted parts, where anything does; and the tensors pointed to."""
    held, sources = [], []
    for part in range(len(merges.wanted)):
        of_part = grads[part * form.fields : (part + 1) * form.fields]
        if any(g is not None for g in of_part):
            places = merges.places(part)
            held.append(places)
            sources.append(_Source(*map(_at, (*places, *_both(of_part)))))
    return held, (_Source * len(sources))(*sources)


def _by_reference(
    reference: Reference,
    form: Form,
    given: Sequence[Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> Iterator[Tensor | None]:
    """Gradients of x, the carried rows and the weights, themselves differentiable."""
    with torch.enable_grad():
        # Views, so that what is asked for is the gradient along this path alone.
        inputs = [
            None if t is None else t.view_as(t) if need else t.detach()
            for t, need in zip(given, needed, strict=True)
        ]
        x, carried, weights = _parts(form, inputs)
        outputs = reference(x, None if carried[0] is None else carried, weights)
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
    form: Form,
    merges: Merges,
    x: Tensor,
    weights: Sequence[Tensor | None],
    pools: Sequence[Tensor],
    slots: Tensor | None,
) -> _Description:
    H, R = _sizes(form, weights)
    refine_w, refine_b = _pointers(weights[4::2]), _pointers(weights[5::2])
    structure = _Call(
        *(len(x), merges.rows, len(merges.left), x.shape[1], H),
        *(form.kind, R, torch.get_num_threads(), len(merges.round_end)),
        *map(_at, (merges.round_end, merges.left, merges.right, x, *weights[:4])),
        *(ctypes.cast(refine_w, _P), ctypes.cast(refine_b, _P)),
        *map(_at, (*_both(pools), slots)),
    )
    return _Description(structure, (merges, x, weights, pools, slots, refine_w, refine_b))


def _parts(form: Form, inputs: Sequence[Any]) -> tuple[Any, Sequence[Any], Sequence[Any]]:
    """What belongs to x, to the carried rows and to the weights."""
    x, *others = inputs
    return x, others[: form.fields], others[form.fields :]


def _sizes(form: Form, weights: Sequence[Tensor | None]) -> tuple[int, int]:
    """H and R, from leaf, merge and refinements, a matrix and a bias each."""
    leaf = weights[0]
    assert leaf is not None
    return leaf.shape[0] // form.leaf_gates, len(weights) // 2 - 2


def _both(fields: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """h and c; None for c where a state is h alone."""
    return fields[0], fields[1] if len(fields) > 1 else None


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (_P * max(len(tensors), 1))(*map(_at, tensors))
