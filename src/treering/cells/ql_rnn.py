"""QL-RNN: a plain RNN that gets a forget gate out of its one affine map, and an additive skip.

Legend: B batch, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from treering._errors import UserError
from treering._types import Hidden, State, Weights
from treering.cells.ql_parts import Block, QLCell
from treering.cells.regularised import Gates


class QLRNNState(NamedTuple):
    """State with a block-level skip: h (B, H) and the block's memory."""

    h: Tensor
    block: Block


@final
@dataclass(frozen=True)
class QLRNNCell(QLCell):
    """QL-RNN: the unified gating and additive skip of QL-LSTM, carried over to the plain RNN.

        z = W_ih x + W_hh h + b                      one block of H rows
        n = tanh(scale_n * z + bias_n);  f = sigmoid(scale_f * z + bias_f)
        h' = f * h + (1 - f) * n + alpha * h

    A plain RNN has one map and so nothing to share; what sharing buys is a forget gate for the
    price of two vectors. `shared_blocks=2` gives f a block of its own. Options otherwise as in
    QL-LSTM; `skip="none"` leaves h' = tanh(z), the plain RNN itself.

    Cost: `shared_blocks` (I*H + H*H) multiply-adds a token.
    When not to use it: to reproduce a published RNN; this is another cell.
    Source: the future work of arXiv 2512.06582; the transfer to the RNN is our reading.
    """

    shared_blocks: int = 1

    blocks_of_gates: ClassVar[dict[int, dict[str, int]]] = {
        1: {"n": 0, "f": 0},
        2: {"n": 0, "f": 1},
    }
    keep_gate: ClassVar[str | None] = "f"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip == "none" and self.shared_blocks != 1:
            raise UserError("with skip='none' there is no forget gate: write shared_blocks=1")

    @property
    def gates(self) -> dict[str, int]:
        """As in every QL cell; without a skip there is no forget gate."""
        return {"n": 0} if self.skip == "none" else super().gates

    def initial_state(self, batch: int, like: Tensor) -> State:
        h = like.new_zeros(batch, self.hidden_size)
        return QLRNNState(h, self.first_block(batch, like)) if self.block_size else Hidden(h)

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        z = self.shared_maps(weights, projected, state)
        names = tuple(self.gates)
        n, *f = self.pre_activations(weights, names, [z[self.gates[k]] for k in names])
        if not f:
            return {"n": torch.tanh(n)}
        keep = torch.sigmoid(f[0])
        return {"n": torch.tanh(n), "f": keep, **self.alpha_of(weights, projected, keep)}

    def update(self, weights: Weights, gates: Gates, state: State) -> State:
        del weights
        if self.skip == "none":
            return Hidden(gates["n"])
        return self.mix(gates, gates["f"], gates["n"], state)
