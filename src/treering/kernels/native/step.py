"""Step cells along whole sequences, in C++: forward and backward in one call each.

Legend: B batch, T time, I input, H hidden, S gate blocks.
"""

import ctypes
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from treering.kernels.native import library, room
from treering.kernels.native.computation import Computation, Shapes
from treering.kernels.native.step_forms import Form, Parts, Weights

_P = ctypes.c_void_p
_S = ctypes.c_size_t
_I = ctypes.c_int32
_L = ctypes.c_int64
_F = ctypes.c_float


class _Weights(ctypes.Structure):
    """`StepWeights` in step.h, field by field."""

    _fields_ = tuple((name, _P) for name in ("w_x", "w_h", "bias", "extra"))


class _StepCall(ctypes.Structure):
    """`StepCall` in step.h."""

    _fields_ = (
        *((name, _S) for name in ("T", "B", "I", "H")),
        *((name, _I) for name in ("kind", "options", "threads", "by_units")),
        *(("x", _P), ("x_time", _L), ("x_row", _L)),
        *((name, _P) for name in ("lengths", "places", "reset")),
        ("weights", _Weights),
        *((name, _P) for name in ("h_first", "c_first", "y", "c")),
        *(("c_time", _L), ("kept", _P), ("kept_size", _L)),
        *((name, _P) for name in ("h_last", "c_last")),
        ("block_size", _L),
        *((name, _P) for name in ("start_first", "steps_first", "start_last", "steps_last")),
        ("zoneout", _F),
    )


class _StepBack(ctypes.Structure):
    """`StepBack` in step.h."""

    _fields_ = (
        *(("dy", _P), ("dy_time", _L), ("dy_row", _L)),
        *((name, _P) for name in ("dh_last", "dc_last", "dstart_last", "dx")),
        *((name, _P) for name in ("dh_first", "dc_first", "dstart_first")),
        *((name, _P) for name in ("dw_x", "dw_h", "dbias", "dextra")),
    )


library.declare("tr_step_forward", StepCall=_StepCall)
library.declare("tr_step_once", _I, _I, _F, _S, _S, _S, *[_P] * 17, _S, _F)
library.declare("tr_step_backward", StepCall=_StepCall, StepBack=_StepBack)


class Sequences(Computation):
    """A step cell along whole sequences: x (T, B, I), the state, the weights by name.

    names: the weights'. fields: tensors of the state, h (B, H), c, and with blocks their start and
    the steps since then. lengths, reset: whether there are lengths (B,) int64 and a reset mask
    (T, B) bool. Tensors follow each other in this order. All float32, on the CPU. Outputs: y
    (T, B, H), anything past a sequence's length, and each sequence's last state.
    """

    names: tuple[str, ...]
    fields: int
    lengths: bool
    reset: bool

    @property
    @abstractmethod
    def form(self) -> Form:
        """The cell as the kernel knows it."""

    @abstractmethod
    def by_operators(self, given: "Given") -> list[Tensor]:
        """The same outputs by differentiable operators."""

    @property
    def outputs(self) -> int:
        return 1 + self.fields

    def given(self, tensors: Sequence[Tensor]) -> "Given":
        x, *rest = tensors
        state, rest = rest[: self.fields], rest[self.fields :]
        weights = dict(zip(self.names, rest, strict=False))
        rest = rest[len(weights) :]
        lengths = rest.pop(0) if self.lengths else None
        return Given(x, state, weights, lengths, rest.pop(0) if self.reset else None)

    def reference(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return self.by_operators(self.given(tensors))

    def blank(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        given = self.given(tensors)
        T, B, _ = given.x.shape
        H = given.state[0].shape[1]
        found = [
            given.x.new_empty(T, B, H),
            *(field.new_empty(field.shape) for field in given.state),
        ]
        kept = []
        if keep:
            # Gates last: what was kept of them becomes the gradients of the pre-activations.
            kept = [room.empty((T, B, H), given.x)] if self.form.memory else []
            kept += [room.empty((T, B, self.form.row_size(H)), given.x)]
        return found, kept

    def forward(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        given = self.given(tensors)
        outputs, kept = self.blank(tensors, keep)
        c = None
        if self.form.memory:
            c = kept[0] if keep else torch.empty_like(outputs[1])
        call, _held = _call(self.form, given, self.form.parts(given.weights), outputs, kept, c)
        library.load().tr_step_forward(call)
        return outputs, kept

    def backward(
        self,
        grads: Sequence[Tensor | None],
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        wanted: Sequence[bool],
    ) -> list[Tensor]:
        given, form = self.given(tensors), self.form
        needs_x, *needed = wanted
        with torch.enable_grad():
            weights = {
                name: weight.detach().requires_grad_(need)
                for (name, weight), need in zip(
                    given.weights.items(), needed[self.fields :], strict=False
                )
            }
            parts = form.parts(weights)
        blank = torch.empty_like if given.lengths is None else torch.zeros_like
        dx = blank(given.x, memory_format=torch.contiguous_format) if needs_x else None
        of_state = [torch.empty(field.shape) for field in given.state]
        of_parts = [
            None if p is None or not p.requires_grad else torch.empty(p.shape) for p in parts
        ]
        call, _held = _call(form, given, parts, outputs, kept, kept[0] if form.memory else None)
        dy = None if grads[0] is None else _rows(grads[0])
        of_last = [_dense(grad) for grad in grads[1:]]
        back = _StepBack(
            *(_at(dy), *((0, 0) if dy is None else dy.stride()[:2])),
            *map(_at, _fields(form, of_last)[:3]),
            *map(_at, (dx, *_fields(form, of_state)[:3], *of_parts)),
        )
        library.load().tr_step_backward(call, back)
        reached = [(p, g) for p, g in zip(parts, of_parts, strict=True) if g is not None]
        trained = [weight for weight in weights.values() if weight.requires_grad]
        of_weights: Sequence[Tensor] = ()
        if trained:
            through, reaching = zip(*reached, strict=True)
            of_weights = torch.autograd.grad(through, trained, reaching)
        of_state = [grad for grad, need in zip(of_state, needed, strict=False) if need]
        # A gradient of a part that is a weight itself is that weight's.
        return [*([] if dx is None else [dx]), *of_state, *of_weights]

    def operations(self, shapes: Shapes) -> int:
        (T, B, _), *rest = shapes
        weights = rest[self.fields : self.fields + len(self.names)]
        return 2 * T * B * sum(math.prod(shape) for shape in weights if len(shape) == 2)

    def folded(
        self, tensors: Sequence[Tensor], dims: Sequence[int | None], size: int
    ) -> list[Tensor] | None:
        of_weights = slice(1 + self.fields, 1 + self.fields + len(self.names))
        if any(dim is not None for dim in dims[of_weights]):
            return None
        # The batch is the axis of x and reset after time, and the first one of all others.
        axes = [1, *[0] * (len(tensors) - 1)]
        if self.reset:
            axes[-1] = 1
        found = []
        for place, (tensor, dim, axis) in enumerate(zip(tensors, dims, axes, strict=True)):
            if of_weights.start <= place < of_weights.stop:
                found.append(tensor)
                continue
            stacked = (
                tensor.unsqueeze(axis).expand(*tensor.shape[:axis], size, *tensor.shape[axis:])
                if dim is None
                else tensor.movedim(dim, axis)
            )
            found.append(stacked.flatten(axis, axis + 1))
        return found

    def unfolded(self, outputs: Sequence[Tensor], size: int) -> list[Tensor]:
        y, *last = outputs[: self.outputs]
        return [
            y.unflatten(1, (size, -1)).movedim(1, 0),
            *(field.unflatten(0, (size, -1)) for field in last),
        ]


class Given(NamedTuple):
    """The tensors of a call of `Sequences`, apart."""

    x: Tensor
    state: Sequence[Tensor]
    weights: dict[str, Tensor]
    lengths: Tensor | None
    reset: Tensor | None


def once(
    one_step: Any, form: Form, x: Tensor, state: Sequence[Tensor], weights: Sequence[Weights]
) -> tuple[Tensor, list[Tensor]]:
    """One token through layers that lie on each other, without gradients and at little expense.

    x: (B, I); state: h (L, B, H), and c; weights: each layer's. All contiguous, float32, on the
    CPU. one_step: the library's function. Returns h of the last layer (B, H) and the state after
    the token.
    """
    _, B, H = state[0].shape
    y = x.new_empty(len(weights), B, H)
    last = [torch.empty_like(field) for field in state]
    apart = 4 * B * H
    before, after = [f.data_ptr() for f in state], [f.data_ptr() for f in last]
    entering, I, leaving = x.data_ptr(), x.shape[1], y.data_ptr()  # noqa: E741
    for of_layer in weights:
        # The tensors must live until the kernel is done, so they have a name.
        found = _joined(form, of_layer) if form.joined else [of_layer.get(n) for n in _APART]
        alpha = found[-1]
        one_step(
            *(form.kind, form.options, form.zoneout, B, I, H, entering, before[0], before[-1]),
            *(leaving, after[0], after[-1], *[t if t is None else t.data_ptr() for t in found]),
            *(0 if alpha is None else alpha.numel(), form.alpha),
        )
        entering, I, leaving = leaving, H, leaving + apart  # noqa: E741
        before, after = [at + apart for at in before], [at + apart for at in after]
    return y[-1], last


_APART = (
    *("weight_ih", "weight_hh", "weight_relu_ih", "weight_relu_hh", "bias_ih", "bias_hh"),
    *("", "", "gate_scale", "gate_bias", "alpha"),
)
"""A cell's weights as `OnceWeights` of step_forward.h takes them, those that it has."""


def _joined(form: Form, weights: Weights) -> list[Tensor | None]:
    """The same from `Parts`, where a weight of the cell is no block of the kernel's."""
    w_x, w_h, bias, extra = form.parts(weights)
    return [w_x, w_h, None, None, None, None, bias, extra, None, None, None]


def _call(
    form: Form,
    given: Given,
    parts: Parts,
    outputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    c: Tensor | None,
) -> tuple[_StepCall, Any]:
    """The structure, and what its pointers point to, which must live as long.

    c: after every token where backward wants it, else where the last one's goes.
    """
    x, first = _rows(given.x), [_dense(field) for field in given.state]
    T, B, I = x.shape  # noqa: E741
    y, *last = outputs
    H = y.shape[2]
    order = (None, None)
    if given.lengths is not None:
        order = given.lengths.sort(descending=True, stable=True)
    reset = None if given.reset is None else given.reset.contiguous()
    matrices = [_dense(part) for part in parts]
    h, c_first, start, steps = _fields(form, first)
    h_last, c_last, start_last, steps_last = _fields(form, last)
    structure = _StepCall(
        *(T, B, I, H, form.kind, form.options, *_shared_by(form, T, B, I, H)),
        *(_at(x), *x.stride()[:2]),
        *map(_at, (*order, reset)),
        _Weights(*map(_at, matrices)),
        *map(_at, (h, c_first, y, c)),
        *(B * H if c is not None and c.dim() == 3 else 0,),
        *((_at(kept[-1]), kept[-1].stride(1)) if kept else (None, 0)),
        *map(_at, (h_last, c_last)),
        *(form.block_size, *map(_at, (start, steps, start_last, steps_last))),
        form.zoneout,
    )
    return structure, (x, first, order, reset, matrices, outputs, kept, c)


ENOUGH_FOR_THREADS = 2_000_000
"""Multiply-adds of a call below which threads cost more than they bring; about 20 us."""
ENOUGH_FOR_A_STEP = 200_000
"""Multiply-adds of one step below which threads that meet after every step do."""


def _shared_by(form: Form, T: int, B: int, I: int, H: int) -> tuple[int, bool]:  # noqa: E741
    """How many threads work, and whether they share the units of H rather than the batch."""
    threads, a_step = torch.get_num_threads(), B * (I + H) * 4 * H
    if T * a_step < ENOUGH_FOR_THREADS:
        return 1, False
    if threads * 4 <= B:
        return threads, False
    return (threads, True) if a_step >= ENOUGH_FOR_A_STEP else (1, False)


def _rows(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where the numbers of a row do not lie side by side."""
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.resolve_neg().contiguous()


def _fields(form: Form, state: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """h, c, the block's start and its steps, None for what is not there."""
    left = iter(state)
    wanted = (True, form.memory, form.block_size > 0, form.block_size > 0)
    return tuple(next(left, None) if there else None for there in wanted)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
