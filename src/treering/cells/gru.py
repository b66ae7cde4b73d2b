"""Gated recurrent unit, with nn.GRU's numbers and names.

Legend: B batch, I input, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from treering._types import Hidden, State, Weights
from treering.cells.abstract import ParameterSpec
from treering.cells.regularised import Gates, RegularisedCell

GATES = ("r", "z", "n")


@final
@dataclass(frozen=True)
class GRUCell(RegularisedCell):
    """Gated recurrent unit, reset gate applied after the recurrent product.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h

    Cost: 3 (I*H + H*H) multiply-adds a token, one matrix product a step.
    When not to use it: to count without bound; its state is a convex mixture, so it cannot.
    Source: Cho et al., arXiv 1406.1078; the place of r and all names are torch.nn.GRU's.
    """

    torch_equivalent: ClassVar[type[nn.RNNBase] | None] = nn.GRU
    keep_gate: ClassVar[str | None] = "z"

    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        specs = {
            "weight_ih": ParameterSpec((3 * H, input_size), GATES),
            "weight_hh": ParameterSpec((3 * H, H), GATES),
        }
        if self.bias:
            specs |= {
                "bias_ih": ParameterSpec((3 * H,), GATES),
                "bias_hh": ParameterSpec((3 * H,), GATES),
            }
        return specs

    def initial_state(self, batch: int, like: Tensor) -> Hidden:
        return Hidden(like.new_zeros(batch, self.hidden_size))

    def added_bias(self, weights: Weights) -> Tensor | None:
        # The candidate's bias_hh stands inside the reset gate's product.
        return weights.get("bias_ih")

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        recurrent = self.recurrent_product(weights, state, weights.get("bias_hh"))
        x_r, x_z, x_n = projected.chunk(3, dim=-1)
        h_r, h_z, h_n = recurrent.chunk(3, dim=-1)
        r = torch.sigmoid(x_r + h_r)
        z = torch.sigmoid(x_z + h_z)
        return {"r": r, "z": z, "n": torch.tanh(torch.addcmul(x_n, r, h_n))}

    def update(self, weights: Weights, gates: Gates, state: State) -> Hidden:
        del weights
        return Hidden(torch.lerp(gates["n"], state[0], gates["z"]))
