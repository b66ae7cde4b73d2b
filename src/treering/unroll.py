"""The one door: run a cell along time under a schedule. Every check of a call lives here.

Legend: B batch, T time, I input, O output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from treering import dispatch, operator
from treering._errors import ShapeError, UserError
from treering._types import Inner, Run, State, Weights, map_tensors
from treering.cells.abstract import AffineCell, Cell, StepCell
from treering.schedules.abstract import Call, Schedule, Wanted
from treering.schedules.states import leaves_of, met, rebuilt

step_once = dispatch.step_once
"""One token through layers that lie on each other, where a kernel does that with few checks."""

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
    ranks: Tensor | None = None,
    outputs: Literal["all", "last"] = "all",
    inner: bool = False,
    carry: bool = True,
) -> Run:
    """Run `cell` with `weights` over x (T, B, I) and return `Run(outputs, state, ran)`.

    state: what an earlier call returned, to carry on; None starts anew.
    schedule: how to run along time; None takes the default of the cell's kind.
    lengths: (B,) integers in 1..T on any device; what lies beyond is never read (it may be NaN)
        and outputs there are zero.
    reset: (T, B) bool; True starts that sequence anew just before that token.
    ranks: (T, B) of numbers, under `Tree("given")` alone: the tree of each sequence, see `Tree`.
    outputs: "all" (T, B, O), or "last", (B, O), each sequence's own last one, where a schedule
        can save work that way.
    inner: also return the cell's states and gates at every token, `Run.inner`; with all outputs.
    carry: False if nobody asks for `Run.state`, which may then be None; some kernels save work.

    Under autocast matrix products run in low precision, everything else, states and outputs too,
    in the precision of the weights.

    Errors: ValueError, in one line, for anything that does not fit. Cost: the schedule's.
    """
    if outputs not in ("all", "last"):
        raise UserError(f"outputs must be 'all' or 'last', got {outputs!r}")
    schedule = dispatch.default_schedule(cell) if schedule is None else schedule
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return _traced(cell, weights, x, state, schedule, lengths, reset, ranks, outputs, inner)
    wanted: Wanted = "states" if inner and outputs == "all" else outputs
    call = _check(cell, weights, x, state, schedule, lengths, reset, ranks, wanted, carry)
    if torch.compiler.is_exporting():
        (result, last), ran = schedule.rolled(call), "the exported program's own loops"
    else:
        choice = dispatch.choose(schedule, call)
        run = schedule.run if choice.kernel is None else choice.kernel.run
        (result, last), ran = run(call), choice.line(schedule)
    seen = None
    if wanted == "states":
        states = cast(State, result)
        result, seen = cell.output(states), _inner(call, states)
    if call.lengths is not None and wanted != "last":
        result = result.masked_fill(past_end(x.shape[0], call.lengths), 0)
    return Run(result, last, ran, seen)


def _inner(call: Call, states: State) -> Inner:
    """States after every token, fields (T, B, ...), and the gates that led to them."""
    cell, x = call.cell, call.x
    gates = {}
    if isinstance(cell, StepCell | AffineCell):
        fresh = cell.initial_state(x.shape[1], x)
        first = fresh if call.state is None else call.state
        gates = cell.inner(call.weights, x, met(states, first, fresh, call.reset))
    if call.lengths is not None:
        ended = past_end(x.shape[0], call.lengths)
        states = map_tensors(lambda field: field.masked_fill(ended, 0), states)
        gates = {name: gate.masked_fill(ended, 0) for name, gate in gates.items()}
    return Inner(states, gates)


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
        raise ShapeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got"
            f" {tuple(lengths.shape)} (batch_size={B})"
        )
    if torch.compiler.is_compiling():
        # Values are unknown. Under torch.compile the operator checks them, on every call.
        return lengths.to(device=device, dtype=torch.int64)
    if B == 0:
        return None
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest <= 0:
        raise ShapeError(
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
    ranks: Tensor | None,
    outputs: Wanted,
    carry: bool,
) -> Call:
    if not isinstance(cell, schedule.accepts):
        kinds = " or ".join(kind.__name__ for kind in schedule.accepts)
        raise UserError(
            f"{type(schedule).__name__} runs a {kinds}, and {type(cell).__name__} is none; leave"
            f" schedule out to get {dispatch.default_schedule(cell)}"
        )
    if x.dim() != 3:
        raise UserError(f"x must be (time, batch, input_size), got {tuple(x.shape)}")
    T, B, size = x.shape
    if T == 0:
        raise ShapeError("Expected sequence length to be larger than 0 in RNN")
    expected = {name: spec.shape for name, spec in cell.parameters(size).items()}
    given = {n: tuple(w.shape) for n, w in weights.items() if not n.startswith("noise_")}
    if given != expected:
        raise UserError(
            f"weights do not fit {type(cell).__name__} and inputs of width {size}: expected"
            f" {expected}, got {given}"
        )
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(next(iter(weights.values())).dtype)
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
    ranks = _check_ranks(ranks, schedule, T, B, reset)
    return Call(cell, weights, x, state, lengths, reset, outputs, schedule, carry, ranks)


def _check_ranks(
    ranks: Tensor | None, schedule: Schedule, T: int, B: int, reset: Tensor | None
) -> Tensor | None:
    """Ranks (T, B) where the schedule reads them; UserError where they are missing or unread."""
    if not schedule.reads_ranks:
        if ranks is not None:
            raise UserError(
                f"ranks say along which tree to merge, and {schedule} has an order of its own;"
                " write schedule=tr.Tree('given') with them, or leave them out"
            )
        return None
    if ranks is None:
        raise UserError(
            f"{schedule} merges along a tree that comes with every call; pass it as ranks, one"
            " number for the boundary behind each token (see tr.Tree)"
        )
    given = isinstance(ranks, Tensor)
    if not given or ranks.shape != (T, B) or ranks.is_complex() or ranks.dtype == torch.bool:
        got = f"{ranks.dtype} {tuple(ranks.shape)}" if given else type(ranks).__name__
        raise UserError(
            f"ranks must be a tensor of numbers ({T}, {B}), one for the boundary behind each token,"
            f" got {got}"
        )
    if reset is not None:
        raise UserError(
            f"reset cannot be used under {schedule}, whose tree is over the whole sequence; split"
            " the sequences there instead"
        )
    known = ranks.is_floating_point() and not torch.compiler.is_compiling()
    if known and bool(ranks.isnan().any()):
        raise UserError("ranks has NaN, which is neither lower nor higher; give it numbers")
    return ranks.detach()


@dataclass(frozen=True)
class Recipe:
    """One kind of call, without its tensors: what the compiler's operator knows it by.

    names: the weights', in order. state: None, or how deep the carried state's tensors lie.
    autocast: what the traced code runs under.
    """

    cell: Cell
    schedule: Schedule
    names: tuple[str, ...]
    state: Any
    lengths: bool
    reset: bool
    ranks: bool
    outputs: Literal["all", "last"]
    inner: bool
    autocast: torch.dtype | None

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        rest = list(tensors)
        x = rest.pop(0)
        weights = {name: rest.pop(0) for name in self.names}
        state = None if self.state is None else _nested(self.state, rest)
        lengths = rest.pop(0) if self.lengths else None
        reset = rest.pop(0) if self.reset else None
        ranks = rest.pop(0) if self.ranks else None
        enabled = self.autocast is not None
        with torch.autocast(x.device.type, self.autocast, enabled=enabled):
            ran = unroll(
                self.cell, weights, x, state,
                schedule=self.schedule, lengths=lengths, reset=reset, ranks=ranks,
                outputs=self.outputs, inner=self.inner,
            )  # fmt: skip
        found = [ran.outputs, *leaves_of(self.schedule.fitted(ran.state))]
        if ran.inner is not None:
            found += [*leaves_of(ran.inner.state), *ran.inner.gates.values()]
        return found

    def blank(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (T, B, _), like = tensors[0].shape, tensors[1]
        last = self.schedule.blank_state(self.cell, B, like)
        leading = (B,) if self.outputs == "last" else (T, B)
        found = [like.new_empty(*leading, self.cell.output_size)]
        # Each its own tensor, or the compiler takes two outputs for one.
        found += [field.new_empty(field.shape) for field in leaves_of(last)]
        if self.inner and self.outputs == "all":
            held = leaves_of(self.schedule.cell_state(last))
            found += [field.new_empty(T, *field.shape) for field in held]
            gates = self.gates()
            found += [like.new_empty(T, B, self.cell.hidden_size) for _ in gates]
        return found

    def gates(self) -> tuple[str, ...]:
        """Names of the gates that `inner` would show."""
        if not isinstance(self.cell, StepCell | AffineCell):
            return ()
        specs = self.cell.parameters(1)
        weights = {name: torch.zeros(spec.shape) for name, spec in specs.items()}
        x = torch.zeros(1, 1, 1)
        before = map_tensors(lambda f: f.unsqueeze(0), self.cell.initial_state(1, x))
        return tuple(self.cell.inner(weights, x, before))


@operator.constant
def _key(*recipe: Any) -> str:
    return operator.key(Recipe(*recipe))


@operator.constant
def _gate_names(*recipe: Any) -> str:
    return " ".join(Recipe(*recipe).gates())


def _traced(
    cell: Cell,
    weights: Weights,
    x: Tensor,
    state: State | None,
    schedule: Schedule,
    lengths: Tensor | None,
    reset: Tensor | None,
    ranks: Tensor | None,
    outputs: Literal["all", "last"],
    inner: bool,
) -> Run:
    """`unroll` as one operator of a graph; everything is checked when it runs."""
    device = x.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    carried = None if state is None else _depths(state)
    names = tuple(weights)
    further = (lengths, reset, ranks)
    present = (tensor is not None for tensor in further)
    recipe = (cell, schedule, names, carried, *present, outputs, inner, low)
    given = [x, *weights.values(), *([] if state is None else leaves_of(state))]
    given += [tensor for tensor in further if tensor is not None]
    found = operator.apply(given, _key(*recipe))
    like = given[1]
    blank = schedule.blank_state(cell, x.shape[1], like)
    width = len(leaves_of(blank))
    last = rebuilt(blank, found[1 : 1 + width])
    seen = None
    if inner and outputs == "all":
        blank = schedule.cell_state(blank)
        end = 1 + width + len(leaves_of(blank))
        gates = dict(zip(_gate_names(*recipe).split(), found[end:], strict=True))
        seen = Inner(rebuilt(blank, found[1 + width : end]), gates)
    return Run(found[0], last, "one operator of torch.compile", seen)


def _depths(state: Any) -> Any:
    """A state's structure: nested tuples, empty where a tensor is."""
    if isinstance(state, Tensor):
        return ()
    if not isinstance(state, tuple | list):
        raise UserError(
            "a state is a tuple of tensors, as an earlier call returned it; got"
            f" {type(state).__name__}"
        )
    return tuple(_depths(part) for part in state)


def _nested(depths: Any, leaves: list[Tensor]) -> Any:
    """The inverse of `_depths`, taking the tensors from the front of `leaves`."""
    return tuple(_nested(part, leaves) for part in depths) if depths else leaves.pop(0)
