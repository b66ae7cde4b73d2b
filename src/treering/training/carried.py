"""The recurrent state between two updates of a stream, also on its way through a checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from treering._errors import UserError


class Carried:
    """What a model's last call returned as its state, cut off from its gradient; None at a start.

    The tensors are copies, in one layout whatever the layer's: the memory of the update before can
    go, and a state that came out of a file meets the same arithmetic as one that never went in.
    """

    def __init__(self) -> None:
        self.state: Any = None

    def keep(self, state: Any) -> None:
        """Carry on from here.

        Raises:
            UserError: a state that is not made of tensors in tuples, which no checkpoint can hold.
        """
        self.state = _copied(state)

    def forget(self) -> None:
        """Start anew."""
        self.state = None

    def tensors(self) -> dict[str, Tensor]:
        """By place: `0`, `1` or, where tuples hold tuples, `0.1`; a bare tensor is `state`."""
        return _by_place(self.state, ())

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Be again what `tensors()` was, with plain tuples for named ones."""
        self.state = None if not tensors else _built(tensors, device)


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(state, tuple | list):
        parts = [_copied(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    raise UserError(
        f"the model's state holds a {type(state).__name__}, and it must be tensors in tuples to be"
        " carried on and saved; return None or such a state"
    )


def _by_place(state: Any, place: tuple[str, ...]) -> dict[str, Tensor]:
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {".".join(place) or "state": state}
    tensors: dict[str, Tensor] = {}
    for number, part in enumerate(state):
        tensors |= _by_place(part, (*place, str(number)))
    return tensors


def _built(tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if "state" in tensors:
        # A clone, for the alignment: see checkpoint.copy_into.
        return tensors["state"].to(device).clone()
    inside: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        inside.setdefault(int(number), {})[rest or "state"] = tensor
    return tuple(_built(inside[number], device) for number in sorted(inside))
