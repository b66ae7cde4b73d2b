"""The kinds of cell: what a schedule may know about the mathematics it runs.

A cell is a frozen bag of hyperparameters with pure functions on explicit weights. It never loops
over time, never looks at a device and holds no tensor. Concrete cells are final: one file each.

Legend: B batch, T time, I input, H hidden, O output, G projected width.
A leading `...` stands for any number of axes that the formula does not look at.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._types import Hidden, HiddenCell, State, Weights


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b` (..., R) for x (..., I), W (R, I): every matrix product of a cell.

    Under autocast it is computed in low precision; all that follows, the state above all, goes on
    in the precision of the weights.
    """
    return F.linear(x, weight, bias).to(weight.dtype)


class ParameterSpec(NamedTuple):
    """Shape of one parameter, and the names of the equal blocks its rows divide into."""

    shape: tuple[int, ...]
    gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell(ABC):
    """What every kind of cell has: parameters, their initial values, an output."""

    hidden_size: int
    bias: bool = field(default=True, kw_only=True)

    torch_equivalent: ClassVar[type[nn.RNNBase] | None] = None

    @abstractmethod
    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        """Every parameter for inputs of width I, in the order of initialisation."""

    @property
    def output_size(self) -> int:
        """O, the width of one output."""
        return self.hidden_size

    def initialise(self, weights: Weights) -> None:
        """Fill the weights in place: U(-1/sqrt(H), 1/sqrt(H)) for every entry, as nn.LSTM does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in weights.values():
            nn.init.uniform_(weight, -bound, bound)

    def noise(self, weights: Weights, steps: int, batch: int) -> dict[str, Tensor]:
        """What this cell's options make random in training, drawn for one call.

        Parameters with noise on them, under their own names, and masks under names that begin
        with "noise_"; both go into the weights of the call. Nothing unless an option asks for it.
        """
        del weights, steps, batch
        return {}

    def inner(self, weights: Weights, x: Tensor, before: State) -> dict[str, Tensor]:
        """Gates and candidates by name, (T, B, H) or broadcast to it, where the cell has any.

        x (T, B, I); before: the state that each token met, fields (T, B, ...).
        """
        del weights, x, before
        return {}

    def output(self, state: State) -> Tensor:
        """The layer's output (..., O) at a state; h unless the cell says otherwise."""
        return state[0]


@dataclass(frozen=True)
class StepCell(Cell):
    """A recurrence taken one token at a time: `(x_t, state) -> state`.

    The part that does not depend on the state is hoisted out of time: `project` runs once over
    all T, `step` adds what depends on the state.
    """

    @abstractmethod
    def project(self, weights: Weights, x: Tensor) -> Tensor:
        """x (..., I) -> what `step` needs of it, (..., G)."""

    @abstractmethod
    def step(self, weights: Weights, projected: Tensor, state: State) -> State:
        """One step: projected (B, G) and the state before it -> the state after it."""

    @abstractmethod
    def initial_state(self, batch: int, like: Tensor) -> State:
        """The state before the first token: zeros, with the dtype and device of `like`."""


@dataclass(frozen=True)
class AffineCell(Cell):
    """An elementwise affine recurrence: `h_t = a_t * h_{t-1} + b_t`, a and b from x_t alone.

    Because a composition of affine maps is affine, such a cell can also run in parallel in time.
    """

    @abstractmethod
    def coefficients(self, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., I) -> a (..., H) and b (..., H)."""

    def initial_state(self, batch: int, like: Tensor) -> Hidden:
        """The state before the first token: zeros, so that a reset is `a_t = 0`."""
        return Hidden(like.new_zeros(batch, self.hidden_size))

    def inner(self, weights: Weights, x: Tensor, before: State) -> dict[str, Tensor]:
        """The coefficients: a, the share of the old state that is kept, and b, what is added."""
        del before
        return dict(zip(("a", "b"), self.coefficients(weights, x), strict=True))

    def step(self, weights: Weights, coefficients: tuple[Tensor, Tensor], state: State) -> Hidden:
        """One step of the recurrence, the definition every schedule is compared with.

        a and b (B, H) hold all that the weights have to say; `weights` is taken so that a step
        looks alike for every kind of cell.
        """
        del weights
        a, b = coefficients
        return Hidden(torch.addcmul(b, a, state[0]))


@dataclass(frozen=True)
class MergeCell(Cell):
    """A binary operation on states: `leaf(x_t) -> state`, `merge(left, right) -> state`.

    The operation need not be associative: the order of the merges is then part of the model,
    and the schedule that chooses it defines the function (see `schedules.tree`).
    """

    state_type: ClassVar[type[Hidden] | type[HiddenCell]]

    @abstractmethod
    def leaf(self, weights: Weights, x: Tensor) -> State:
        """The state of a single token: x (..., I) -> fields (..., H)."""

    @abstractmethod
    def merge(self, weights: Weights, left: State, right: State) -> State:
        """The state of two adjacent spans, fields (..., H) each -> fields (..., H)."""
