"""Everything that can be seen of one call: outputs, final state, gradients of all that goes in.

Legend: T time, B batch, I input, O output.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from treering._types import map_tensors
from treering.layers import Recurrent
from treering.schedules.tree import TreeState

Call = Callable[[Recurrent, Tensor, Any], tuple[Tensor, Any]]
"""(layer, x (T, B, I), state) -> outputs (T, B, O) and the final state."""

RTOL, ATOL = 1e-9, 1e-12


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64 that depend on nothing but shape and seed."""
    generator = torch.Generator().manual_seed(1000 * seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def flat(state: Any) -> list[Tensor]:
    """The tensors of a state, nested or not."""
    if isinstance(state, Tensor):
        return [state]
    return [tensor for part in state for tensor in flat(part)]


def floats(state: Any) -> list[Tensor]:
    return [tensor for tensor in flat(state) if tensor.is_floating_point()]


def fresh(state: Any) -> Any:
    """A copy of a state to take gradients with respect to."""
    return map_tensors(
        lambda s: s.detach().clone().requires_grad_(s.is_floating_point()),
        state,
    )


def widened(state: Any, slots: int) -> Any:
    """A tree's state with `slots` slots, the further ones empty; other states as they are."""
    if not isinstance(state, TreeState):
        return state

    def pad(field: Tensor) -> Tensor:
        empty = field.new_zeros(*field.shape[:-2], slots - field.shape[-2], field.shape[-1])
        return torch.cat((field, empty), dim=-2)

    return TreeState(map_tensors(pad, state.blocks), map_tensors(pad, state.folds), state.length)


def slots(state: Any) -> int:
    """Slots that a tree's state has; 0 for other states."""
    return state.folds[0].shape[-2] if isinstance(state, TreeState) else 0


def cotangents(state: Any) -> list[Tensor]:
    """What reaches a final state's float tensors from outside."""
    return [draw(*tensor.shape, seed=7 + k) for k, tensor in enumerate(floats(state))]


def observe(
    layer: Recurrent,
    x: Tensor,
    state: Any,
    call: Call,
    to_outputs: Tensor | None = None,
    to_state: Callable[[Any], Sequence[Tensor]] = cotangents,
) -> dict[str, Tensor]:
    """Outputs, final state and every gradient of a call, by name.

    to_outputs, to_state: gradients that reach outputs and final state; random ones by default.
    """
    x = x.detach().clone().requires_grad_()
    state = None if state is None else fresh(state)
    y, last = call(layer, x, state)
    seen = {"outputs": y, **{f"final state {k}": s for k, s in enumerate(flat(last))}}
    heads = [y, *floats(last)]
    weights = [draw(*y.shape) if to_outputs is None else to_outputs, *to_state(last)]
    into = {"x": x}
    if state is not None:
        into |= {f"initial state {k}": s for k, s in enumerate(floats(state))}
    into |= dict(layer.named_parameters())
    total = torch.stack([(h * w).sum() for h, w in zip(heads, weights, strict=True)]).sum()
    grads = torch.autograd.grad(
        total, list(into.values()), allow_unused=True, materialize_grads=True
    )
    seen |= {f"gradient of {name}": g for name, g in zip(into, grads, strict=True)}
    return {name: value.detach() for name, value in seen.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal in every name, to rounding in float64; NaN never passes."""
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name],
            other[name],
            rtol=RTOL,
            atol=ATOL,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def whole(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The sequence in one call."""
    return layer(x, state)


def by_steps(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The sequence token by token."""
    outputs = []
    for x_t in x.unbind(0):
        y, state = layer.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs), state


def cut(*places: int) -> Call:
    """The sequence in pieces, each going on from the state of the one before."""

    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for a, b in zip((0, *places), (*places, len(x)), strict=True):
            y, state = layer(x[a:b], state)
            outputs.append(y)
        return torch.cat(outputs), state

    return call


def met_before(layer: Recurrent, batch: int, *, ragged: bool) -> Any:
    """A state to start from: after 5 tokens, or after a different number in every sequence."""
    x = draw(5, batch, layer.input_size, seed=3)
    lengths = torch.arange(batch) % 5 + 1 if ragged else None
    with torch.no_grad():
        return layer(x, lengths=lengths)[1]
