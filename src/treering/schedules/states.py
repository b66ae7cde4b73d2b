"""Choosing, checking and starting anew: what schedules do to states without looking inside.

Legend: B batch, T time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from treering._errors import UserError
from treering._types import S, State, map_tensors


def choose(mask: Tensor, chosen: S, other: S) -> S:
    """Per sequence, `chosen` where mask (B,) is True, else `other`; fields (B, ...)."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *(1,) * (a.dim() - 1)), a, b)

    return map_tensors(one, chosen, other)


def last_valid(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Outputs (T, B, O) -> each sequence's own last one, (B, O)."""
    if lengths is None:
        return outputs[-1]
    return outputs[lengths - 1, torch.arange(outputs.shape[1], device=outputs.device)]


def met(states: S, first: S, fresh: S, reset: Tensor | None) -> S:
    """The state that each token met, fields (T, B, ...), from the states after each token.

    first: the state before the first token; fresh: what a reset (T, B) starts from.
    """

    def one(after: Tensor, first: Tensor, fresh: Tensor) -> Tensor:
        before = torch.cat((first.unsqueeze(0), after[:-1]))
        if reset is None:
            return before
        return torch.where(reset.view(*reset.shape, *(1,) * (after.dim() - 2)), fresh, before)

    return map_tensors(one, states, first, fresh)


def describe(state: object) -> str:
    """A state's structure for messages: `HiddenCell(h (2, 3), c (2, 3))`."""
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    if isinstance(state, tuple):
        names = getattr(state, "_fields", None) or [str(n) for n in range(len(state))]
        inside = ", ".join(f"{n} {describe(s)}" for n, s in zip(names, state, strict=True))
        return f"{type(state).__name__}({inside})"
    return type(state).__name__


def check_like(state: State, template: S, what: str) -> S:
    """Compare structure, shapes, dtypes and devices of `state` with a known good one.

    Returns it with the template's types: plain tuples and lists get their names back.
    """

    def same(a: object, b: object) -> bool:
        if isinstance(b, Tensor):
            return (
                isinstance(a, Tensor)
                and a.shape == b.shape
                and a.dtype == b.dtype
                and a.device == b.device
            )
        return (
            isinstance(a, tuple | list)
            and isinstance(b, tuple)
            and len(a) == len(b)
            and all(same(p, q) for p, q in zip(a, b, strict=True))
        )

    if not same(state, template):
        raise UserError(
            f"state does not fit {what}: expected {describe(template)}, got {describe(state)}"
            " (shapes, dtype and device must agree)"
        )

    def named(a: Any, b: Any) -> Any:
        if isinstance(b, Tensor):
            return a
        return type(b)(*(named(p, q) for p, q in zip(a, b, strict=True)))

    return named(state, template)


def leaves_of(state: Any) -> list[Tensor]:
    """The tensors of a state, nested or not, from first to last."""
    if isinstance(state, Tensor):
        return [state]
    return [tensor for part in state for tensor in leaves_of(part)]


def rebuilt(template: S, leaves: Sequence[Tensor]) -> S:
    """The inverse of `leaves_of`: a state built like the template from `leaves`."""
    rest = list(leaves)
    return map_tensors(lambda _: rest.pop(0), template)
