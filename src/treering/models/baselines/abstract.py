"""What a baseline is to the models that hold it: the part of a layer's contract that they use.

Legend: B batch, T time, I input, O output.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from treering._errors import ShapeError, UserError


class Baseline(nn.Module, ABC):
    """A sequence model, batch first: x (B, T, I) -> y (B, T, O), zero beyond `lengths`.

    lengths: (B,) integers in 1..T; what lies beyond is never read. input_length: how many of the T
    tokens are the input itself, where empty ones follow it; None: all of a sequence.
    """

    relu_before_head: ClassVar[bool] = True
    """Whether the benchmark has a relu between this model's output and the linear head."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional = False
    batch_first = True

    @property
    def output_size(self) -> int:
        """O, the width of one output."""
        return self.hidden_size

    @classmethod
    def of_sizes(cls, input_size: int, hidden_size: int, **options: Any) -> Self:
        """Built as layers are, from the two sizes and `options()`."""
        return cls(input_size, hidden_size, **options)

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Options and their defaults."""
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        *,
        input_length: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Outputs at every position, and the state to go on with, where the model has one."""

    @abstractmethod
    def reduce(
        self, x: Tensor, lengths: Tensor | None = None, *, input_length: int | None = None
    ) -> Tensor:
        """Only the output at each sequence's last token, (B, O)."""

    def _checked(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x with zeros beyond the lengths, and these on its device; None where all are T."""
        name = type(self).__name__
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            raise ShapeError(f"{name} takes (batch, time, {self.input_size}), got {tuple(x.shape)}")
        B, T, _ = x.shape
        if T == 0:
            raise ShapeError(f"{name} takes sequences of one token or more, got none")
        if lengths is None:
            return x, None
        if lengths.shape != (B,) or lengths.is_floating_point():
            raise ShapeError(
                f"lengths must be {B} integers, one for each sequence, got {lengths.dtype}"
                f" {tuple(lengths.shape)}"
            )
        if B and not 1 <= int(lengths.min()) <= int(lengths.max()) <= T:
            raise UserError(f"lengths must lie in 1..{T}, got {lengths.tolist()}")
        lengths = lengths.to(x.device, torch.int64)
        return x.masked_fill(past_end(T, lengths).unsqueeze(-1), 0), lengths


def past_end(T: int, lengths: Tensor) -> Tensor:
    """(B, T) bool, True beyond each sequence's length."""
    return torch.arange(T, device=lengths.device) >= lengths.unsqueeze(1)


def check_sizes(**sizes: int) -> None:
    """Refuse what is no positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"{name} must be an integer of at least 1, got {size!r}")


@torch.no_grad()
def initialise(weight: Tensor, bias: Tensor | None, fan_in: int) -> None:
    """A normal of standard deviation 1/sqrt(fan in) cut at two deviations, and a bias of 0.

    What the benchmark's linear maps start from.
    """
    std = fan_in**-0.5
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    if bias is not None:
        nn.init.zeros_(bias)
