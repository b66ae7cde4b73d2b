"""The two parts of QL-LSTM, for any gated cell: unified gating and the additive skip.

Legend: B batch, I input, H hidden, S shared blocks of the affine map.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering._types import State, Weights
from treering.cells.abstract import ParameterSpec, product
from treering.cells.regularised import Gates, RegularisedCell

SKIPS = ("learned", "fixed", "channel", "input", "none")


class Block(NamedTuple):
    """What the block-level skip remembers: the state at the block's start, the steps since then."""

    start: Tensor
    steps: Tensor


@dataclass(frozen=True)
class QLCell(RegularisedCell):
    """Parameters and formulas that QL-LSTM, QL-GRU and QL-RNN share.

    Unified gating (PSUG): `z = W [x; h] + b` has `shared_blocks` blocks of H rows; gate k is
    `act(scale_k * z_k + bias_k)` with z_k the block that gate k reads. With one block per gate
    nothing is shared, and scale and bias go away with the sharing.

    Additive skip (HGR-ASC): `h' = f * h + (1 - f) * h~ + alpha * h`; with `block_size` > 0, after
    every `block_size` steps the state at the block's start is added once more, past all gates.
    `skip` says what alpha is: a learned scalar, a fixed constant, learned per "channel", a
    function sigmoid(w x + b) of the "input"; "none" leaves the part out. `alpha` is its first
    (or constant) value. The paper's form lets f + alpha exceed 1; `bounded=True` uses
    `alpha * (1 - f)` with 0 <= alpha <= 1 instead, so that the weight on h never does.
    """

    shared_blocks: int = 2
    skip: str = "learned"
    alpha: float = 0.1
    bounded: bool = False
    block_size: int = 0

    blocks_of_gates: ClassVar[dict[int, dict[str, int]]]
    """For each allowed `shared_blocks`: gate -> the block it reads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared_blocks not in self.blocks_of_gates:
            allowed = ", ".join(map(str, self.blocks_of_gates))
            raise UserError(f"shared_blocks must be one of {allowed}, got {self.shared_blocks!r}")
        if self.skip not in SKIPS:
            raise UserError(f"skip must be one of {', '.join(SKIPS)}, got {self.skip!r}")
        if not math.isfinite(self.alpha):
            raise UserError(f"alpha must be a finite number, got {self.alpha!r}")
        squashed = self.skip == "input" or (self.bounded and self.skip != "none")
        if squashed and not 0 < self.alpha < 1:
            raise UserError(
                f"alpha must lie between 0 and 1 where it is bounded or a function of the input, "
                f"got {self.alpha!r}"
            )
        if self.block_size < 0 or (self.block_size and self.skip == "none"):
            raise UserError(
                f"block_size must be 0 (off) or a number of steps, with a skip other than 'none'; "
                f"got block_size={self.block_size!r}, skip={self.skip!r}"
            )

    @property
    def gates(self) -> dict[str, int]:
        """Gate name -> index of the shared block it reads."""
        return self.blocks_of_gates[self.shared_blocks]

    @property
    def shares(self) -> bool:
        """Whether any block drives more than one gate."""
        return len(self.gates) > self.shared_blocks

    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        H, S, names = self.hidden_size, self.shared_blocks, tuple(self.gates)
        blocks = tuple(f"block{s}" for s in range(S)) if self.shares else names
        specs = {
            "weight_ih": ParameterSpec((S * H, input_size), blocks),
            "weight_hh": ParameterSpec((S * H, H), blocks),
        }
        if self.bias:
            specs["bias_ih"] = ParameterSpec((S * H,), blocks)
        if self.shares:
            specs["gate_scale"] = ParameterSpec((len(names) * H,), names)
            if self.bias:
                specs["gate_bias"] = ParameterSpec((len(names) * H,), names)
        if self.skip == "learned":
            specs["alpha"] = ParameterSpec((1,))
        elif self.skip == "channel":
            specs["alpha"] = ParameterSpec((H,))
        elif self.skip == "input":
            specs |= {
                "weight_alpha": ParameterSpec((1, input_size)),
                "bias_alpha": ParameterSpec((1,)),
            }
        return specs

    def initialise(self, weights: Weights) -> None:
        super().initialise(weights)
        logit = math.log(self.alpha / (1 - self.alpha)) if 0 < self.alpha < 1 else 0.0
        constants = {
            "gate_scale": 1.0,
            "alpha": logit if self.bounded else self.alpha,
            "weight_alpha": 0.0,
            "bias_alpha": logit,
        }
        for name, value in constants.items():
            if name in weights:
                nn.init.constant_(weights[name], value)

    def input_maps(self, weights: Weights, x: Tensor) -> Tensor:
        """W_ih x + b (..., S*H), followed by alpha's logit (..., 1) where alpha looks at x."""
        z = super().input_maps(weights, x)
        if self.skip == "input":
            logit = product(x, weights["weight_alpha"], weights["bias_alpha"])
            z = torch.cat((z, logit), dim=-1)
        return z

    def blocks(self, projected: Tensor) -> tuple[Tensor, ...]:
        """The input's share of the blocks of z: S tensors (B, H)."""
        return projected[..., : self.shared_blocks * self.hidden_size].chunk(self.shared_blocks, -1)

    def shared_maps(self, weights: Weights, projected: Tensor, state: State) -> list[Tensor]:
        """The blocks of z = W [x; h] + b, S tensors (B, H)."""
        recurrent = self.recurrent_product(weights, state).chunk(self.shared_blocks, dim=-1)
        return [x + r for x, r in zip(self.blocks(projected), recurrent, strict=True)]

    def pre_activations(
        self, weights: Weights, names: tuple[str, ...], z: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Pre-activations scale_k * z_k + bias_k (B, H) of neighbouring gates.

        z: for each gate, its block of the affine map (B, H).
        """
        if not self.shares:
            return tuple(z)
        first = list(self.gates).index(names[0])
        rows = slice(first * self.hidden_size, (first + len(names)) * self.hidden_size)
        scaled = torch.cat(z, dim=-1), weights["gate_scale"][rows]
        if self.bias:
            gates = torch.addcmul(weights["gate_bias"][rows], *scaled)
        else:
            gates = scaled[0] * scaled[1]
        return gates.chunk(len(names), dim=-1)

    def alpha_of(self, weights: Weights, projected: Tensor, keep: Tensor) -> Gates:
        """What h is multiplied with past the gates, as the activation "alpha" (if there is any)."""
        if self.skip == "none":
            return {}
        if self.skip == "fixed":
            alpha = keep.new_full((1,), self.alpha)
        elif self.skip == "input":
            alpha = torch.sigmoid(projected[..., -1:])
        else:
            alpha = torch.sigmoid(weights["alpha"]) if self.bounded else weights["alpha"]
        return {"alpha": alpha * (1 - keep) if self.bounded else alpha}

    def mix(self, gates: Gates, keep: Tensor, candidate: Tensor, state: Any) -> Any:
        """`keep * h + (1 - keep) * candidate + alpha * h`, all (B, H), and the block's memory."""
        h = torch.lerp(candidate, state.h, keep) + gates["alpha"] * state.h
        if not self.block_size:
            return state._replace(h=h)
        h, block = self.close_block(h, state.block)
        return state._replace(h=h, block=block)

    def first_block(self, batch: int, like: Tensor) -> Block:
        """The block-level memory before the first token."""
        steps = torch.zeros(batch, 1, dtype=torch.int64, device=like.device)
        return Block(like.new_zeros(batch, self.hidden_size), steps)

    def close_block(self, h: Tensor, block: Block) -> tuple[Tensor, Block]:
        """Add the block's start to h (B, H) where a block ends, and begin the next one there."""
        steps = block.steps + 1
        ends = steps == self.block_size
        h = torch.where(ends, h + block.start, h)
        return h, Block(torch.where(ends, h, block.start), steps.masked_fill(ends, 0))
