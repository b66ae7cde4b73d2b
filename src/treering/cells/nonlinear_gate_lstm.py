"""LSTM whose gates see a small rectified layer beside the linear map.

Legend: B batch, I input, H hidden, n number of nonlinear gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from treering._errors import UserError
from treering._types import HiddenCell, State, Weights
from treering.cells.abstract import ParameterSpec, product
from treering.cells.lstm import GATES, lstm_gates, lstm_memory
from treering.cells.regularised import Gates, RegularisedCell


@final
@dataclass(frozen=True)
class NonlinearGateLSTMCell(RegularisedCell):
    """LSTM with nonlinear gates: each chosen gate k adds a rectified map to its pre-activation.

        pre_k = U_k x + W_k h + relu(A_k x + B_k h) + b_k       for k in `gates`
        pre_k = U_k x + W_k h + b_k                              for the other gates
        c' = sigmoid(pre_f) * c + sigmoid(pre_i) * tanh(pre_g);  h' = sigmoid(pre_o) * tanh(c')

    `gates` is any subset of "ifgo", for instance "f" for the forget gate alone. U is `weight_ih`,
    W `weight_hh`, A `weight_relu_ih` and B `weight_relu_hh` (rows in the order of `gates`).

    Cost: (4 + n) (I*H + H*H) multiply-adds a token for n nonlinear gates: twice an LSTM's with
    all four.
    When not to use it: where parameters are dear; compare it with an LSTM of equal parameters.
    Source: arXiv 2509.00087, whose public summary asks for gates made nonlinear by a small
    feed-forward network with eight new matrices but does not spell the formula out. The formula
    is our reading; so is that the rectified map has no bias of its own.
    """

    gates: Sequence[str] = "ifgo"

    keep_gate: ClassVar[str | None] = "f"
    recurrent_weights: ClassVar[tuple[str, ...]] = ("weight_hh", "weight_relu_hh")
    zoned: ClassVar[tuple[str, ...]] = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = set(self.gates)
        if not chosen or len(chosen) != len(self.gates) or not chosen <= set(GATES):
            raise UserError(
                f"gates must name each nonlinear gate once out of i, f, g, o, got {self.gates!r};"
                " write for instance 'f' or 'ifgo'"
            )
        # One order for the rows, however the user wrote the subset.
        object.__setattr__(self, "gates", "".join(k for k in GATES if k in chosen))

    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        nonlinear = tuple(self.gates)
        n = len(nonlinear)
        specs = {
            "weight_ih": ParameterSpec((4 * H, input_size), GATES),
            "weight_hh": ParameterSpec((4 * H, H), GATES),
            "weight_relu_ih": ParameterSpec((n * H, input_size), nonlinear),
            "weight_relu_hh": ParameterSpec((n * H, H), nonlinear),
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

    def input_maps(self, weights: Weights, x: Tensor) -> Tensor:
        linear = self.input_product(weights, x, self.added_bias(weights))
        return torch.cat((linear, product(x, weights["weight_relu_ih"])), dim=-1)

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        x_linear, x_rectified = projected.split(
            (4 * self.hidden_size, len(self.gates) * self.hidden_size), dim=-1
        )
        linear = self.joined(weights, x_linear, state)
        rectified = x_rectified + product(self.hidden(weights, state), weights["weight_relu_hh"])
        pre: dict[str, Tensor] = dict(zip(GATES, linear.chunk(4, dim=-1), strict=True))
        bends = torch.relu(rectified).chunk(len(self.gates), dim=-1)
        for gate, bend in zip(self.gates, bends, strict=True):
            pre[gate] = pre[gate] + bend
        return lstm_gates(tuple(pre.values()))

    def update(self, weights: Weights, gates: Gates, state: State) -> HiddenCell:
        c = lstm_memory(gates, state[1])
        return HiddenCell(gates["o"] * self.read(weights, c), c)
