"""minGRU: a GRU whose gates look at the input alone.

Legend: I input, H hidden; `...` any leading axes.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from treering._types import Weights
from treering.cells.abstract import AffineCell, ParameterSpec, product

GATES = ("z", "h")


@final
@dataclass(frozen=True)
class MinGRUCell(AffineCell):
    """minGRU: `h_t = (1 - z_t) * h_{t-1} + z_t * (W_h x_t + b_h)`, `z_t = sigmoid(W_z x_t + b_z)`.

    Cost: 2 I*H multiply-adds a token and a scan; no matrix product waits for the step before.
    When not to use it: to track a state that depends on order (parity, counters): one layer of
    gates that ignore the state cannot.
    Source: Feng et al., Were RNNs All We Needed?, arXiv 2410.01201. Theirs also squashes the
    candidate to positive values so as to scan in logarithms; that loses digits with length and
    is left out here.
    """

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        specs = {"weight_ih": ParameterSpec((2 * H, input_size), GATES)}
        if self.bias:
            specs["bias_ih"] = ParameterSpec((2 * H,), GATES)
        return specs

    def coefficients(self, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
        z, candidate = product(x, weights["weight_ih"], weights.get("bias_ih")).chunk(2, dim=-1)
        # 1 - sigmoid(z) written as sigmoid(-z), which keeps its digits when z is large.
        return torch.sigmoid(-z), torch.sigmoid(z) * candidate
