"""One token after the other: the reference for every cell that can take a step.

Legend: B batch, T time, I input, O output, G projected width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from treering._types import State, map_tensors
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.schedules.abstract import Call, Schedule
from treering.schedules.rolled import Several, Stepped, over_time
from treering.schedules.states import check_like, choose, leaves_of, rebuilt


@dataclass(frozen=True)
class Sequential(Schedule):
    """A plain loop over time: T steps, each over the whole batch.

    Cost: T dependent steps; memory for the gradient grows with T. What does not depend on the
    state is computed for all T at once before the loop.
    When not to use it: for affine cells on long sequences (`Scan` gives the same numbers).
    """

    accepts: ClassVar[tuple[type[Cell], ...]] = (StepCell, AffineCell)
    guarantee: ClassVar[Literal["SAME", "DEFINES"]] = "SAME"

    def run(self, call: Call) -> tuple[Any, State]:
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
        outputs, states = [], []
        for t in range(T):
            if call.reset is not None:
                state = choose(call.reset[t], start, state)
            new = cell.step(call.weights, inputs[t], state)
            if lengths is not None and t >= shortest:
                new = choose(lengths > t, new, state)
            state = new
            if call.wanted == "all":
                outputs.append(cell.output(state))
            elif call.wanted == "states":
                states.append(state)
        if call.wanted == "states":
            return map_tensors(lambda *parts: torch.stack(parts), *states), state
        return (torch.stack(outputs) if call.wanted == "all" else cell.output(state)), state

    def rolled(self, call: Call) -> tuple[Any, State]:
        cell, x, state, lengths = call.cell, call.x, call.state, call.lengths
        assert isinstance(cell, StepCell | AffineCell)
        T, B, _ = x.shape
        start = cell.initial_state(B, x)
        if isinstance(cell, AffineCell):
            inputs = [*cell.coefficients(call.weights, x)]
        else:
            inputs = [cell.project(call.weights, x)]
        width = len(inputs)
        if call.reset is not None:
            inputs.append(call.reset)
        if lengths is not None:
            inputs.append(torch.arange(T, device=x.device).unsqueeze(1) < lengths)

        def step(carry: Several, now: Several, shared: Several) -> Stepped:
            weights = dict(zip(call.weights, shared, strict=False))
            state, flags = rebuilt(start, carry), list(now[width:])
            if call.reset is not None:
                state = choose(flags.pop(0), rebuilt(start, shared[len(weights) :]), state)
            entering: Any = now[0] if width == 1 else tuple(now[:width])
            new = cell.step(weights, entering, state)
            if lengths is not None:
                new = choose(flags.pop(0), new, state)
            after = leaves_of(new)
            return after, {"all": [cell.output(new)], "last": [], "states": after}[call.wanted]

        carry = leaves_of(start if state is None else state)
        shared = [*call.weights.values()]
        if call.reset is not None:
            # What is carried and what is shared must not share memory.
            shared += [field.clone() for field in leaves_of(start)]
        carry, seen = over_time(step, carry, inputs, shared)
        last = rebuilt(start, carry)
        if call.wanted == "last":
            return cell.output(last), last
        return rebuilt(start, seen) if call.wanted == "states" else seen[0], last

    def blank_state(self, cell: Cell, batch: int, like: Tensor) -> State:
        assert isinstance(cell, StepCell | AffineCell)
        return cell.initial_state(batch, like)

    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        assert isinstance(cell, StepCell | AffineCell)
        return check_like(state, cell.initial_state(batch, like), type(cell).__name__)
