"""What the C++ knows of each step cell: its number, its options, its weights in the kernel's order.

Legend: B batch, I input, H hidden, S gate blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

WIDEST = 16
"""Floats in the widest register of any target: blocks of what is kept are whole registers."""


class Parts(NamedTuple):
    """A cell's parameters as the kernel wants them.

    w_x (S * H, I), w_h (S * H, H) where h meets a matrix; bias (S * H,) in the order of the
    kernel's accumulators; extra: what else its step multiplies or adds, rows of H.
    """

    w_x: Tensor
    w_h: Tensor | None
    bias: Tensor | None = None
    extra: Tensor | None = None


Weights = Mapping[str, Tensor]


class Kind(IntEnum):
    """Cells, as `kernel` in step_kernels.h numbers them; those with blocks by how many follow."""

    LSTM = 0
    GRU = 1
    RNN = 2
    QL_LSTM = 3
    NONLINEAR_GATE_LSTM = 6
    QL_GRU = 10
    QL_RNN = 13
    NORMED_LSTM = 15
    NORMED_GRU = 16
    NORMED_RNN = 17
    NORMED_QL_LSTM = 18
    MIN_GRU = 21
    MIN_LSTM = 22


@dataclass(frozen=True)
class Form:
    """One cell as the kernel knows it.

    kind, options: of step_kernels.h. kept: blocks of H numbers that it keeps of a token for
    backward. parts: its parameters as differentiable functions of the cell's. memory: whether the
    state has a c beside h. zoneout: share of the old state in the new one. block_size: steps
    after which the state at the block's start is added; if not 0 the state ends in that start
    (B, H) and the steps since then (B, 1). alpha: of an additive skip that has no weight. joined:
    whether one token, too, needs the weights as `parts` makes them.
    """

    kind: int
    kept: int
    parts: Callable[[Weights], Parts]
    options: int = 0
    memory: bool = True
    normed: bool = False
    zoneout: float = 0.0
    block_size: int = 0
    alpha: float = 0.0
    joined: bool = False

    def row_size(self, hidden_size: int) -> int:
        """Numbers kept of a token: whole registers of every target."""
        block = -(-hidden_size // WIDEST) * WIDEST
        return (self.kept + (self.zoneout > 0)) * block + self.normed * WIDEST


def _added(weights: Weights) -> Tensor | None:
    return weights["bias_ih"] + weights["bias_hh"] if "bias_ih" in weights else None


def _plain_parts(weights: Weights) -> Parts:
    return Parts(weights["weight_ih"], weights["weight_hh"], _added(weights))


def lstm(normed: bool = False) -> Form:
    """i, f, g, o and a memory."""
    if normed:
        return Form(Kind.NORMED_LSTM, 8, _normed(_plain_parts), normed=True, joined=True)
    return Form(Kind.LSTM, 4, _plain_parts)


def gru(normed: bool = False) -> Form:
    """r, z, n; x's and h's share of n are accumulated apart."""
    if normed:
        parts = _normed(_gru_parts, x_order=(2, 0, 1), accumulators=4)
        return Form(Kind.NORMED_GRU, 6, parts, memory=False, normed=True, joined=True)
    return Form(Kind.GRU, 4, _gru_parts, memory=False)


def _gru_parts(weights: Weights) -> Parts:
    bias = None
    if "bias_ih" in weights:
        (*x_gates, x_n), (*h_gates, h_n) = (
            weights[name].chunk(3) for name in ("bias_ih", "bias_hh")
        )
        both = [a + b for a, b in zip(x_gates, h_gates, strict=True)]
        bias = torch.cat((x_n, *both, h_n))
    return Parts(weights["weight_ih"], weights["weight_hh"], bias)


def rnn(nonlinearity: str, normed: bool = False) -> Form:
    """One map and "tanh" or "relu"."""
    relu = nonlinearity == "relu"
    if normed:
        parts = _normed(_plain_parts)
        return Form(Kind.NORMED_RNN, 2, parts, options=relu, memory=False, normed=True, joined=True)
    return Form(Kind.RNN, 1, _plain_parts, options=relu, memory=False)


class Skip(NamedTuple):
    """The additive skip of the QL cells, as their options say it; see cells.ql_parts."""

    skip: str
    alpha: float
    bounded: bool
    block_size: int

    @property
    def form(self) -> dict[str, Any]:
        """What a `Form` says of it."""
        without, of_input = self.skip == "none", self.skip == "input"
        return {
            "options": self.bounded | 2 * without | 4 * of_input,
            "block_size": self.block_size,
            "alpha": 0.0 if without else self.alpha,
            "joined": of_input,
        }


def ql_lstm(blocks: int, skip: Skip, normed: bool = False) -> Form:
    """Four gates from 1, 2 or 4 shared blocks."""
    parts = _ql_parts(4, blocks, skip)
    offset = {1: 0, 2: 1, 4: 2}[blocks]
    of_skip = skip.form
    if normed:
        parts = _with_alpha(skip, 2 * blocks, _normed(parts))
        of_skip["joined"] = True
        return Form(Kind.NORMED_QL_LSTM + offset, 2 * blocks, parts, normed=True, **of_skip)
    return Form(Kind.QL_LSTM + offset, blocks, _with_alpha(skip, blocks, parts), **of_skip)


def ql_gru(blocks: int, skip: Skip) -> Form:
    """Three gates from 1, 2 or 3 shared blocks; x's and h's shares are accumulated apart."""
    return Form(
        Kind.QL_GRU + blocks - 1,
        2 * blocks,
        _with_alpha(skip, 2 * blocks, _ql_parts(3, blocks, skip, apart=True)),
        memory=False,
        # A skip of 0 leaves a GRU's update: there is no other without one.
        **skip.form,
    )


def ql_rnn(blocks: int, skip: Skip) -> Form:
    """A candidate and a forget gate from 1 or 2 shared blocks."""
    return Form(
        Kind.QL_RNN + blocks - 1,
        blocks,
        _with_alpha(skip, blocks, _ql_parts(2, blocks, skip)),
        memory=False,
        **skip.form,
    )


PartsOf = Callable[[Weights], Parts]


def _ql_parts(gates: int, blocks: int, skip: Skip, apart: bool = False) -> PartsOf:
    """extra: scale and bias of each gate, and alpha; apart: h has accumulators of its own."""

    def parts(weights: Weights) -> Parts:
        w_hh = weights["weight_hh"]
        H = w_hh.shape[1]
        scale, shift = weights.get("gate_scale"), weights.get("gate_bias")
        if "alpha" not in weights:
            past = w_hh.new_full((1,), skip.form["alpha"])
        else:
            past = torch.sigmoid(weights["alpha"]) if skip.bounded else weights["alpha"]
        extra = (
            w_hh.new_ones(gates * H) if scale is None else scale,
            w_hh.new_zeros(gates * H) if shift is None else shift,
            past.expand(H),
        )
        bias = weights.get("bias_ih")
        if apart and bias is not None:
            bias = torch.cat((bias, bias.new_zeros(blocks * H)))
        return Parts(weights["weight_ih"], w_hh, bias, torch.cat(extra))

    return parts


def _with_alpha(skip: Skip, accumulators: int, parts: PartsOf) -> PartsOf:
    """The same with the map from the input to alpha's logit, where there is one."""
    if skip.skip != "input":
        return parts

    def wider(weights: Weights) -> Parts:
        w_x, w_h, bias, extra = parts(weights)
        assert w_h is not None
        if bias is None:
            bias = w_h.new_zeros(accumulators * w_h.shape[1])
        w_x = torch.cat((w_x, weights["weight_alpha"]))
        return Parts(w_x, w_h, torch.cat((bias, weights["bias_alpha"])), extra)

    return wider


def _normed(
    parts: PartsOf, x_order: Sequence[int] | None = None, accumulators: int | None = None
) -> PartsOf:
    """The same with layer norm. x_order: the gates' order among x's accumulators; accumulators
    that biases belong to, if they are not the gates.
    """

    def normed(weights: Weights) -> Parts:
        w_x, w_h, bias, extra = parts(weights)
        assert w_h is not None
        H = w_h.shape[1]
        gain_x = weights["gain_ih"]
        if x_order is not None:
            gain_x = gain_x.view(-1, H)[list(x_order)].flatten()
        if bias is None:
            bias = w_h.new_zeros(w_h.shape[0] if accumulators is None else accumulators * H)
        rows = [] if extra is None else [extra]
        rows += [gain_x, weights["gain_hh"], bias]
        rows += [weights[name] for name in ("gain_c", "shift_c") if name in weights]
        return Parts(w_x, w_h, None, torch.cat(rows))

    return normed


def min_gru() -> Form:
    """A gate and a candidate of the input alone."""
    return Form(Kind.MIN_GRU, 2, _of_input, memory=False)


def min_lstm() -> Form:
    """Two gates that share 1 between them, and a candidate, of the input alone."""
    return Form(Kind.MIN_LSTM, 3, _of_input, memory=False)


def _of_input(weights: Weights) -> Parts:
    return Parts(weights["weight_ih"], None, weights.get("bias_ih"))


def nonlinear_gate_lstm(gates: Sequence[int]) -> Form:
    """An LSTM whose gates with these numbers see a rectified map as well."""

    def parts(weights: Weights) -> Parts:
        linear, rectified = (
            [weights[f"{name}_{side}"] for side in ("ih", "hh")]
            for name in ("weight", "weight_relu")
        )
        bias = _added(weights)
        if bias is not None:
            bias = torch.cat((bias, bias.new_zeros(rectified[0].shape[0])))
        w_x, w_h = (torch.cat(pair) for pair in zip(linear, rectified, strict=True))
        return Parts(w_x, w_h, bias)

    options = sum(gate << 2 * n for n, gate in enumerate(gates))
    kind = Kind.NONLINEAR_GATE_LSTM + len(gates) - 1
    return Form(kind, 4 + len(gates), parts, options=options)
