"""A native kernel as one PyTorch operator: shapes, gradients, vmap, forward mode, operation count.

`treering::native` and `treering::native_backward_` stand for all kernels; a key says which one, and
with what settings, because an operator takes tensors, numbers and strings. What a kernel itself
does not compute, second derivatives and tangents, is computed by the reference: plain
differentiable operators on the same tensors. Nothing is silently zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    is_batchedtensor,
    is_legacy_batchedtensor,
    peek_interpreter_stack,
)
from torch.utils import flop_counter

from treering import operator
from treering._errors import UserError

Shapes = Sequence[Sequence[int]]


class Computation(ABC):
    """What a key stands for. Equal ones, which must hash equally, compute the same.

    Tensors come in one list whose order is the computation's own affair; those that are no
    floating-point numbers have no gradients.
    """

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many tensors it computes; what it keeps for backward follows them."""

    @abstractmethod
    def forward(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs, and if `keep` what `backward` needs beside them, else nothing."""

    @abstractmethod
    def backward(
        self,
        grads: Sequence[Tensor | None],
        tensors: Sequence[Tensor],
        outputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        wanted: Sequence[bool],
    ) -> list[Tensor]:
        """Gradients of the tensors that are wanted. It may overwrite the last one of `kept`."""

    @abstractmethod
    def reference(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, by differentiable operators."""

    @abstractmethod
    def blank(self, tensors: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Tensors of the shapes and dtypes of `forward`'s; must not look at values."""

    @abstractmethod
    def operations(self, shapes: Shapes) -> int:
        """Floating-point operations of a forward pass on tensors of these shapes, in products."""

    def folded(
        self, tensors: Sequence[Tensor], dims: Sequence[int | None], size: int
    ) -> list[Tensor] | None:
        """`size` calls as one with a larger batch; None where they differ in more than that.

        dims: where the calls are stacked, per tensor.
        """
        del tensors, dims, size
        return None

    def unfolded(self, outputs: Sequence[Tensor], size: int) -> list[Tensor]:
        """Outputs of `folded`'s call, one call beside the other along a new first axis."""
        raise NotImplementedError

    def __hash__(self) -> int:
        raise NotImplementedError("a computation is known by its value; make it a frozen dataclass")


def run(computation: Computation, tensors: list[Tensor]) -> list[Tensor]:
    """The computation's outputs. Differentiable any number of times, and in forward mode.

    The first backward pass is the kernel's. A second one through the same graph, derivatives of
    derivatives, forward mode and all gradients under torch.func run the reference once more.
    """
    reason = refuses()
    if reason is not None:
        raise UserError(reason)
    name = operator.key(computation)
    # Gradients under torch.func can be differentiated again, which is the reference's work.
    keep = peek_interpreter_stack() is None
    if keep and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return torch.ops.treering.native(tensors, name, False)
    return list(_Native.apply(name, keep, False, *tensors)[: computation.outputs])


def refuses() -> str | None:
    """Why no kernel can run under the transforms of torch.func at work; None where one can."""
    levels = get_interpreter_stack() or ()
    if sum(level.key() == TransformType.Jvp for level in levels) > 1:
        # PyTorch hands an operator's tangents on at one level only: others would be zero.
        return "it has no rule for forward mode within forward mode"
    return None


class _Native(torch.autograd.Function):
    """keep: for a backward pass by the kernel. seen: what is kept is also the caller's to read."""

    @staticmethod
    def forward(name: str, keep: bool, seen: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(torch.ops.treering.native(list(tensors), name, keep))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name, ctx.intact, ctx.seen, *tensors = inputs
        ctx.given, ctx.computed = len(tensors), len(output)
        ctx.mark_non_differentiable(*output[operator.known(ctx.name).outputs :])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *(output if ctx.intact else ()))
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        computation: Computation = operator.known(ctx.name)
        grads, wanted = grads[: computation.outputs], list(ctx.needs_input_grad[3:])
        tensors, memory = ctx.saved_tensors[: ctx.given], ctx.saved_tensors[ctx.given :]
        if torch.is_grad_enabled() or any(map(_is_batched, grads)) or not ctx.intact:
            found = _pulled_back(computation, tensors, grads, wanted)
        else:
            # A graph that is being traced must not change what it was given.
            tracing = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FUNCTIONAL)
            ctx.intact = ctx.seen or tracing is not None
            backward = "native_backward" if ctx.intact else "native_backward_"
            found = getattr(torch.ops.treering, backward)(
                [grad for grad in grads if grad is not None],
                [grad is not None for grad in grads],
                *(list(tensors), list(memory[:-1]), memory[-1], wanted, ctx.name),
            )
        left = iter(found)
        return (None, None, None, *(next(left) if want else None for want in wanted))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        computation: Computation = operator.known(ctx.name)
        moving = [tangent is not None for tangent in tangents[3:]]
        given = _chosen(ctx.saved_tensors, moving)
        # Gradients are linear in what reaches the outputs: their derivative by that, along the
        # tangents, is the derivative of the outputs along the tangents.
        outputs = _function(computation, ctx.saved_tensors, moving)
        found, pull, *_ = torch.func.vjp(outputs, *given)
        _, pull_again, *_ = torch.func.vjp(pull, tuple(torch.zeros_like(y) for y in found))
        (along,) = pull_again(tuple(_chosen(tangents[3:], moving)))
        return (*along, *[None] * (ctx.computed - len(found)))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        name, keep, seen, *tensors = args
        dims = in_dims[3:]
        computation: Computation = operator.known(name)
        folded = computation.folded(tensors, dims, info.batch_size)
        if folded is not None:
            found = computation.unfolded(_Native.apply(name, keep, seen, *folded), info.batch_size)
        else:
            calls = _calls(tensors, dims, info.batch_size)
            found = _beside(_Native.apply(name, keep, seen, *call) for call in calls)
        return tuple(found), (0,) * len(found)


def _is_batched(grad: Tensor | None) -> bool:
    """Whether `is_grads_batched` or vmap put many gradients into one."""
    return grad is not None and (is_batchedtensor(grad) or is_legacy_batchedtensor(grad))


def _chosen(tensors: Sequence[Tensor | None], which: Sequence[bool]) -> list[Any]:
    return [tensor for tensor, chosen in zip(tensors, which, strict=True) if chosen]


def _function(
    computation: Computation, tensors: Sequence[Tensor], of: Sequence[bool]
) -> Callable[..., tuple[Tensor, ...]]:
    """The reference's outputs as a function of some of the tensors."""

    def outputs(*given: Tensor) -> tuple[Tensor, ...]:
        left = iter(given)
        everything = [next(left) if its else t for t, its in zip(tensors, of, strict=True)]
        return tuple(computation.reference(everything))

    return outputs


def _pulled_back(
    computation: Computation,
    tensors: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> Sequence[Tensor]:
    """Gradients of the tensors that are wanted, themselves differentiable."""
    function, inputs = _function(computation, tensors, wanted), _chosen(tensors, wanted)
    if peek_interpreter_stack() is not None:
        outputs, pull, *_ = torch.func.vjp(function, *inputs)
        reaching = [
            torch.zeros_like(y) if g is None else g for y, g in zip(outputs, grads, strict=True)
        ]
        return pull(tuple(reaching))
    with torch.enable_grad():
        # Views, so that what is asked for is the gradient along this path alone.
        inputs = [tensor.view_as(tensor) for tensor in inputs]
        outputs = function(*inputs)
        reached = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None]
        return torch.autograd.grad(
            [y for y, _ in reached],
            inputs,
            [g for _, g in reached],
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )


def _calls(
    tensors: Sequence[Tensor], dims: Sequence[int | None], size: int
) -> Iterator[list[Tensor]]:
    """The tensors of each of `size` calls that are stacked along `dims`."""
    for n in range(size):
        yield [
            tensor if dim is None else tensor.select(dim, n)
            for tensor, dim in zip(tensors, dims, strict=True)
        ]


def _beside(results: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(of_calls) for of_calls in zip(*results, strict=True)]


def _recording() -> Any:
    """Within the block operators can be differentiated although a dispatch mode is at work."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in (torch._C.DispatchKey.AutogradCPU, torch._C.DispatchKey.ADInplaceOrView):
        excluded = excluded.remove(key)
    included = torch._C._dispatch_tls_local_include_set()
    return torch._C._ForceDispatchKeyGuard(included, excluded)


def _native(tensors: list[Tensor], name: str, keep: bool) -> list[Tensor]:
    outputs, kept = operator.known(name).forward(tensors, keep)
    return [*outputs, *kept]


def _blank(tensors: list[Tensor], name: str, keep: bool) -> list[Tensor]:
    outputs, kept = operator.known(name).blank(tensors, keep)
    return [*outputs, *kept]


def _native_backward_(
    grads: list[Tensor],
    present: list[bool],
    tensors: list[Tensor],
    memory: list[Tensor],
    spent: Tensor,
    wanted: list[bool],
    name: str,
) -> list[Tensor]:
    computation: Computation = operator.known(name)
    left = iter(grads)
    reaching = [next(left) if there else None for there in present]
    outputs, kept = memory[: computation.outputs], [*memory[computation.outputs :], spent]
    with _recording():
        return computation.backward(reaching, tensors, outputs, kept, wanted)


def _native_backward(
    grads: list[Tensor],
    present: list[bool],
    tensors: list[Tensor],
    memory: list[Tensor],
    spent: Tensor,
    wanted: list[bool],
    name: str,
) -> list[Tensor]:
    return _native_backward_(grads, present, tensors, memory, spent.clone(), wanted, name)


def _blank_backward(
    grads: list[Tensor],
    present: list[bool],
    tensors: list[Tensor],
    memory: list[Tensor],
    spent: Tensor,
    wanted: list[bool],
    name: str,
) -> list[Tensor]:
    del grads, present, memory, spent, name
    return [t.new_empty(t.shape) for t, want in zip(tensors, wanted, strict=True) if want]


def _operations(tensors: Shapes, name: str, keep: bool, *args: Any, **kwargs: Any) -> int:
    return operator.known(name).operations(tensors)


def _operations_backward(
    grads: Shapes, present: Any, tensors: Shapes, *rest: Any, **kwargs: Any
) -> int:
    # Gradients of what a matrix multiplies, and of the matrix. The name comes last.
    return 2 * operator.known(rest[3]).operations(tensors)


_library = torch.library.Library("treering", "FRAGMENT")
_library.define("native(Tensor[] tensors, str name, bool keep) -> Tensor[]")
for _name, _spent in (("native_backward", "Tensor"), ("native_backward_", "Tensor(a!)")):
    _library.define(
        f"{_name}(Tensor[] grads, bool[] present, Tensor[] tensors, Tensor[] memory,"
        f" {_spent} spent, bool[] wanted, str name) -> Tensor[]"
    )
    torch.library.register_fake(f"treering::{_name}", _blank_backward, lib=_library)
    _operator = getattr(torch.ops.treering, _name)
    flop_counter.register_flop_formula(_operator)(_operations_backward)
_library.impl("native", _native, "CompositeExplicitAutograd")
_library.impl(
    "native",
    lambda tensors, name, keep: list(_Native.apply(name, keep, True, *tensors)),
    "Autograd",
)
_library.impl("native_backward", _native_backward, "CompositeExplicitAutograd")
_library.impl("native_backward_", _native_backward_, "CompositeExplicitAutograd")
torch.library.register_fake("treering::native", _blank, lib=_library)
flop_counter.register_flop_formula(torch.ops.treering.native)(_operations)
