"""QL-LSTM: an LSTM with one shared affine map for its gates and an additive skip in time.

Legend: B batch, H hidden.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from treering._types import HiddenCell, State, Weights
from treering.cells.lstm import lstm_gates, lstm_memory
from treering.cells.ql_parts import Block, QLCell
from treering.cells.regularised import Gates


class QLLSTMState(NamedTuple):
    """State with a block-level skip: h, c (B, H) and the block's memory."""

    h: Tensor
    c: Tensor
    block: Block


@final
@dataclass(frozen=True)
class QLLSTMCell(QLCell):
    """QL-LSTM: unified gating (PSUG) and additive skips (HGR-ASC), two independent parts.

        z = W_ih x + W_hh h + b                      two blocks of H rows (`shared_blocks=2`)
        i, f, o = sigmoid(scale_k * z_0 + bias_k);  g = tanh(scale_g * z_1 + bias_g)
        c' = f * c + i * g;  h~ = o * tanh(c')
        h' = f * h + (1 - f) * h~ + alpha * h

    `shared_blocks=1`: one block drives all four gates; 4: every gate its own block, an LSTM's
    gates. `skip` is what alpha is: "learned" (a scalar), "fixed", per "channel", a function of the
    "input", or "none", which leaves h' = h~. `alpha`: its first or constant value.
    `bounded=True`: alpha * (1 - f) in place of alpha, so that the weight on h stays below 1; the
    unbounded form is the paper's. `block_size=n`: after every n steps the state at the block's
    start is added to h, past all gates; the state then has a third field, `block`.

    Parameters against an LSTM of the same size: about half (2) or a quarter (1).
    Cost: `shared_blocks` (I*H + H*H) multiply-adds a token and some twenty elementwise passes.
    When not to use it: without `bounded` on inputs of some hundred tokens: where f + alpha passes
    1 the state grows geometrically, in training to infinity; with `block_size`, what is added past
    the gates grows with the number of blocks.
    Source: arXiv 2512.06582, read in its public summaries. They leave open which gates share
    which block, where h~ comes from and what a block adds: these are our reading.
    """

    blocks_of_gates: ClassVar[dict[int, dict[str, int]]] = {
        2: {"i": 0, "f": 0, "g": 1, "o": 0},
        1: {"i": 0, "f": 0, "g": 0, "o": 0},
        4: {"i": 0, "f": 1, "g": 2, "o": 3},
    }
    keep_gate: ClassVar[str | None] = "f"
    zoned: ClassVar[tuple[str, ...]] = ("h", "c")

    def initial_state(self, batch: int, like: Tensor) -> State:
        h = like.new_zeros(batch, self.hidden_size)
        if self.block_size:
            return QLLSTMState(h, torch.zeros_like(h), self.first_block(batch, like))
        return HiddenCell(h, torch.zeros_like(h))

    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        z = self.shared_maps(weights, projected, state)
        names = tuple(self.gates)
        pre = self.pre_activations(weights, names, [z[self.gates[k]] for k in names])
        gates = lstm_gates(pre)
        return gates | self.alpha_of(weights, projected, gates["f"])

    def update(self, weights: Weights, gates: Gates, state: State) -> State:
        c = lstm_memory(gates, state[1])
        candidate = gates["o"] * self.read(weights, c)
        if self.skip == "none":
            return HiddenCell(candidate, c)
        return self.mix(gates, gates["f"], candidate, state)._replace(c=c)
