"""Long short-term memory, with nn.LSTM's numbers and names.

Legend: B batch, I input, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._types import HiddenCell, State, Weights
from treering.cells.abstract import ParameterSpec, StepCell

GATES = ("i", "f", "g", "o")


def lstm_update(i: Tensor, f: Tensor, g: Tensor, o: Tensor, c: Tensor) -> HiddenCell:
    """The LSTM's state after its four pre-activations are known; each (..., H).

    c' = sigmoid(f) * c + sigmoid(i) * tanh(g),  h' = sigmoid(o) * tanh(c')
    """
    c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), torch.tanh(g))
    return HiddenCell(torch.sigmoid(o) * torch.tanh(c), c)


@final
@dataclass(frozen=True)
class LSTMCell(StepCell):
    """Long short-term memory: four gates, gate order i, f, g, o.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Cost: 4 (I*H + H*H) multiply-adds a token, one matrix product a step.
    When not to use it: where time must be parallel; every step waits for the one before.
    Source: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; names and
    gate order are torch.nn.LSTM's.
    """

    torch_equivalent: ClassVar[type[nn.RNNBase] | None] = nn.LSTM

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        specs = {
            "weight_ih": ParameterSpec((4 * H, input_size), GATES),
            "weight_hh": ParameterSpec((4 * H, H), GATES),
        }
        if self.bias:
            specs |= {
                "bias_ih": ParameterSpec((4 * H,), GATES),
                "bias_hh": ParameterSpec((4 * H,), GATES),
            }
        return specs

    def initial_state(self, batch: int, like: Tensor) -> HiddenCell:
        h = like.new_zeros(batch, self.hidden_size)
        return HiddenCell(h, torch.zeros_like(h))

    def project(self, weights: Weights, x: Tensor) -> Tensor:
        bias = weights["bias_ih"] + weights["bias_hh"] if self.bias else None
        return F.linear(x, weights["weight_ih"], bias)

    def step(self, weights: Weights, projected: Tensor, state: State) -> HiddenCell:
        h, c = state
        gates = torch.addmm(projected, h, weights["weight_hh"].t())
        i, f, g, o = gates.chunk(4, dim=-1)
        return lstm_update(i, f, g, o, c)
