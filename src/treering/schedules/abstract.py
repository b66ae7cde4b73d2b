"""What every schedule declares and does.

Legend: B batch, T time, I input, O output.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from treering._types import State, Weights
from treering.cells.abstract import Cell

Wanted = Literal["all", "last", "states"]
"""Outputs at every position, or after each sequence's last token, or the cell's states at every
position in their place."""


@dataclass(frozen=True)
class Call:
    """One call as schedules and kernels get it, checked by `unroll`.

    x: (T, B, I), finite or not, but zero beyond `lengths`. state: of the cell's or schedule's own
    types, or None to start anew. lengths: (B,) int64 on x's device, each in 1..T; None where all
    are T. reset: (T, B) bool; True starts a sequence anew just before that token. ranks: (T, B) of
    numbers, for schedules that read them; entry t is of the boundary behind token t.
    """

    cell: Cell
    weights: Weights
    x: Tensor
    state: State | None
    lengths: Tensor | None
    reset: Tensor | None
    wanted: Wanted
    schedule: "Schedule"
    carry: bool = True
    """Whether anybody asks for the state to go on with."""
    ranks: Tensor | None = None


@dataclass(frozen=True)
class Schedule(ABC):
    """An order in which a cell's calls run along time; carries its own options.

    `accepts` names the kinds of cell it can run; `unroll` compares, the schedule never asks what
    concrete cell it was given. `guarantee`: SAME computes the step reference's function up to
    rounding; DEFINES chooses brackets, which are part of the model.
    """

    accepts: ClassVar[tuple[type[Cell], ...]]
    guarantee: ClassVar[Literal["SAME", "DEFINES"]]

    @property
    def reads_ranks(self) -> bool:
        """Whether every call must say, by ranks, along which tree it merges."""
        return False

    @abstractmethod
    def run(self, call: Call) -> tuple[Any, State]:
        """Outputs (T, B, O), anything past a sequence's length, or (B, O) if only the last are
        wanted, or the cell's states, fields (T, B, ...), and the state to go on with.
        """

    @abstractmethod
    def rolled(self, call: Call) -> tuple[Any, State]:
        """As `run`, for `torch.export`: loops of the exported program, any number of tokens.

        Raises a UserError where that cannot be expressed. Values are unknown: nothing may depend
        on what lengths, resets or states hold.
        """

    @abstractmethod
    def blank_state(self, cell: Cell, batch: int, like: Tensor) -> State:
        """A state of the structure, shapes and dtypes that `run` and `rolled` return when traced.

        Shapes must not depend on the number of tokens: `fitted` gives every state this form.
        """

    def drawn(self, carries_on: bool) -> "Schedule":
        """What this schedule's options make random in training, drawn for one call.

        Itself unless an option asks for it. carries_on: the call is given a state; a UserError
        where it could not be of the schedule drawn.
        """
        del carries_on
        return self

    def cell_state(self, state: State) -> State:
        """The cell's own state, fields (B, ...), inside the one that is carried on."""
        return state

    def fitted(self, state: State) -> State:
        """A state as `run` returns it, in the form that `blank_state` promises."""
        return state

    def refuses_reorder(self) -> str | None:
        """Why tokens can only be read in the order of time under this schedule, or None."""
        return None

    @abstractmethod
    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        """`state`, with the cell's own types; it may be given as plain tuples.

        Raises a UserError saying why it cannot start `batch` sequences of `cell`.
        """
