"""Merging cells along a program of merges, in C++: forward and backward, a call each.

Legend: N leaves from the input, C carried rows, M merges, I input, H hidden, R refinements.
"""

import ctypes
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from treering.kernels.native import library, room
from treering.kernels.native.computation import Computation, Shapes

_P = ctypes.c_void_p
_S = ctypes.c_size_t


class _Wanted(ctypes.Structure):
    """`TreeWanted` in tree.h, field by field."""

    _fields_ = (("count", _S), *((name, _P) for name in ("rows", "h", "c")))


class _Call(ctypes.Structure):
    """`TreeCall` in tree.h, field by field."""

    _fields_ = (
        *((name, _S) for name in ("given", "N", "M", "I", "H")),
        *((name, ctypes.c_int) for name in ("kind", "refinements", "threads")),
        ("rounds", _S),
        *((name, _P) for name in ("round_end", "left", "right", "x")),
        *((name, _P) for name in ("w_leaf", "b_leaf", "w_merge", "b_merge")),
        *((name, _P) for name in ("w_refine", "b_refine", "h", "c", "slots")),
        *(("parts", _S), ("wanted", ctypes.POINTER(_Wanted))),
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


_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}
for _suffix in _SUFFIX.values():
    library.declare(f"tr_tree_forward{_suffix}", TreeCall=_Call)
    library.declare(f"tr_tree_backward{_suffix}", TreeCall=_Call, TreeBack=_Back)
library.declare("tr_tree_once", ctypes.c_int, ctypes.c_int, *[_S] * 5, *[_P] * 17)


class Form(NamedTuple):
    """A cell of tree_cells.h.

    kind: its number in `with_merging_cell`. leaf_gates: rows of a leaf's matrix, in H. fields:
    tensors that a state has. kept: what training keeps of a merge, in H. dtypes: what its products
    can be computed in.
    """

    kind: int
    leaf_gates: int
    fields: int
    kept: int
    dtypes: tuple[torch.dtype, ...]

    def slot(self, dtype: torch.dtype) -> int:
        """`tree_slot` in tree.h: room for what is kept, and then for the operands' gradients."""
        of_c = 2 * torch.float32.itemsize // dtype.itemsize
        return max(self.kept, 2 + of_c if self.fields > 1 else 2)

    def dtypes_of_fields(self, dtype: torch.dtype) -> tuple[torch.dtype, ...]:
        """Of h, which is multiplied in `dtype`, and of c."""
        return (dtype, torch.float32)[: self.fields]


PR_LSTM = Form(0, leaf_gates=3, fields=2, kept=5, dtypes=(torch.float32, torch.bfloat16))
PR_RNN = Form(1, leaf_gates=1, fields=1, kept=1, dtypes=(torch.float32, torch.bfloat16))


class Given(NamedTuple):
    """The tensors of a call of `Merging`, apart.

    left, right: (M,) int32 rows below the merge's own. round_end: int64, merges done after each
    round; the operands of a round are older than it. wanted: rows of the pool that are asked for,
    (K,) int64 each, -1 for none.
    For backward alone: uses, for each row of the pool where its uses begin, and the uses,
    `2 * merge + side`; places, of each of `wanted`, for each row where its places begin, and the
    places in K.
    """

    x: Tensor
    carried: Sequence[Tensor]
    weights: Sequence[Tensor | None]
    left: Tensor
    right: Tensor
    round_end: Tensor
    wanted: Sequence[Tensor]
    uses: Sequence[Tensor]
    places: Sequence[Sequence[Tensor]]


class Merging(Computation):
    """A pool of states: leaves of x (N, I), carried rows (C, H) a field, then merges.

    Tensors: x; carried fields, if `carries`; the weights that are `present`, of leaf, merge, then
    each refinement, a matrix and a bias each, gate order and shapes as in the cell's file; and
    `Given`'s others. On the CPU. Outputs: for each of the `parts` that are wanted every field of
    its rows of the pool (K, H), 0 where there is none, in the dtype of x.

    dtype: one of the form's, of h and of what is multiplied; what comes in another one is rounded.
    Products are summed in float32, and c is float32.

    Memory of training: the pool and `form.slot` rows a merge; what else the backward pass needs
    is computed again, which is the refinements' and the leaves' products once more.
    """

    carries: bool
    present: tuple[bool, ...]
    parts: int
    dtype: torch.dtype

    @property
    @abstractmethod
    def form(self) -> Form:
        """The cell as the kernel knows it."""

    @abstractmethod
    def by_operators(self, given: Given) -> list[Tensor]:
        """The same pool by differentiable operators."""

    @property
    def outputs(self) -> int:
        return self.form.fields * self.parts

    def given(self, tensors: Sequence[Tensor]) -> Given:
        x, *rest = tensors
        fields = self.form.fields if self.carries else 0
        carried, left = rest[:fields], iter(rest[fields:])
        weights = [next(left) if there else None for there in self.present]
        rounds = next(left), next(left), next(left)
        wanted, (*uses,) = [next(left) for _ in range(self.parts)], left
        places = [uses[at : at + 2] for at in range(2, len(uses), 2)]
        return Given(x, carried, weights, *rounds, wanted, uses[:2], places)

    def reference(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self.by_operators(self.given(tensors))

    def blank(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        given = self.given(tensors)
        H, _ = _sizes(self.form, given.weights)
        found = [
            given.x.new_empty(rows.shape[0], H)
            for rows in given.wanted
            for _ in range(self.form.fields)
        ]
        if not keep:
            return found, []
        M, slot = len(given.left), self.form.slot(self.dtype)
        return found, [*self._pools(given), room.empty((M, slot, H), given.x, self.dtype)]

    def _pools(self, given: Given) -> list[Tensor]:
        H, _ = _sizes(self.form, given.weights)
        rows = _rows(given) + given.left.shape[0]
        dtypes = self.form.dtypes_of_fields(self.dtype)
        return [room.empty((rows, H), given.x, dtype) for dtype in dtypes]

    def _rounded(self, given: Given) -> Given:
        """With x and the weights as they are multiplied."""
        weights = [None if w is None else w.to(self.dtype) for w in given.weights]
        return given._replace(x=given.x.to(self.dtype), weights=weights)

    def forward(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        given = self.given(tensors)
        kept = self.blank(tensors, keep)[1]
        pools = kept[:-1] or self._pools(given)
        for pool, rows in zip(pools, given.carried, strict=False):
            pool[len(given.x) : _rows(given)] = rows
        call = _describe(self.form, self._rounded(given), pools, kept[-1] if keep else None)
        # By the kernel's threads: PyTorch's would be awake, and in its way at the next call.
        parts = [
            [pool.new_empty(len(rows), pool.shape[1]) for pool in pools] for rows in given.wanted
        ]
        wanted = [
            _Wanted(len(rows), *map(_at, (rows, *_both(part))))
            for rows, part in zip(given.wanted, parts, strict=True)
        ]
        call.structure.parts, call.structure.wanted = len(wanted), (_Wanted * len(wanted))(*wanted)
        getattr(library.load(), f"tr_tree_forward{_SUFFIX[self.dtype]}")(call.structure)
        return [field.to(given.x.dtype) for part in parts for field in part], kept

    def backward(
        self,
        grads: Sequence[Tensor | None],
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        wanted: Sequence[bool],
    ) -> list[Tensor]:
        given = self.given(tensors)
        *pools, slots = kept
        call = _describe(self.form, self._rounded(given), pools, slots)
        dtypes = self.form.dtypes_of_fields(self.dtype) * self.parts
        grads = [
            None if grad is None else grad.to(dtype).contiguous()
            for grad, dtype in zip(grads, dtypes, strict=True)
        ]
        sources = _sources(self.form, given, grads)
        needed = iter(wanted)
        dx = torch.empty(given.x.shape, dtype=self.dtype) if next(needed) else None
        # The kernel writes gradients of carried rows whether or not anybody wants them.
        H, _ = _sizes(self.form, given.weights)
        of_carried = [
            given.x.new_empty(_rows(given) - len(given.x), H, dtype=dtype)
            for dtype in self.form.dtypes_of_fields(self.dtype)
        ]
        carried_wanted = [next(needed) for _ in given.carried]
        dw = [
            torch.empty(w.shape, dtype=torch.float32) if w is not None and next(needed) else None
            for w in given.weights
        ]
        refine_w, refine_b = _pointers(dw[4::2]), _pointers(dw[5::2])
        back = _Back(
            *map(_at, given.uses),
            *(len(sources), sources),
            *map(_at, (dx, *_both(of_carried), *dw[:4])),
            ctypes.cast(refine_w, _P),
            ctypes.cast(refine_b, _P),
        )
        getattr(library.load(), f"tr_tree_backward{_SUFFIX[self.dtype]}")(call.structure, back)
        carried = [d for d, need in zip(of_carried, carried_wanted, strict=False) if need]
        return [d.to(given.x.dtype) for d in (dx, *carried, *dw) if d is not None]

    def operations(self, shapes: Shapes) -> int:
        # In the tensors' order, so that what takes tensors apart takes these apart as well.
        given: Any = self.given(cast(Any, shapes))
        leaf, *merged = (math.prod(matrix) for matrix in given.weights[::2])
        return 2 * (given.x[0] * leaf + given.left[0] * sum(merged))


def once(
    one_token: Any,
    form: Form,
    x: Tensor,
    carried: Sequence[Tensor],
    length: Tensor,
    room_for: int,
    weights: Sequence[Sequence[Tensor | None]],
) -> tuple[Tensor, list[Tensor]]:
    """One token onto balanced trees that lie on each other, without gradients, at little expense.

    x: (B, I); carried: the blocks' fields (L, B, K, H), then the folds'; length: (L, B) tokens
    before; room_for: blocks that the state has room for afterwards; weights: each layer's, in the
    order of `Merging`. All contiguous, float32, on the CPU. one_token: the library's function.
    Returns h of the last layer (B, H) and what is carried on.
    """
    L, B, K, H = carried[0].shape
    y = x.new_empty(L, B, H)
    after = list(x.new_empty(len(carried), L, B, room_for, H).unbind())
    fields, number = form.fields, x.element_size()
    entering, I, leaving = x.data_ptr(), x.shape[1], y.data_ptr()  # noqa: E741
    for level, of_layer in enumerate(weights):
        old, new = (
            [field.data_ptr() + number * level * B * slots * H for field in state]
            for state, slots in ((carried, K), (after, room_for))
        )
        if fields == 1:
            old, new = ([state[0], None, state[1], None] for state in (old, new))
        leaf_and_merge, refinements = of_layer[:4], of_layer[4:]
        one_token(
            *(form.kind, len(refinements) // 2, B, I, H, K, room_for, entering),
            *(length.data_ptr() + length.element_size() * level * B, *old, *new, leaving),
            *map(_at, leaf_and_merge),
            *(_pointers(refinements[::2]), _pointers(refinements[1::2])),
        )
        entering, I, leaving = leaving, H, leaving + number * B * H  # noqa: E741
    return y[-1], after


def _sources(form: Form, given: Given, grads: Sequence[Tensor | None]) -> Any:
    """What reaches each of the wanted parts, where anything does."""
    sources = []
    for part, places in enumerate(given.places):
        of_part = grads[part * form.fields : (part + 1) * form.fields]
        if any(grad is not None for grad in of_part):
            sources.append(_Source(*map(_at, (*places, *_both(of_part)))))
    return (_Source * len(sources))(*sources)


def _rows(given: Given) -> int:
    """Rows of the pool before the first merge."""
    return given.x.shape[0] + (given.carried[0].shape[0] if given.carried else 0)


@dataclass(frozen=True)
class _Description:
    """The structure and what its pointers point to, which must live as long."""

    structure: _Call
    held: tuple[Any, ...]


def _describe(
    form: Form,
    given: Given,
    pools: Sequence[Tensor],
    slots: Tensor | None,
) -> _Description:
    x = given.x.contiguous()
    weights = [None if w is None else w.contiguous() for w in given.weights]
    H, R = _sizes(form, weights)
    refine_w, refine_b = _pointers(weights[4::2]), _pointers(weights[5::2])
    structure = _Call(
        *(len(x), _rows(given), len(given.left), x.shape[1], H),
        *(form.kind, R, torch.get_num_threads(), len(given.round_end)),
        *map(_at, (given.round_end, given.left, given.right, x, *weights[:4])),
        *(ctypes.cast(refine_w, _P), ctypes.cast(refine_b, _P)),
        *map(_at, (*_both(pools), slots)),
        *(0, None),
    )
    return _Description(structure, (given, x, weights, pools, slots, refine_w, refine_b))


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
