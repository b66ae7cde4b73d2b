"""Options that every gated recurrence shares: normalisation, noise in time, starting values.

A step is written as gates and an update. What enters and leaves the matrices in between is here,
so that each option has one definition for all cells.

Legend: B batch, I input, H hidden, P width of h (H unless projected), R rows of a matrix.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._errors import UserError
from treering._types import State, Weights, map_tensors
from treering.cells.abstract import ParameterSpec, StepCell, product

Gates = dict[str, Tensor]


@dataclass(frozen=True)
class RegularisedCell(StepCell):
    """A step cell made of `activations` and `update`, with options that keep their meaning in each.

    layer_norm: W_ih x and W_hh h are each brought to mean 0 and variance 1 over their rows, times
        a learned gain, before the bias; a cell state c likewise, with a learned shift, before the
        output gate reads it (Ba et al., arXiv 1607.06450).
    recurrent_dropout: in training, h is multiplied by one mask per call and sequence, the same at
        every step, wherever it enters a matrix (Gal and Ghahramani, arXiv 1512.05287).
    zoneout: in training, each entry of h and c keeps its old value with this probability; in
        evaluation old and new are mixed in this proportion (Krueger et al., arXiv 1606.01305).
    weight_dropout: DropConnect on the matrices that h enters, one mask per call (Merity et al.,
        arXiv 1708.02182).
    forget_bias: starting value of the bias of the gate that keeps the state; None leaves it drawn.
    orthogonal: each gate's block of the matrices that h enters starts orthogonal.

    Masks are drawn per call of the layer: in training `step` draws new ones for every token, so
    stream with `.eval()`.
    """

    layer_norm: bool = field(default=False, kw_only=True)
    recurrent_dropout: float = field(default=0.0, kw_only=True)
    zoneout: float = field(default=0.0, kw_only=True)
    weight_dropout: float = field(default=0.0, kw_only=True)
    forget_bias: float | None = field(default=None, kw_only=True)
    orthogonal: bool = field(default=False, kw_only=True)

    keep_gate: ClassVar[str | None] = None
    """The gate whose being open keeps the state."""
    recurrent_weights: ClassVar[tuple[str, ...]] = ("weight_hh",)
    """The matrices that h enters."""
    zoned: ClassVar[tuple[str, ...]] = ("h",)
    """The fields of the state that zoneout keeps; a cell state is normalised by `layer_norm`."""

    def __post_init__(self) -> None:
        for name in ("recurrent_dropout", "zoneout", "weight_dropout"):
            rate = getattr(self, name)
            number = isinstance(rate, int | float) and not isinstance(rate, bool)
            if not number or not 0 <= rate < 1:
                raise UserError(f"{name} is a probability of at least 0 and below 1, got {rate!r}")
        if self.forget_bias is None:
            return
        if not math.isfinite(self.forget_bias):
            raise UserError(f"forget_bias must be a finite number, got {self.forget_bias!r}")
        if not self._keeping_biases():
            raise UserError(
                f"forget_bias={self.forget_bias!r} needs a gate that keeps the state and has a"
                f" bias; {type(self).__name__.removesuffix('Cell')} with bias={self.bias} has none:"
                " leave forget_bias out"
            )

    def _keeping_biases(self) -> list[str]:
        """Names of the biases that have rows of the keep gate."""
        specs = self.maps(1)
        return [n for n, s in specs.items() if len(s.shape) == 1 and "bias" in n
                and self.keep_gate in s.gates]  # fmt: skip

    @abstractmethod
    def maps(self, input_size: int) -> dict[str, ParameterSpec]:
        """The cell's own parameters, among them weight_ih (R, I) and weight_hh (R, P)."""

    @abstractmethod
    def activations(self, weights: Weights, projected: Tensor, state: State) -> Gates:
        """Gates and candidates after their activations, by name, each (B, H) or broadcast to it."""

    @abstractmethod
    def update(self, weights: Weights, gates: Gates, state: State) -> State:
        """The new state from the gates and the old one."""

    @property
    def width(self) -> int:
        """P, the width of h."""
        return self.hidden_size

    @final
    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        specs = self.maps(input_size)
        if self.layer_norm:
            for side in ("ih", "hh"):
                matrix = specs[f"weight_{side}"]
                specs[f"gain_{side}"] = ParameterSpec((matrix.shape[0],), matrix.gates)
            if "c" in self.zoned:
                specs |= {
                    name: ParameterSpec((self.hidden_size,)) for name in ("gain_c", "shift_c")
                }
        return specs

    def initialise(self, weights: Weights) -> None:
        super().initialise(weights)
        for name in ("gain_ih", "gain_hh", "gain_c"):
            if name in weights:
                nn.init.ones_(weights[name])
        if "shift_c" in weights:
            nn.init.zeros_(weights["shift_c"])
        specs = self.maps(1)
        if self.orthogonal:
            for name in self.recurrent_weights:
                for block in weights[name].chunk(len(specs[name].gates)):
                    # The decomposition behind it does not exist in low precision.
                    block.copy_(nn.init.orthogonal_(torch.empty_like(block, dtype=torch.float64)))
        if self.forget_bias is not None:
            for k, name in enumerate(self._keeping_biases()):
                row = specs[name].gates.index(str(self.keep_gate))
                block = weights[name].chunk(len(specs[name].gates))[row]
                # Two biases of one gate add up.
                nn.init.constant_(block, 0.0 if k else self.forget_bias)

    def noise(self, weights: Weights, steps: int, batch: int) -> dict[str, Tensor]:
        like = weights["weight_hh"]
        drawn = {}
        if self.weight_dropout:
            drawn |= {n: F.dropout(weights[n], self.weight_dropout) for n in self.recurrent_weights}
        if self.recurrent_dropout:
            ones = like.new_ones(batch, self.width)
            drawn["noise_hidden"] = F.dropout(ones, self.recurrent_dropout)
        if self.zoneout:
            width = self.width + (len(self.zoned) - 1) * self.hidden_size
            chance = like.new_full((steps, batch, width), self.zoneout)
            drawn["noise_zoneout"] = torch.bernoulli(chance)
        return drawn

    @final
    def project(self, weights: Weights, x: Tensor) -> Tensor:
        projected = self.input_maps(weights, x)
        zoneout = weights.get("noise_zoneout")
        return projected if zoneout is None else torch.cat((projected, zoneout), dim=-1)

    def input_maps(self, weights: Weights, x: Tensor) -> Tensor:
        """What `activations` needs of x: W_ih x and the biases that simply add, (..., G)."""
        return self.input_product(weights, x, self.added_bias(weights))

    def added_bias(self, weights: Weights) -> Tensor | None:
        """The bias (R,) that can be added before the state is known."""
        if not self.bias:
            return None
        second = weights.get("bias_hh")
        return weights["bias_ih"] if second is None else weights["bias_ih"] + second

    def input_product(self, weights: Weights, x: Tensor, bias: Tensor | None) -> Tensor:
        """W_ih x + bias, (..., R)."""
        if not self.layer_norm:
            return product(x, weights["weight_ih"], bias)
        z = _normalised(product(x, weights["weight_ih"]), weights["gain_ih"])
        return z if bias is None else z + bias

    def hidden(self, weights: Weights, state: State) -> Tensor:
        """h (B, P) as it enters a matrix."""
        mask = weights.get("noise_hidden")
        return state[0] if mask is None else state[0] * mask

    def recurrent_product(
        self, weights: Weights, state: State, bias: Tensor | None = None
    ) -> Tensor:
        """W_hh h + bias, (B, R)."""
        h = self.hidden(weights, state)
        if not self.layer_norm:
            return product(h, weights["weight_hh"], bias)
        z = _normalised(product(h, weights["weight_hh"]), weights["gain_hh"])
        return z if bias is None else z + bias

    def joined(self, weights: Weights, projected: Tensor, state: State) -> Tensor:
        """projected + W_hh h, (B, R), in one operation where nothing comes in between."""
        if self.layer_norm:
            return projected + self.recurrent_product(weights, state)
        h, weight = self.hidden(weights, state), weights["weight_hh"]
        return torch.addmm(projected, h, weight.t()).to(weight.dtype)

    def read(self, weights: Weights, c: Tensor) -> Tensor:
        """tanh(c), (B, H), or of c normalised: what the output gate lets through."""
        if self.layer_norm:
            c = F.layer_norm(c, c.shape[-1:], weights["gain_c"], weights["shift_c"])
        return torch.tanh(c)

    def inner(self, weights: Weights, x: Tensor, before: State) -> Gates:
        projected = self.input_maps(weights, x)
        leading = projected.shape[:2]
        rows = dict(weights)
        if "noise_hidden" in rows:
            rows["noise_hidden"] = rows["noise_hidden"].expand(*leading, -1).flatten(0, 1)
        met = map_tensors(lambda field: field.flatten(0, 1), before)
        gates = self.activations(rows, projected.flatten(0, 1), met)
        return {
            name: gate.expand(leading.numel(), self.hidden_size).unflatten(0, leading)
            for name, gate in gates.items()
        }

    @final
    def step(self, weights: Weights, projected: Tensor, state: State) -> State:
        if not self.zoneout:
            return self.update(weights, self.activations(weights, projected, state), state)
        keep: list[Tensor | float] = [self.zoneout] * len(self.zoned)
        if "noise_zoneout" in weights:
            widths = [self.width] + [self.hidden_size] * (len(self.zoned) - 1)
            projected, *keep = projected.split([projected.shape[-1] - sum(widths), *widths], dim=-1)
        new = self.update(weights, self.activations(weights, projected, state), state)
        zoned = {
            name: torch.lerp(getattr(new, name), getattr(state, name), k)
            for name, k in zip(self.zoned, keep, strict=True)
        }
        return new._replace(**zoned)  # pyright: ignore[reportAttributeAccessIssue]


def _normalised(z: Tensor, gain: Tensor) -> Tensor:
    return F.layer_norm(z, z.shape[-1:], gain)
