"""What a kernel is to dispatch, and what none of our own in C++ can do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from treering._types import State
from treering.cells.abstract import Cell
from treering.kernels.native import computation, library
from treering.schedules.abstract import Call, Schedule
from treering.schedules.states import leaves_of


@dataclass(frozen=True)
class Kernel:
    """A fast way to run one pair. `refuses` gives the reason why it cannot, or None."""

    name: str
    cell: type[Cell]
    schedule: type[Schedule]
    refuses: Callable[[Call], str | None]
    run: Callable[[Call], tuple[Any, State]]
    slower: Callable[[Call], str | None] | None = None
    """Why it is not taken by itself for this call, which it could run; measured."""
    note: Callable[[Call], str] | None = None
    """What `explain` adds for this very call."""


SLOWER = "under vmap, torch.func and forward mode derivatives run plain operators as well"


def is_transformed(call: Call) -> bool:
    """Whether a torch.func transform is at work, or a dual number reaches the call."""
    # There is no public name for the stack of transforms.
    if peek_interpreter_stack() is not None:
        return True
    tensors = (call.x, *leaves_of(call.state or ()), *call.weights.values())
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def product_dtype(call: Call) -> torch.dtype:
    """What products are computed in."""
    device = call.x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else call.x.dtype


def native_refuses(call: Call, dtypes: Sequence[torch.dtype] = (torch.float32,)) -> str | None:
    """What no kernel of our own in C++ can do that computes products in these dtypes."""
    missing = library.missing()
    if missing is not None:
        return missing
    if call.x.device.type != "cpu":
        return f"it runs on the CPU, and the input is on {call.x.device.type}"
    if call.x.dtype not in dtypes:
        names = " and ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"it computes in {names}, and the input is {call.x.dtype}"
    if product_dtype(call) not in dtypes:
        return "under autocast products run in low precision, which it does not"
    if call.x.shape[1] == 0:
        return "the batch is empty"
    return computation.refuses()
