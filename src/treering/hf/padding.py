"""Attention masks as what a recurrence can read: for each row, one stretch of tokens.

Legend: B batch, T time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from treering._errors import UserError


class Stretch(NamedTuple):
    """Where each row's tokens lie in a padded batch: start (B,), lengths (B,), both int64."""

    start: Tensor
    lengths: Tensor

    def to_front(self, x: Tensor) -> Tensor:
        """x (B, T, ...) rotated along time so that every row's tokens come first."""
        return self._rotate(x, self.start)

    def to_place(self, x: Tensor) -> Tensor:
        """The inverse of `to_front`."""
        return self._rotate(x, -self.start)

    def _rotate(self, x: Tensor, by: Tensor) -> Tensor:
        B, T = x.shape[:2]
        source = (torch.arange(T, device=x.device) + by.to(x.device).unsqueeze(1)) % T
        source = source.reshape(B, T, *[1] * (x.dim() - 2))
        return x.gather(1, source.expand_as(x))


def read_mask(mask: Tensor | None, B: int, T: int, seen: int = 0) -> Stretch | None:
    """The stretch that an attention mask leaves of each row; None if nothing is masked.

    mask: (B, T) bool or 0/1, or (B, seen + T) where `seen` positions were read by earlier calls;
        padding may lie left, right or on both sides.
    Errors: ValueError for another shape, a row without tokens, or a hole inside a row.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise UserError(
            f"attention_mask must be a tensor (batch, time) = {(B, T)} with 1 for tokens and 0"
            f" for padding, got {got}"
        )
    if tuple(mask.shape) not in ((B, T), (B, seen + T)):
        wider = f" or {(B, seen + T)}, earlier tokens included" if seen else ""
        raise UserError(
            f"attention_mask must be (batch, time) = {(B, T)}{wider}, got {tuple(mask.shape)}"
        )
    tokens = mask[:, mask.shape[1] - T :] != 0
    if bool(tokens.all()):
        return None
    lengths = tokens.sum(1)
    before = (tokens.cumsum(1) == 0).sum(1)
    after = (tokens.flip(1).cumsum(1) == 0).sum(1)
    if not bool(lengths.all()):
        row = int((lengths == 0).nonzero()[0])
        raise UserError(
            f"attention_mask leaves no token in row {row}; take empty sequences out of the batch"
        )
    holes = before + lengths + after != T
    if bool(holes.any()):
        row = int(holes.nonzero()[0])
        raise UserError(
            f"attention_mask has a hole in row {row}: a recurrence reads one unbroken stretch;"
            " take the masked tokens out and pad at the left or the right instead"
        )
    return Stretch(before, lengths)
