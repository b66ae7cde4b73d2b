"""What every schedule declares and does.

Legend: B batch, T time, I input, O output.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from treering._types import State, Weights
from treering.cells.abstract import Cell

Wanted = Literal["all", "last"]
"""Outputs at every position, or only after each sequence's last token."""


@dataclass(frozen=True)
class Call:
    """One call as schedules and kernels get it, checked by `unroll`.

    x: (T, B, I), finite or not, but zero beyond `lengths`. state: of the cell's or schedule's own
    types, or None to start anew. lengths: (B,) int64 on x's device, each in 1..T; None where all
    are T. reset: (T, B) bool; True starts a sequence anew just before that token.
    """

    cell: Cell
    weights: Weights
    x: Tensor
    state: State | None
    lengths: Tensor | None
    reset: Tensor | None
    wanted: Wanted


@dataclass(frozen=True)
class Schedule(ABC):
    """An order in which a cell's calls run along time; carries its own options.

    `accepts` names the kinds of cell it can run; `unroll` compares, the schedule never asks what
    concrete cell it was given. `guarantee`: SAME computes the step reference's function up to
    rounding; DEFINES chooses brackets, which are part of the model.
    """

    accepts: ClassVar[tuple[type[Cell], ...]]
    guarantee: ClassVar[Literal["SAME", "DEFINES"]]

    @abstractmethod
    def run(self, call: Call) -> tuple[Tensor, State]:
        """Outputs (T, B, O), anything past a sequence's length, or (B, O) if only the last are
        wanted, and the state after each sequence's last token.
        """

    def refuses_reorder(self) -> str | None:
        """Why tokens can only be read in the order of time under this schedule, or None."""
        return None

    @abstractmethod
    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        """`state`, with the cell's own types; it may be given as plain tuples.

        Raises a UserError saying why it cannot start `batch` sequences of `cell`.
        """
