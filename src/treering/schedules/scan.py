"""Elementwise affine recurrences, parallel in time.

Legend: B batch, T time, H hidden.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from treering._types import Hidden, State
from treering.cells.abstract import AffineCell, Cell
from treering.schedules.abstract import Call, Schedule
from treering.schedules.sequential import Sequential
from treering.schedules.states import check_like, last_valid

BASE = 8
"""Below this many positions a loop does less work than one more level of the tree."""


def compose(a: Tensor, b: Tensor) -> Tensor:
    """All states of `h_t = a_t h_{t-1} + b_t` from h_0 = 0: a, b (T, B, H) -> (T, B, H).

    Neighbouring maps are composed pairwise, the half as long recurrence is solved, and the
    positions left out are filled in from their left neighbours: 2 log2 T rounds, 3T
    multiply-adds, no quotient and no logarithm, so no digit is lost with length.
    """
    T = a.shape[0]
    if T <= BASE:
        h = [b[0]]
        for t in range(1, T):
            h.append(torch.addcmul(b[t], a[t], h[-1]))
        return torch.stack(h)
    even, odd = slice(0, T - T % 2, 2), slice(1, None, 2)
    pairs = compose(a[odd] * a[even], torch.addcmul(b[odd], a[odd], b[even]))
    h = torch.empty_like(b)
    h[odd] = pairs
    h[0] = b[0]
    later = slice(2, None, 2)
    h[later] = torch.addcmul(b[later], a[later], pairs[: (T - 1) // 2])
    return h


class AffineScan(torch.autograd.Function):
    """`h_t = a_t h_{t-1} + b_t`, t = 1..T; its derivatives are affine scans themselves.

    With g_t the gradient reaching h_t from outside and G_t all of it:
        G_t = g_t + a_{t+1} G_{t+1},   da_t = G_t h_{t-1},   db_t = G_t,   dh_0 = a_1 G_1,
    a scan backwards in time. The tangent is `h'_t = a_t h'_{t-1} + (a'_t h_{t-1} + b'_t)`.
    Both are written with this Function, so higher derivatives follow.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        return compose(a, torch.cat((torch.addcmul(b[:1], a[:1], h0), b[1:])))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        a, _, h0 = inputs
        ctx.save_for_backward(a, h0, output)
        ctx.save_for_forward(a, h0, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h0, h = ctx.saved_tensors
        g = grads[0].flip(0)
        # Reversed in time, position t meets the coefficient of t+1; the first meets none.
        shifted = torch.cat((torch.zeros_like(a[:1]), a[1:].flip(0)))
        total = affine_scan(shifted, g, torch.zeros_like(h0)).flip(0)
        before = torch.cat((h0.unsqueeze(0), h[:-1]))
        return total * before, total, a[0] * total[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        a, h0, h = ctx.saved_tensors
        da, db, dh0 = tangents
        before = torch.cat((h0.unsqueeze(0), h[:-1]))
        b = torch.zeros_like(a) if db is None else db
        if da is not None:
            b = torch.addcmul(b, da, before)
        return affine_scan(a, b, torch.zeros_like(h0) if dh0 is None else dh0)


def affine_scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """States h_1..h_T (T, B, H) of `h_t = a_t h_{t-1} + b_t`; a, b (T, B, H), h0 (B, H).

    Differentiable to any order in a, b and h0. Cost: about 3T elementwise multiply-adds in
    2 log2 T rounds, forward and again backward.
    """
    return AffineScan.apply(a, b, h0)


@dataclass(frozen=True)
class Scan(Schedule):
    """Affine cells in parallel over time: same numbers as `Sequential`, 2 log2 T rounds.

    When not to use it: for a single token (`step` takes the loop), or on one core with wide
    batches, where a loop touches memory once and the scan three times.
    """

    accepts: ClassVar[tuple[type[Cell], ...]] = (AffineCell,)
    guarantee: ClassVar[Literal["SAME", "DEFINES"]] = "SAME"

    def run(self, call: Call) -> tuple[Any, State]:
        cell, x, state, lengths = call.cell, call.x, call.state, call.lengths
        assert isinstance(cell, AffineCell)
        state = cell.initial_state(x.shape[1], x) if state is None else state
        a, b = cell.coefficients(call.weights, x)
        if call.reset is not None:
            a = a.masked_fill(call.reset.unsqueeze(-1), 0)
        h = affine_scan(a, b, state[0])
        last = Hidden(last_valid(h, lengths))
        if call.wanted == "last":
            return cell.output(last), last
        return Hidden(h) if call.wanted == "states" else cell.output(Hidden(h)), last

    def rolled(self, call: Call) -> tuple[Any, State]:
        """One token after the other: exported loops cannot change the size of what they carry."""
        return Sequential().rolled(call)

    def blank_state(self, cell: Cell, batch: int, like: Tensor) -> State:
        assert isinstance(cell, AffineCell)
        return cell.initial_state(batch, like)

    def check_state(self, cell: Cell, state: State, batch: int, like: Tensor) -> State:
        assert isinstance(cell, AffineCell)
        return check_like(state, cell.initial_state(batch, like), type(cell).__name__)
