"""Long short-term memory, with nn.LSTM's numbers and names.

Legend: B batch, I input, H hidden, P projected width (H without a projection).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering._types import HiddenCell, State, Weights
from treering.cells.abstract import ParameterSpec, product
from treering.cells.regularised import Gates, RegularisedCell

GATES = ("i", "f", "g", "o")


def lstm_gates(pre: Sequence[Tensor]) -> Gates:
    """The pre-activations of i, f, g, o after their activations; each (..., H)."""
    i, f, g, o = pre
    activated = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    return dict(zip(GATES, activated, strict=True))


def lstm_memory(gates: Gates, c: Tensor) -> Tensor:
    """c' = f * c + i * g, each (..., H)."""
    return torch.addcmul(gates["f"] * c, gates["i"], gates["g"])


@final
@dataclass(frozen=True)
class LSTMCell(RegularisedCell):
    """Long short-term memory: four gates, gate order i, f, g, o.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')                 with `proj_size`: W_hr (sigmoid(o) * tanh(c'))

    Cost: 4 (I*H + H*H) multiply-adds a token, one matrix product a step; with `proj_size` P
    4 (I*H + P*H) + H*P in two products.
    When not to use it: where time must be parallel; every step waits for the one before.
    Source: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; projection:
    Sak et al., arXiv 1402.1128; names and gate order are torch.nn.LSTM's.
    """

    proj_size: int = 0

    torch_equivalent: ClassVar[type[nn.RNNBase] | None] = nn.LSTM
    keep_gate: ClassVar[str | None] = "f"
    zoned: ClassVar[tuple[str, ...]] = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        # nn.LSTM's words for both.
        if isinstance(self.proj_size, bool) or self.proj_size < 0:
            raise UserError("proj_size should be a positive integer or zero to disable projections")
        if self.proj_size >= self.hidden_size:
            raise UserError("proj_size has to be smaller than hidden_size")

    @property
    def width(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        return self.width

    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        H, P = self.hidden_size, self.width
        specs = {
            "weight_ih": ParameterSpec((4 * H, input_size), GATES),
            "weight_hh": ParameterSpec((4 * H, P), GATES),
        }
        if self.bias:
            specs |= {
                "bias_ih": ParameterSpec((4 * H,), GATES),
                "bias_hh": ParameterSpec((4 * H,), GATES),
            }
        if self.proj_size:
            specs["weight_hr"] = ParameterSpec((P, H))
        return specs

    def initial_state(self, batch: int, like: Tensor) -> HiddenCell:
        return HiddenCell(
            like.new_zeros(batch, self.width), like.new_zeros(batch, self.hidden_size)
        )

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        return lstm_gates(self.joined(weights, projected, state).chunk(4, dim=-1))

    def update(self, weights: Weights, gates: Gates, state: State) -> HiddenCell:
        c = lstm_memory(gates, state[1])
        h = gates["o"] * self.read(weights, c)
        return HiddenCell(product(h, weights["weight_hr"]) if self.proj_size else h, c)
