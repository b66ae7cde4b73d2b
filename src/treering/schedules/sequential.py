"""One token after the other: the reference for every cell that can take a step.

Legend: B batch, T time, I input, O output, G projected width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from treering._types import State
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.schedules.abstract import Call, Schedule
from treering.schedules.states import check_like, choose


@dataclass(frozen=True)
class Sequential(Schedule):
    """A plain loop over time: T steps, each over the whole batch.

    Cost: T dependent steps; memory for the gradient grows with T. What does not depend on the
    state is computed for all T at once before the loop.
    When not to use it: for affine cells on long sequences (`Scan` gives the same numbers).
    """

    accepts: ClassVar[tuple[type[Cell], ...]] = (StepCell, AffineCell)
    guarantee: ClassVar[Literal["SAME", "DEFINES"]] = "SAME"

    def run(self, call: Call) -> tuple[Tensor, State]:
        cell, x, state, lengths = call.cell, call.x, call.state, call.lengths
        assert isinstance(cell, StepCell | AffineCell)
        T, B, _ = x.shape
        start = cell.initial_state(B, x)
        state = start if state is None else state
        if isinstance(cell, AffineCell):
            a, b = cell.coefficients(call.weights, x)
            inputs: list[Any] = list(zip(a.unbind(0), b.unbind(0), strict=True))
        else:
            inputs = list(cell.project(call.weights, x).unbind(0))

        shortest = T if lengths is None else int(lengths.min())
        outputs = []
        for t in range(T):
            if call.reset is not None:
                state = choose(call.reset[t], start, state)
            new = cell.step(call.weights, inputs[t], state)
            if lengths is not None and t >= shortest:
                new = choose(lengths > t, new, state)
            state = new
            if call.wanted == "all":
                outputs.append(cell.output(state))
        return (torch.stack(outputs) if call.wanted == "all" else cell.output(state)), state

    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        assert isinstance(cell, StepCell | AffineCell)
        return check_like(state, cell.initial_state(batch, like), type(cell).__name__)
