"""A whole computation as one PyTorch operator, which torch.compile does not look into.

A Python loop over time would be unrolled by the compiler: minutes of compilation, and again for
every length. Behind an operator the computation runs as it does without the compiler, on the same
kernels and with the same numbers, and the graph around it stays the same at every length.

What is computed is known to the operator by a key alone, because a graph holds tensors, numbers
and strings. Keys are descriptions: they mean the same in every process.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Recipe(Protocol):
    """What an operator's key stands for. Equal recipes compute the same."""

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs; differentiable, as in eager mode."""
        ...

    def blank(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the outputs' shapes and dtypes; must not look at values."""
        ...

    def __hash__(self) -> int: ...


_recipes: dict[str, Any] = {}


def key(recipe: Hashable) -> str:
    """The name under which an operator knows this recipe, from now on."""
    described, again = f"{type(recipe).__module__}.{recipe!r}", 1
    name = described
    # Classes can share a name, as when a notebook's cell ran twice.
    while _recipes.setdefault(name, recipe) != recipe:
        again += 1
        name = f"{described} ({again})"
    return name


def known(name: str) -> Any:
    """The recipe that `key` gave this name."""
    return _recipes[name]


def constant(function: Callable[..., str]) -> Callable[..., str]:
    """Let torch.compile call `function` while it traces, and take what it returns for a constant.

    This is `torch.compiler.assume_constant_result`, which would load the compiler on import.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


def apply(tensors: list[Tensor], name: str) -> list[Tensor]:
    """Run the recipe called `name`, as one operator. Differentiable once.

    Cost: the backward pass runs the forward once more, with a graph, because an operator hands
    nothing but its inputs and outputs on to its gradient.
    """
    return torch.ops.treering.run(tensors, name)


def _run(tensors: list[Tensor], name: str) -> list[Tensor]:
    with torch.no_grad():
        outputs = _recipes[name].run(tensors)
    seen = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    fresh = []
    for output in outputs:
        # Outputs of an operator share no memory, neither with each other nor with its inputs.
        output = output.contiguous()
        place = output.untyped_storage().data_ptr()
        fresh.append(output.clone() if place in seen else output)
        seen.add(place)
    return fresh


def _run_backward(
    grads: list[Tensor], tensors: list[Tensor], wanted: list[bool], name: str
) -> list[Tensor]:
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
        outputs = [y for y in _recipes[name].run(inputs) if y.is_floating_point()]
        reached = [(y, g) for y, g in zip(outputs, grads, strict=True) if y.requires_grad]
        found = torch.autograd.grad(
            [y for y, _ in reached],
            [x for x in inputs if x.requires_grad],
            [g for _, g in reached],
            allow_unused=True,
            materialize_grads=True,
        )
    return [grad.contiguous().clone() if grad._is_view() else grad.contiguous() for grad in found]


def _blank_backward(
    grads: list[Tensor], tensors: list[Tensor], wanted: list[bool], name: str
) -> list[Tensor]:
    del grads, name
    return [t.new_empty(t.shape) for t, w in zip(tensors, wanted, strict=True) if w]


def _keep(ctx: Any, inputs: tuple[list[Tensor], str], output: list[Tensor]) -> None:
    tensors, ctx.name = inputs
    ctx.floats = [y.is_floating_point() for y in output]
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grads: list[Tensor]) -> tuple[list[Tensor | None], None]:
    wanted = list(ctx.needs_input_grad[0])
    reaching = [g for g, floating in zip(grads, ctx.floats, strict=True) if floating]
    found = iter(
        torch.ops.treering.run_backward(reaching, list(ctx.saved_tensors), wanted, ctx.name)
    )
    return [next(found) if w else None for w in wanted], None


_library = torch.library.Library("treering", "FRAGMENT")
_TRACEABLE = (torch.Tag.pt2_compliant_tag,)
_library.define("run(Tensor[] tensors, str name) -> Tensor[]", tags=_TRACEABLE)
_library.define(
    "run_backward(Tensor[] grads, Tensor[] tensors, bool[] wanted, str name) -> Tensor[]",
    tags=_TRACEABLE,
)
_library.impl("run", _run, "CompositeExplicitAutograd")
_library.impl("run_backward", _run_backward, "CompositeExplicitAutograd")
torch.library.register_fake(
    "treering::run", lambda tensors, name: _recipes[name].blank(tensors), lib=_library
)
torch.library.register_fake("treering::run_backward", _blank_backward, lib=_library)
torch.library.register_autograd("treering::run", _differentiate, setup_context=_keep, lib=_library)
