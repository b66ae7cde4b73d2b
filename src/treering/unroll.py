"""The one door: run a cell along time under a schedule. Every check of a call lives here.

Legend: B batch, T time, I input, O output.
"""

import torch
from torch import Tensor

from treering import dispatch
from treering._errors import UserError
from treering._types import Run, State, Weights
from treering.cells.abstract import Cell
from treering.schedules.abstract import Call, Schedule, Wanted

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def unroll(
    cell: Cell,
    weights: Weights,
    x: Tensor,
    state: State | None = None,
    *,
    schedule: Schedule | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    outputs: Wanted = "all",
) -> Run:
    """Run `cell` with `weights` over x (T, B, I) and return `Run(outputs, state, ran)`.

    state: what an earlier call returned, to carry on; None starts anew.
    schedule: how to run along time; None takes the default of the cell's kind.
    lengths: (B,) integers in 1..T on any device; what lies beyond is never read (it may be NaN)
        and outputs there are zero.
    reset: (T, B) bool; True starts that sequence anew just before that token.
    outputs: "all" (T, B, O), or "last", (B, O), each sequence's own last one, where a schedule
        can save work that way.

    Errors: ValueError, in one line, for anything that does not fit. Cost: the schedule's.
    """
    schedule = dispatch.default_schedule(cell) if schedule is None else schedule
    call = _check(cell, weights, x, state, schedule, lengths, reset, outputs)
    choice = dispatch.choose(schedule, call)
    run = schedule.run if choice.kernel is None else choice.kernel.run
    result, last = run(call)
    if call.lengths is not None and outputs == "all":
        result = result.masked_fill(past_end(x.shape[0], call.lengths), 0)
    return Run(result, last, choice.line(schedule))


def past_end(T: int, lengths: Tensor) -> Tensor:
    """(T, B, 1) bool, True beyond each sequence's length."""
    time = torch.arange(T, device=lengths.device).unsqueeze(1)
    return (time >= lengths).unsqueeze(-1)


def check_lengths(lengths: Tensor, T: int, B: int, device: torch.device) -> Tensor | None:
    """Validated lengths (B,) int64 on `device`; None where every sequence is T long."""
    if not isinstance(lengths, Tensor) or lengths.dtype not in INTEGERS:
        raise UserError(
            "lengths must be a tensor of integers, one per sequence; write"
            " torch.tensor([5, 3]) for a batch of two"
        )
    if lengths.shape != (B,):
        raise UserError(
            f"Expected `len(lengths)` to be equal to batch_size, but got"
            f" {tuple(lengths.shape)} (batch_size={B})"
        )
    if B == 0:
        return None
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest <= 0:
        raise UserError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths'"
            f" that is <= 0 ({shortest}); leave empty sequences out of the batch"
        )
    if longest > T:
        raise UserError(
            f"lengths has an element {longest}, but the input has only {T} time steps; with"
            " batch_first the layer's input is (batch, time, input_size)"
        )
    return None if shortest == T else lengths.to(device=device, dtype=torch.int64)


def _check(
    cell: Cell,
    weights: Weights,
    x: Tensor,
    state: State | None,
    schedule: Schedule,
    lengths: Tensor | None,
    reset: Tensor | None,
    outputs: Wanted,
) -> Call:
    if not isinstance(cell, schedule.accepts):
        kinds = " or ".join(kind.__name__ for kind in schedule.accepts)
        raise UserError(
            f"{type(schedule).__name__} runs a {kinds}, and {type(cell).__name__} is none; leave"
            f" schedule out to get {dispatch.default_schedule(cell)}"
        )
    if outputs not in ("all", "last"):
        raise UserError(f"outputs must be 'all' or 'last', got {outputs!r}")
    if x.dim() != 3:
        raise UserError(f"x must be (time, batch, input_size), got {tuple(x.shape)}")
    T, B, size = x.shape
    if T == 0:
        raise UserError("Expected sequence length to be larger than 0 in RNN")
    expected = {name: spec.shape for name, spec in cell.parameters(size).items()}
    given = {name: tuple(weight.shape) for name, weight in weights.items()}
    if given != expected:
        raise UserError(
            f"weights do not fit {type(cell).__name__} and inputs of width {size}: expected"
            f" {expected}, got {given}"
        )
    if lengths is not None:
        lengths = check_lengths(lengths, T, B, x.device)
    if lengths is not None:
        # Padding may hold anything, and 0 * NaN in a gradient is NaN: it must not be read.
        x = x.masked_fill(past_end(T, lengths), 0)
    if reset is not None:
        given = isinstance(reset, Tensor)
        if not given or reset.shape != (T, B) or reset.dtype != torch.bool:
            got = f"{reset.dtype} {tuple(reset.shape)}" if given else type(reset).__name__
            raise UserError(
                f"reset must be a bool tensor ({T}, {B}), one flag per token, got {got}"
            )
        reset = reset.to(x.device)
        if lengths is not None:
            reset = reset & ~past_end(T, lengths).squeeze(-1)
    if state is not None:
        state = schedule.check_state(cell, state, B, x)
    return Call(cell, weights, x, state, lengths, reset, outputs)
