"""A schedule that keeps every state it computes, so that gradients can be asked for at each.

Legend: B batch, T time, O output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from treering._types import State
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.dispatch import use_kernels
from treering.inspect.subject import NotAvailableError, recurrent_of
from treering.schedules.abstract import Call, Schedule
from treering.schedules.sequential import Sequential
from treering.schedules.states import choose


@dataclass(frozen=True)
class Watched(Schedule):
    """One token after the other, as `Sequential`; `seen` gets the states of each call, by token.

    A state that `Sequential` returns for all tokens is a copy, on which nothing later depends:
    these are the very tensors that the next step and the output are computed from.
    """

    seen: list[list[State]] = field(default_factory=list, compare=False)

    accepts: ClassVar[tuple[type[Cell], ...]] = (StepCell, AffineCell)
    guarantee: ClassVar[Literal["SAME", "DEFINES"]] = "SAME"

    def run(self, call: Call) -> tuple[Any, State]:
        states: list[State] = []
        outputs = []
        last: State | None = call.state
        for t in range(call.x.shape[0]):
            piece = replace(
                call,
                x=call.x[t : t + 1],
                state=last,
                lengths=None,
                reset=None if call.reset is None else call.reset[t : t + 1],
                wanted="last",
            )
            _, new = Sequential().run(piece)
            # Before what comes next, which copies: h is computed from this c and no other.
            states.append(new)
            if call.lengths is not None and last is not None:
                new = choose(call.lengths > t, new, last)
            last = new
            outputs.append(call.cell.output(last))
        assert last is not None
        self.seen.append(states)
        return outputs[-1] if call.wanted == "last" else torch.stack(outputs), last

    def rolled(self, call: Call) -> tuple[Any, State]:
        return Sequential().rolled(call)

    def blank_state(self, cell: Cell, batch: int, like: torch.Tensor) -> State:
        return Sequential().blank_state(cell, batch, like)

    def check_state(self, cell: Cell, state: State, batch: int, like: torch.Tensor) -> State:
        return Sequential().check_state(cell, state, batch, like)


@contextmanager
def watching(model: nn.Module) -> Iterator[Watched]:
    """Within the block, the model's recurrence runs under a Watched.

    Errors: NotAvailableError for no recurrence, or where the order of time is part of the model.
    """
    recurrent = recurrent_of(model)
    if not isinstance(recurrent.cell, Watched.accepts):
        raise NotAvailableError(
            f"the states of a {type(recurrent).__name__} at earlier tokens are not what the last"
            " output is computed from; see the gradient at its inputs"
        )
    schedule, watched = recurrent.schedule, Watched()
    recurrent.schedule = watched
    try:
        with use_kernels("reference"):
            yield watched
    finally:
        recurrent.schedule = schedule
