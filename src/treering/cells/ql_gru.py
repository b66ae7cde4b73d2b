"""QL-GRU: a GRU with one shared affine map for its gates and an additive skip in time.

Legend: B batch, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from treering._types import Hidden, State, Weights
from treering.cells.ql_parts import Block, QLCell
from treering.cells.regularised import Gates


class QLGRUState(NamedTuple):
    """State with a block-level skip: h (B, H) and the block's memory."""

    h: Tensor
    block: Block


@final
@dataclass(frozen=True)
class QLGRUCell(QLCell):
    """QL-GRU: the unified gating and additive skip of QL-LSTM, carried over to the GRU.

        z = W_ih x + W_hh h + b                      two blocks of H rows (`shared_blocks=2`)
        r, u = sigmoid(scale_k * z_0 + bias_k)
        n = tanh(scale_n * (x's share of z_1 + r * h's share of z_1) + bias_n)
        h' = u * h + (1 - u) * n + alpha * h

    Options as in QL-LSTM; `shared_blocks=1`: one block for all, 3: a GRU's own three (PSUG off);
    `skip="none"` leaves a GRU's update.

    Cost: `shared_blocks` (I*H + H*H) multiply-adds a token.
    When not to use it: where a GRU of equal parameters fits; sharing saves parameters, not steps.
    Source: the future work of arXiv 2512.06582; the transfer to the GRU is our reading.
    """

    blocks_of_gates: ClassVar[dict[int, dict[str, int]]] = {
        2: {"r": 0, "u": 0, "n": 1},
        1: {"r": 0, "u": 0, "n": 0},
        3: {"r": 0, "u": 1, "n": 2},
    }
    keep_gate: ClassVar[str | None] = "u"

    def initial_state(self, batch: int, like: Tensor) -> State:
        h = like.new_zeros(batch, self.hidden_size)
        return QLGRUState(h, self.first_block(batch, like)) if self.block_size else Hidden(h)

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        x_z = self.blocks(projected)
        h_z = self.recurrent_product(weights, state).chunk(self.shared_blocks, dim=-1)
        at = self.gates
        z = [x_z[at[k]] + h_z[at[k]] for k in ("r", "u")]
        r, u = (torch.sigmoid(g) for g in self.pre_activations(weights, ("r", "u"), z))
        reset = torch.addcmul(x_z[at["n"]], r, h_z[at["n"]])
        n = torch.tanh(self.pre_activations(weights, ("n",), [reset])[0])
        return {"r": r, "u": u, "n": n, **self.alpha_of(weights, projected, u)}

    def update(self, weights: Weights, gates: Gates, state: State) -> State:
        del weights
        if self.skip == "none":
            return Hidden(torch.lerp(gates["n"], state[0], gates["u"]))
        return self.mix(gates, gates["u"], gates["n"], state)
