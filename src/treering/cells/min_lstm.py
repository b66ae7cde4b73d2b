"""minLSTM: an LSTM whose gates look at the input alone.

Legend: I input, H hidden; `...` any leading axes.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from treering._types import Weights
from treering.cells.abstract import AffineCell, ParameterSpec, product

GATES = ("f", "i", "h")


@final
@dataclass(frozen=True)
class MinLSTMCell(AffineCell):
    """minLSTM: normalised forget and input gates of the input alone.

        f, i = sigmoid(W_f x + b_f), sigmoid(W_i x + b_i)
        h_t = f/(f+i) * h_{t-1} + i/(f+i) * (W_h x_t + b_h)

    Cost: 3 I*H multiply-adds a token and a scan.
    When not to use it: as minGRU; it differs from it by a second gate only.
    Source: Feng et al., Were RNNs All We Needed?, arXiv 2410.01201, without the positive
    candidate (see minGRU).
    """

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        specs = {"weight_ih": ParameterSpec((3 * H, input_size), GATES)}
        if self.bias:
            specs["bias_ih"] = ParameterSpec((3 * H,), GATES)
        return specs

    def coefficients(self, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
        f, i, candidate = product(x, weights["weight_ih"], weights.get("bias_ih")).chunk(3, dim=-1)
        # f/(f+i) is a sigmoid of the difference of log gates: no quotient 0/0 when both close.
        balance = F.logsigmoid(f) - F.logsigmoid(i)
        return torch.sigmoid(balance), torch.sigmoid(-balance) * candidate
