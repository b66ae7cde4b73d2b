"""Multinomial logistic regression on frozen states.

Legend: N states, H hidden, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ITERATIONS = 100


class LinearProbe(NamedTuple):
    """`argmax W (x - mean) / scale + b` of x (N, H)."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Classes (...,) of x (..., H)."""
        return F.linear((x.double() - self.mean) / self.scale, self.weight, self.bias).argmax(-1)

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        return (self(x) == y).double().mean().item()


def fit(x: Tensor, y: Tensor, classes: int, l2: float) -> LinearProbe:
    """The minimum of `mean cross entropy + l2/2 |W|^2` over W and b; x (N, H), y (N,) int64.

    Channels are brought to mean 0 and deviation 1 first, so that l2 means the same for every
    layer. The problem is convex; L-BFGS in float64 ends at the tolerance or after ITERATIONS.
    """
    x = x.double()
    mean, deviation = x.mean(0), x.std(0, correction=0)
    # A channel that never moves tells nothing, and has no scale.
    scale = torch.where(deviation > 1e-12 * (1 + mean.abs()), deviation, 1.0)
    inputs = (x - mean) / scale
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = F.cross_entropy(F.linear(inputs, weight, bias), y) + l2 / 2 * weight.square().sum()
        nats.backward()
        return nats

    with torch.enable_grad():
        optimizer.step(loss)
    return LinearProbe(weight.detach(), bias.detach(), mean, scale)


def select(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], classes: int
) -> tuple[LinearProbe, float]:
    """The probe whose l2, of PENALTIES, is best on the validation part; of equals the largest."""
    found = [(fit(*train, classes, l2), l2) for l2 in PENALTIES]
    return max(found, key=lambda one: (one[0].accuracy(*validation), one[1]))
