"""Random integers on the generator's device.

Dimensions: B rows of a batch, T positions.
"""

import torch
from torch import Tensor


def strings(batch: int, length: int, size: int, generator: torch.Generator | None) -> Tensor:
    """(B, T) int64 symbols, each uniform in 0..size-1."""
    return torch.randint(size, (batch, length), generator=generator, device=device(generator))


def below(bounds: Tensor, generator: torch.Generator | None) -> Tensor:
    """int64 of the shape of `bounds`, each uniform in 0..bound-1; bounds are at least 1.

    `torch.randint` knows one bound only. A double times a bound under 2^52 rounds to a number
    below that bound, so the floor is never the bound itself.
    """
    uniform = torch.rand(
        bounds.shape, dtype=torch.float64, generator=generator, device=bounds.device
    )
    return (uniform * bounds).long()


def device(generator: torch.Generator | None) -> torch.device:
    """Where a generator draws; the CPU without one."""
    return torch.device("cpu") if generator is None else generator.device
