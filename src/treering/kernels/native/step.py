"""Step cells along whole sequences, in C++: forward and backward in one call each.

Legend: B batch, T time, I input, H hidden, S gate blocks.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from treering.kernels.native import library

_P = ctypes.c_void_p
_S = ctypes.c_size_t
_I = ctypes.c_int32
_L = ctypes.c_int64


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
    )


class _StepBack(ctypes.Structure):
    """`StepBack` in step.h."""

    _fields_ = (
        *(("dy", _P), ("dy_time", _L), ("dy_row", _L)),
        *((name, _P) for name in ("dh_last", "dc_last", "dx", "dh_first", "dc_first")),
        *((name, _P) for name in ("dw_x", "dw_h", "dbias", "dextra")),
    )


library.declare("tr_step_forward", StepCall=_StepCall)
library.declare("tr_step_once", _I, _I, _S, _S, _S, *[_P] * 10)
library.declare("tr_step_backward", StepCall=_StepCall, StepBack=_StepBack)


class Parts(NamedTuple):
    """A cell's parameters as the kernel wants them.

    w_x (S * H, I), w_h (S * H, H); bias (S * H,) in the order of the kernel's accumulators;
    extra: what else its step multiplies or adds, rows of H.
    """

    w_x: Tensor
    w_h: Tensor
    bias: Tensor | None = None
    extra: Tensor | None = None


Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Form:
    """One cell as the kernel knows it.

    kind, options: of step.h. kept: blocks of H numbers that it keeps of a token for backward.
    parts: its parameters as differentiable functions of the cell's. memory: whether the state has
    a c beside h.
    """

    kind: int
    kept: int
    parts: Callable[[Weights], Parts]
    options: int = 0
    memory: bool = True


def _added(weights: Weights) -> Tensor | None:
    return weights["bias_ih"] + weights["bias_hh"] if "bias_ih" in weights else None


def _plain_parts(weights: Weights) -> Parts:
    return Parts(weights["weight_ih"], weights["weight_hh"], _added(weights))


def lstm() -> Form:
    """i, f, g, o and a memory."""
    return Form(0, 4, _plain_parts)


def gru() -> Form:
    """r, z, n; x's and h's share of n are accumulated apart."""
    return Form(1, 4, _gru_parts, memory=False)


def _gru_parts(weights: Weights) -> Parts:
    bias = None
    if "bias_ih" in weights:
        (*x_gates, x_n), (*h_gates, h_n) = (
            weights[name].chunk(3) for name in ("bias_ih", "bias_hh")
        )
        both = [a + b for a, b in zip(x_gates, h_gates, strict=True)]
        bias = torch.cat((x_n, *both, h_n))
    return Parts(weights["weight_ih"], weights["weight_hh"], bias)


def rnn(nonlinearity: str) -> Form:
    """One map and "tanh" or "relu"."""
    return Form(2, 1, _plain_parts, options=nonlinearity == "relu", memory=False)


def ql_lstm(blocks: int, skip: str, alpha: float, bounded: bool) -> Form:
    """Four gates from 1, 2 or 4 shared blocks; skip is "learned", "fixed", "channel" or "none"."""

    def parts(weights: Weights) -> Parts:
        w_hh = weights["weight_hh"]
        H = w_hh.shape[1]
        scale = weights.get("gate_scale")
        shift = weights.get("gate_bias")
        if "alpha" not in weights:
            past = w_hh.new_full((1,), alpha)
        else:
            past = torch.sigmoid(weights["alpha"]) if bounded else weights["alpha"]
        extra = (
            w_hh.new_ones(4 * H) if scale is None else scale,
            w_hh.new_zeros(4 * H) if shift is None else shift,
            past.expand(H),
        )
        return Parts(weights["weight_ih"], w_hh, weights.get("bias_ih"), torch.cat(extra))

    kind = {1: 3, 2: 4, 4: 5}[blocks]
    return Form(kind, blocks, parts, options=bounded | 2 * (skip == "none"))


def nonlinear_gate_lstm(gates: Sequence[int]) -> Form:
    """An LSTM whose gates with these numbers see a rectified map as well."""

    def parts(weights: Weights) -> Parts:
        linear, rectified = (
            [weights[f"{name}_{side}"] for side in ("ih", "hh")]
            for name in ("weight", "weight_relu")
        )
        bias = _added(weights)
        if bias is not None:
            bias = torch.cat((bias, bias.new_zeros(rectified[0].shape[0])))
        w_x, w_h = (torch.cat(pair) for pair in zip(linear, rectified, strict=True))
        return Parts(w_x, w_h, bias)

    options = sum(gate << 2 * n for n, gate in enumerate(gates))
    return Form(5 + len(gates), 4 + len(gates), parts, options=options)


Reference = Callable[[Tensor, Sequence[Tensor], Weights], tuple[Tensor, Sequence[Tensor]]]
"""The same sequences by differentiable operators: (x, state, weights) -> outputs, last state."""


class Sequences(NamedTuple):
    """What is run, beside the tensors that have gradients.

    lengths: (B,) int64 or None; reset: (T, B) bool or None. names: the weights'.
    """

    form: Form
    names: tuple[str, ...]
    lengths: Tensor | None
    reset: Tensor | None
    reference: Reference


def run(
    form: Form,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Weights,
    lengths: Tensor | None,
    reset: Tensor | None,
    reference: Reference,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (T, B, H), anything past a sequence's length, and each sequence's last state.

    x: (T, B, I); state: h (B, H), and c. float32, on the CPU. The first backward pass is the
    kernel's; a second one through the same graph, and derivatives of it, run the reference.
    """
    run = Sequences(form, tuple(weights), lengths, reset, reference)
    given = (x, *state, *weights.values())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        y, *last = _Sequences.apply(run, *given)
        return y, tuple(last)
    memory = _forward(run, x, state, weights, keep=False)
    return memory.y, tuple(memory.last)


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
        w_x, w_h, bias, extra = form.parts(of_layer)
        one_step(
            *(form.kind, form.options, B, I, H, entering, before[0], before[-1]),
            *(w_x.data_ptr(), w_h.data_ptr(), _at(bias), _at(extra)),
            *(leaving, after[0], after[-1]),
        )
        entering, I, leaving = leaving, H, leaving + apart  # noqa: E741
        before, after = [at + apart for at in before], [at + apart for at in after]
    return y[-1], last


class _Sequences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Sequences, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory = _forward(run, x, *_divided(run, rest), keep=True)
        ctx.set_materialize_grads(False)
        ctx.run, ctx.memory = run, memory._replace(y=None, last=())
        ctx.save_for_backward(memory.y, x, *rest)
        return memory.y, *memory.last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        run: Sequences = ctx.run
        y, x, *rest = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.memory is None:
            return (None, *_by_reference(ctx, grads, x, rest))
        # What was kept becomes the gradients of the pre-activations.
        memory, ctx.memory = ctx.memory._replace(y=y), None
        needs_x, *needed = ctx.needs_input_grad[1:]
        state, given = _divided(run, rest)
        with torch.enable_grad():
            weights = {
                name: weight.detach().requires_grad_(need)
                for (name, weight), need in zip(given.items(), needed[len(state) :], strict=True)
            }
            parts = run.form.parts(weights)
        found = _backward(run, x, state, parts, memory, grads, needs_x)
        reached = [
            (p, g)
            for p, g in zip(parts, found.parts, strict=True)
            if p is not None and g is not None
        ]
        wanted = [weight for weight in weights.values() if weight.requires_grad]
        of_weights: Sequence[Tensor] = ()
        if wanted:
            outputs, reaching = zip(*reached, strict=True)
            of_weights = torch.autograd.grad(outputs, wanted, reaching)
        states = [g if need else None for g, need in zip(found.state, needed, strict=False)]
        left = iter(of_weights)
        return (
            None,
            found.x,
            *states,
            *(next(left) if need else None for need in needed[len(state) :]),
        )


def _by_reference(
    ctx: Any, grads: Sequence[Tensor | None], x: Tensor, rest: Sequence[Tensor]
) -> Iterator[Tensor | None]:
    """Gradients of x, the state and the weights, themselves differentiable."""
    needed = ctx.needs_input_grad[1:]
    with torch.enable_grad():
        # Views, so that what is asked for is the gradient along this path alone.
        inputs = [
            t.view_as(t) if need else t.detach() for t, need in zip((x, *rest), needed, strict=True)
        ]
        state, weights = _divided(ctx.run, inputs[1:])
        y, last = ctx.run.reference(inputs[0], state, weights)
        reached = [(o, g) for o, g in zip((y, *last), grads, strict=True) if g is not None]
        found = iter(
            torch.autograd.grad(
                [o for o, _ in reached],
                [t for t, need in zip(inputs, needed, strict=True) if need],
                [g for _, g in reached],
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )
    for need in needed:
        yield next(found) if need else None


def _divided(run: Sequences, rest: Sequence[Tensor]) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
    """The state's tensors and the weights, by name."""
    fields = len(rest) - len(run.names)
    return rest[:fields], dict(zip(run.names, rest[fields:], strict=True))


class _Memory(NamedTuple):
    """What forward writes. c: after every token where backward wants it, else the last one's."""

    y: Tensor
    c: Tensor | None
    kept: Tensor | None
    last: Sequence[Tensor]


def _forward(
    run: Sequences, x: Tensor, state: Sequence[Tensor], weights: Weights, keep: bool
) -> _Memory:
    form, (T, B, _) = run.form, x.shape
    H = state[0].shape[1]
    memory = _Memory(
        x.new_empty(T, B, H),
        x.new_empty(T if keep else 1, B, H) if form.memory else None,
        x.new_empty(T, B, form.kept * -(-H // WIDEST) * WIDEST) if keep else None,
        [x.new_empty(B, H) for _ in state],
    )
    call, _held = _call(run, x, state, form.parts(weights), memory)
    library.load().tr_step_forward(call)
    return memory


class _Gradients(NamedTuple):
    x: Tensor | None
    state: Sequence[Tensor]
    parts: Sequence[Tensor | None]


def _backward(
    run: Sequences,
    x: Tensor,
    state: Sequence[Tensor],
    parts: Parts,
    memory: _Memory,
    grads: Sequence[Tensor | None],
    needs_x: bool,
) -> _Gradients:
    dy = None if grads[0] is None else _rows(grads[0])
    of_last = [_dense(g) for g in grads[1:]]
    found = _Gradients(
        None if not needs_x else torch.zeros(x.shape) if run.lengths is not None
        else torch.empty(x.shape),
        [torch.empty(field.shape) for field in state],
        [None if p is None or not p.requires_grad else torch.zeros(p.shape) for p in parts],
    )  # fmt: skip
    call, _held = _call(run, x, state, parts, memory)
    back = _StepBack(
        *(_at(dy), *((0, 0) if dy is None else dy.stride()[:2])),
        *map(_at, _two(of_last)),
        *map(_at, (found.x, *_two(found.state), *found.parts)),
    )
    library.load().tr_step_backward(call, back)
    return found


def _call(
    run: Sequences,
    x: Tensor,
    state: Sequence[Tensor],
    parts: Parts,
    memory: _Memory,
) -> tuple[_StepCall, Any]:
    """The structure, and what its pointers point to, which must live as long."""
    x, first = _rows(x), [_dense(field) for field in state]
    T, B, I = x.shape  # noqa: E741
    H = memory.y.shape[2]
    order = (None, None)
    if run.lengths is not None:
        order = run.lengths.sort(descending=True, stable=True)
    reset = None if run.reset is None else run.reset.contiguous()
    c_time = B * H if memory.c is not None and len(memory.c) == T else 0
    given = [_dense(part) for part in parts]
    structure = _StepCall(
        *(T, B, I, H, run.form.kind, run.form.options, *_shared_by(run.form, T, B, I, H)),
        *(_at(x), *x.stride()[:2]),
        *map(_at, (*order, reset)),
        _Weights(*map(_at, given)),
        *map(_at, (*_two(first), memory.y, memory.c)),
        *(c_time, _at(memory.kept), 0 if memory.kept is None else memory.kept.stride(1)),
        *map(_at, _two(memory.last)),
    )
    return structure, (x, first, order, reset, given, memory)


WIDEST = 16
"""Floats in the widest register of any target: blocks of what is kept are whole registers."""
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


def _two(tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    """h's and c's, None for what is not there."""
    h, c, *_ = (*tensors, None, None)
    return h, c


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
