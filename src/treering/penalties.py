"""Terms added to the loss.

Legend: T time, B batch, I input, H hidden, N states.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._errors import UserError, nearest
from treering._types import State, map_tensors
from treering.cells.abstract import MergeCell
from treering.layers import Recurrent, Reordered
from treering.schedules.tree.levels import block_levels

LETTERS = {"U": "weight_ih", "W": "weight_hh"}


def _layer_of(module: nn.Module) -> Recurrent:
    layer = module.layer if isinstance(module, Reordered) else module
    if not isinstance(layer, Recurrent):
        raise TypeError(f"a penalty takes a treering layer, got {type(module).__name__}")
    return layer


class LpPenalty(nn.Module):
    """`sum_k a_k * sum |w|^{p_k}` over a layer's matrices, each with its own weight and exponent.

    A matrix is one gate's block of rows of one parameter, named `weight_ih.i`, `weight_hh.f`, ...
    (for an LSTM eight, also `U_i` ... for the input's and `W_i` ... for the recurrent ones). It
    covers every layer and direction. `names()` lists them.

    weights: one number for all, or a mapping name -> a_k (those left out get 0).
    exponents: one number for all, or a mapping name -> p_k > 0 (those left out get 2).
    learned: if True, the a_k and p_k become parameters. So that the loss cannot make them shrink
        to nothing, the a_k are shares of a fixed total (a softmax times the sum given), and the
        p_k stay in [0.5, 2]. Give `penalty.parameters()` to the optimiser.

    Calling it returns a scalar. For p < 1 the gradient at w = 0, infinite from the right and the
    left, is taken as 0. Cost: one pass over the weights.
    Errors: ValueError for unknown names, negative weights, exponents of 0 or below.
    When not to use it: p < 1 without gradient clipping; near 0 its gradient is large.
    Source: arXiv 2509.00087; that learned weights share a fixed total is our addition.
    """

    def __init__(
        self,
        layer: nn.Module,
        weights: float | Mapping[str, float] = 1e-4,
        exponents: float | Mapping[str, float] = 2.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        # In a tuple so that the layer's parameters are not registered a second time.
        self._layer = (_layer_of(layer),)
        names = self.names()
        like = next(self._layer[0].parameters())
        a = like.new_tensor([self._value(weights, name, 0.0) for name in names])
        p = like.new_tensor([self._value(exponents, name, 2.0) for name in names])
        if not bool((a >= 0).all()) or not bool(a.isfinite().all()):
            raise UserError(f"weights must be finite and not negative, got {weights}")
        if not bool((p > 0).all()) or not bool(p.isfinite().all()):
            raise UserError(f"exponents must be finite and above 0, got {exponents}")
        self.learned = learned
        if learned:
            if not bool((a > 0).all()) or not bool(((p > 0.5) & (p < 2)).all()):
                raise UserError(
                    "to be learned, every weight must start above 0 and every exponent inside"
                    " (0.5, 2); write for instance weights=1e-4, exponents=1.0"
                )
            share = (p - 0.5) / 1.5
            self.weight_logits = nn.Parameter((a / a.sum()).log())
            self.exponent_logits = nn.Parameter((share / (1 - share)).log())
        self.register_buffer("fixed_weights", a)
        self.register_buffer("fixed_exponents", p)

    def names(self) -> tuple[str, ...]:
        """The matrices: parameter and gate, for one layer and direction."""
        layer = self._layer[0]
        specs = layer.cell.parameters(layer.input_size)
        return tuple(
            f"{name}.{gate}"
            for name, spec in specs.items()
            if len(spec.shape) == 2
            for gate in spec.gates
        )

    def _value(self, given: float | Mapping[str, float], name: str, default: float) -> float:
        if not isinstance(given, Mapping):
            return float(given)
        named = {}
        for key, value in given.items():
            letter, _, gate = key.partition("_")
            full = f"{LETTERS[letter]}.{gate}" if letter in LETTERS else key
            if full not in self.names():
                raise UserError(nearest(full, self.names(), "matrix"))
            named[full] = float(value)
        return named.get(name, default)

    def weights(self) -> Tensor:
        """The a_k in the order of `names()`."""
        given = cast(Tensor, self.fixed_weights)
        if self.learned:
            return given.sum() * torch.softmax(self.weight_logits, 0)
        return given

    def exponents(self) -> Tensor:
        """The p_k in the order of `names()`."""
        if self.learned:
            return 0.5 + 1.5 * torch.sigmoid(self.exponent_logits)
        return cast(Tensor, self.fixed_exponents)

    def forward(self) -> Tensor:
        layer = self._layer[0]
        a, p = self.weights(), self.exponents()
        index = {name: k for k, name in enumerate(self.names())}
        total = a.new_zeros(())
        for level in range(layer.num_layers):
            for direction in range(layer.num_directions):
                for name, weight in layer.weights(level, direction).items():
                    gates = layer.cell.parameters(layer.input_size)[name].gates
                    if weight.dim() != 2 or not gates:
                        continue
                    for gate, block in zip(gates, weight.chunk(len(gates)), strict=True):
                        k = index[f"{name}.{gate}"]
                        if self.learned or float(a[k]) != 0:
                            total = total + a[k] * power_sum(block, p[k])
        return total


def power_sum(w: Tensor, p: Tensor) -> Tensor:
    """`sum |w|^p`, with gradient 0 where w = 0."""
    zero = w == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, w.abs()) ** p).sum()


class AssociativityPenalty(nn.Module):
    """How far a merge is from associative, on the states the layer meets on x.

        mean over (a, b, c) of || merge(merge(a, b), c) - merge(a, merge(b, c)) ||^2 / width

    The triples are neighbouring blocks of equal size, of every size, of every layer: exactly
    those that another bracket would join in the other order, in the order in which the layer reads
    them. Zero for an associative merge, for which every bracket computes the same function.

    layer: a layer whose cell merges (pr-lstm, pr-rnn). Call it with what the layer is called with,
    `penalty(x, lengths=None)`; it returns a scalar, 0 where no sequence has three tokens.
    Cost: about six merges a token and layer.
    Source: our addition; it asks how much of the model is the bracket.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        # In a tuple so that the layer's parameters are not registered a second time.
        self._given = (layer,)
        if not isinstance(_layer_of(layer).cell, MergeCell):
            raise TypeError(
                f"{type(_layer_of(layer)).__name__} merges nothing; AssociativityPenalty takes a"
                " layer of merges such as tr.PRLSTM"
            )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        given = self._given[0]
        layer = _layer_of(given)
        cell = cast(MergeCell, layer.cell)
        if isinstance(given, Reordered):
            x, _ = given.reorder(x, lengths)
        squares, count = x.new_zeros(()), 0
        for weights, inputs in layer.meets(x, lengths):
            for states, pairs, whole in block_levels(cell, weights, inputs, lengths):
                triples = whole[:-2] & whole[1:-1] & whole[2:]
                if not bool(triples.any()):
                    break
                a, c = (_taken(states, k, triples) for k in (0, 2))
                ab, bc = (_taken(pairs, k, triples) for k in (0, 1))
                # Both brackets in one call: on few sequences it is calls that cost time.
                merged = cell.merge(weights, _joined(ab, a), _joined(c, bc))
                for field in merged:
                    one, other = field.chunk(2)
                    squares = squares + F.mse_loss(one, other, reduction="sum")
                    count += one.numel()
        return squares / max(count, 1)


class AssociativityInTraining(nn.Module):
    """`weight * AssociativityPenalty(layer)` on what the layer read last: a term of every loss.

    The training loop calls its penalties without arguments. So this one is shown the input, with
    its graph, whenever the layer is called (`forward`, `reduce`) in training with gradients, and
    lets go of it once the term is computed; calls in evaluation are not looked at. A state that
    the layer goes on with is not looked at either: the input is taken to begin with it.

    layer: a layer whose cell merges, alone or in `Reordered`. weight: 0 or above.
    sequences: how many of a batch are looked at, drawn anew for every term; all where a batch has
        no more.
    Calling it returns a scalar. Cost: AssociativityPenalty's on these sequences, once an update; on
    all of a batch it takes many times as long as the update itself.
    Errors: ValueError for a weight below 0, no sequences, and if the layer read nothing since the
    last term.
    """

    def __init__(self, layer: nn.Module, weight: float = 0.1, sequences: int = 4) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise UserError(f"weight must be finite and not negative, got {weight}")
        if sequences < 1:
            raise UserError(f"sequences must be at least 1, got {sequences}")
        self.weight = weight
        self.sequences = sequences
        # In `Reordered` the layer inside is shown its input in reading order.
        inner = _layer_of(layer)
        self.penalty = AssociativityPenalty(inner)
        self._layer = (inner,)
        self._read: tuple[Tensor, Tensor | None] | None = None
        inner.register_input_hook(self._see)

    def _see(self, x: Tensor, lengths: Tensor | None) -> None:
        layer = self._layer[0]
        if not (layer.training and torch.is_grad_enabled()):
            return
        if x.shape[1] > self.sequences:
            drawn = torch.randperm(x.shape[1])[: self.sequences]
            x = x.index_select(1, drawn.to(x.device))
            lengths = None if lengths is None else lengths[drawn.to(lengths.device)]
        self._read = x.transpose(0, 1) if layer.batch_first else x, lengths

    def forward(self) -> Tensor:
        if self._read is None:
            raise UserError(
                "the layer has read nothing in training since the last term of this penalty; call"
                " the model first, once for every term"
            )
        read, self._read = self._read, None
        return self.weight * self.penalty(*read)


def _taken(row: State, k: int, triples: Tensor) -> State:
    """Of a row, fields (J or J - 1, B, H), what stands k after each triple's first; (J - 2, B)."""
    return map_tensors(lambda field: field[k : k + len(triples)][triples], row)


def _joined(one: State, other: State) -> State:
    return map_tensors(lambda *fields: torch.cat(fields), one, other)
