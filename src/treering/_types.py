"""Dimension letters and the few types every room shares.

Dimension legend, valid in the whole package:
    B batch, T time, I input size, H hidden size, O output size,
    G width of a cell's projected input, K levels (or stack slots) a tree carries,
    N rows of a flattened ragged batch, L layers, D directions.

Inside the engine time comes first, (T, B, ...); layers translate `batch_first` at their door.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor

Weights = Mapping[str, Tensor]
"""A cell's parameters by name, for one layer and one direction."""

State = tuple[Any, ...]
"""A NamedTuple of tensors, or of further States; which one is the cell's or schedule's affair."""

S = TypeVar("S", bound=tuple[Any, ...])
AnyState = TypeVar("AnyState")


class Hidden(NamedTuple):
    """State of a cell that carries one vector: h (B, H)."""

    h: Tensor


class HiddenCell(NamedTuple):
    """State of an LSTM-like cell: h (B, H), c (B, H)."""

    h: Tensor
    c: Tensor


class Inner(NamedTuple):
    """What happened inside a recurrence, at every token.

    state: the cell's state after each token, fields (T, B, ...), for an LSTM h and c.
    gates: gates and candidates after their activations, by name, (T, B, H). An affine cell's are
        its coefficients a and b. Cells that merge have none: which merge a token's gate would
        belong to depends on the bracket.

    Zero beyond each sequence's length.
    """

    state: Any
    gates: dict[str, Tensor]


class Run(NamedTuple):
    """What `unroll` returns.

    outputs: (T, B, O), zero where a sequence has ended; (B, O) if only the last was asked for.
    state: the state after each sequence's own last token, fit to be passed back in; what it is
        where the call said that it is not wanted is nobody's affair.
    ran: one line naming the schedule and the kernel that ran, and why.
    inner: states and gates at every token, if they were asked for.
    """

    outputs: Tensor
    state: State
    ran: str
    inner: Inner | None = None


def map_tensors(function: Callable[..., Tensor], state: S, *others: S) -> S:
    """Apply `function` to corresponding tensors of equally built states, keeping their types."""
    fields = []
    for parts in zip(state, *others, strict=True):
        if isinstance(parts[0], Tensor):
            fields.append(function(*parts))
        else:
            fields.append(map_tensors(function, *parts))
    return cast(S, type(state)(*fields))


def detach(state: AnyState) -> AnyState:
    """The same state without its past: gradients of what is computed from it end here.

    What truncated backpropagation through time does at every cut: pass
    `state=tr.detach(state)` on and each update reaches back to the last cut only, while the
    values are carried on exactly.

    Args:
        state: What a layer or a LanguageModel returned: tensors in tuples, in any depth. None,
            the state before the first token, stays None.

    Returns:
        A state of the same types. Its tensors share memory with the given ones.

    Errors: TypeError for anything else.
    """
    return cast(AnyState, _detached(state))


def _detached(state: Any) -> Any:
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple | list):
        parts = [_detached(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    raise TypeError(
        f"a state is made of tensors in tuples, got {type(state).__name__}; pass on what a layer"
        " returned"
    )
