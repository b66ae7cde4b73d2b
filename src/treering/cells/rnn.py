"""Elman's recurrent network, with nn.RNN's numbers and names.

Legend: B batch, I input, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering._types import Hidden, State, Weights
from treering.cells.abstract import ParameterSpec
from treering.cells.regularised import Gates, RegularisedCell

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


@final
@dataclass(frozen=True)
class RNNCell(RegularisedCell):
    """Elman network: `h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`, act tanh or relu.

    Cost: I*H + H*H multiply-adds a token, one matrix product a step.
    When not to use it: for dependencies beyond a few dozen tokens; its gradient vanishes or
    explodes geometrically with distance.
    Source: J. Elman, Finding Structure in Time, 1990; numbers and names are torch.nn.RNN's.
    """

    nonlinearity: str = "tanh"

    torch_equivalent: ClassVar[type[nn.RNNBase] | None] = nn.RNN

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nonlinearity not in ACTIVATIONS:
            raise UserError(
                f"nonlinearity {self.nonlinearity!r} is not known; write 'tanh' or 'relu'"
            )

    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        specs = {
            "weight_ih": ParameterSpec((H, input_size), ("h",)),
            "weight_hh": ParameterSpec((H, H), ("h",)),
        }
        if self.bias:
            specs |= {"bias_ih": ParameterSpec((H,)), "bias_hh": ParameterSpec((H,))}
        return specs

    def initial_state(self, batch: int, like: Tensor) -> Hidden:
        return Hidden(like.new_zeros(batch, self.hidden_size))

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        return {"h": ACTIVATIONS[self.nonlinearity](self.joined(weights, projected, state))}

    def update(self, weights: Weights, gates: Gates, state: State) -> Hidden:
        del weights, state
        return Hidden(gates["h"])
