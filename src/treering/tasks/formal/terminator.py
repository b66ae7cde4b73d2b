"""Outputs of varying length in a fixed number of positions: content, a 2, then zeros.

Dimensions: B rows of a batch, M output positions.
"""

import torch
from torch import Tensor

TERMINATOR = 2


def terminate(content: Tensor, count: Tensor) -> Tensor:
    """(B, M): the first `count` (B,) entries of `content` (B, M), a terminator, zeros."""
    position = torch.arange(content.shape[1], device=content.device)
    after = torch.where(position == count[:, None], TERMINATOR, 0)
    return torch.where(position < count[:, None], content, after)


def up_to_terminator(targets: Tensor) -> Tensor:
    """(B, M) bool: everything up to and including the first terminator of a row."""
    terminators = targets == TERMINATOR
    return terminators.cumsum(1) - terminators.long() == 0
