"""What the constructor and a call of a layer are given, checked and taken apart.

Legend: B batch, L layers, D directions.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from treering._errors import ShapeError, UserError
from treering._types import State
from treering.schedules.abstract import Schedule


def check_sizes(**sizes: Any) -> None:
    """Refuse sizes that are no positive integers, in nn.LSTM's words."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")


def check_flags(**flags: Any) -> None:
    """Refuse what is not a bool, in nn.LSTM's words."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")


def check_dropout(dropout: Any, num_layers: int) -> None:
    """Refuse what is no probability; warn, as nn.LSTM does, where it has no effect."""
    number = isinstance(dropout, int | float) and not isinstance(dropout, bool)
    if not number or not math.isfinite(dropout) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an"
            " element being zeroed"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout"
            f" expects num_layers greater than 1, but got dropout={dropout} and num_layers=1",
            stacklevel=3,
        )


def check_input(kind: str, x: Any, low: int, high: int) -> None:
    """Refuse what is no tensor, or has another number of axes, in nn.LSTM's words."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{kind}: Expected input to be a Tensor or a PackedSequence, got {type(x).__name__}"
        )
    if x.dim() not in (low, high):
        raise ValueError(f"{kind}: Expected input to be {low}D or {high}D, got {x.dim()}D instead")


def refuse_lengths(lengths: Tensor | None) -> None:
    """Beside packed input, lengths could only contradict it."""
    if lengths is not None:
        raise UserError("a PackedSequence carries its lengths; leave `lengths` out")


def refuse_reorder(schedule: Schedule, option: str) -> None:
    """Refuse an option that reads tokens in another order than a schedule's own."""
    reason = schedule.refuses_reorder()
    if reason is not None:
        raise UserError(f"{option} cannot be used under {schedule!r}: {reason}; leave one out")


def refuse_levels(schedule: Schedule, num_layers: int) -> None:
    """Refuse to lay layers on each other where only the last output is what the schedule means."""
    if schedule.reads_ranks:
        raise UserError(
            f"num_layers={num_layers} cannot be used under {schedule!r}: outputs before the end are"
            " no nodes of the tree that a second layer could read; use num_layers=1"
        )


def choose_state(state: Any, hx: Any) -> Any:
    """The state under this package's name or under nn.LSTM's; not both."""
    if hx is None:
        return state
    if state is not None:
        raise TypeError("`hx` is another name for `state`; give one of them")
    return hx


def check_hidden(
    state: Any, widths: tuple[int, ...], count: int, batch: int, batched: bool
) -> None:
    """Refuse h (and c) of wrong shapes, in nn.LSTM's words.

    widths: of h, and of c for an LSTM; count: L*D. What is no tuple of so many tensors is left to
    the checks that follow.
    """
    given = [state] if isinstance(state, Tensor) else state
    if not isinstance(given, tuple | list) or not all(isinstance(s, Tensor) for s in given):
        return
    pair = len(widths) == 2
    wanted, size = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
    known = 0 < len(given) <= len(widths)
    if known and (any(s.dim() != wanted for s in given) or len(given) < len(widths)):
        # Like nn.LSTM, which takes a bare tensor apart into what it thinks are h and c.
        dims = [s.dim() - (len(given) < len(widths)) for s in given] * (len(widths) // len(given))
        if pair:
            got = "(" + ", ".join(f"{d}-D" for d in dims) + ") tensors"
            what = "hx and cx"
        else:
            got, what = f"{dims[0]}-D tensor", "hx"
        raise ShapeError(
            f"For {size} input, {what} should also be {wanted}-D but got {got}; a state is what an"
            " earlier call returned, or zeros"
        )
    if len(given) != len(widths):
        return
    for k, (part, width) in enumerate(zip(given, widths, strict=True)):
        expected = (count, batch, width) if batched else (count, width)
        if tuple(part.shape) != expected:
            name = f"hidden[{k}]" if pair else "hidden"
            raise ShapeError(f"Expected {name} size {expected}, got {list(part.shape)}")


def starts_anew(state: Any, shape: tuple[int, ...], like: Tensor) -> bool:
    """Whether `state` is what code for nn.LSTM starts from: zeros of `shape`, one tensor or two.

    That is every layer's start, so such code runs whatever the layer's own state is made of. Not
    zeros that gradients are wanted of: a learned start needs a layer with such a state.
    """
    if torch.compiler.is_compiling() or not 1 <= len(state) <= 2:
        return False
    return all(
        isinstance(part, Tensor)
        and tuple(part.shape) == shape
        and (part.dtype, part.device) == (like.dtype, like.device)
        and not part.requires_grad
        and not part.any()
        for part in state
    )


def parts_of(state: Any) -> Iterator[Any]:
    """What a state is made of, nested tuples and lists opened."""
    if isinstance(state, tuple | list) and state:
        for part in state:
            yield from parts_of(part)
    else:
        yield state


def map_state(state: Any, function: Any) -> Any:
    """`function` on every tensor of a state that may also be a plain tuple or list."""
    if isinstance(state, Tensor):
        return function(state)
    if not isinstance(state, tuple | list):
        raise UserError(
            f"a state is a tuple of tensors, as an earlier call returned it; got"
            f" {type(state).__name__}"
        )
    parts = [map_state(part, function) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def split_state(state: State | None, count: int, kind: str) -> list[State | None]:
    """A layer's state, every tensor (L*D, B, ...), as one state per layer and direction.

    Errors: ValueError if any tensor's first axis is not `count` = L*D.
    """
    if state is None:
        return [None] * count
    for part in parts_of(state):
        if not isinstance(part, Tensor) or part.dim() == 0 or part.shape[0] != count:
            got = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise UserError(
                f"the state of {kind} must have num_layers * num_directions = {count} as the"
                f" first axis of every tensor, got {got}; pass on what an earlier call returned"
            )
    return [map_state(state, lambda part, i=i: part[i]) for i in range(count)]
