"""`return_states=True`: what happened inside, at every token.

Legend: T time, B batch, L layers, D directions, H hidden.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from conformance.cases import Case
from conformance.features.feature import Absent, feature, merging
from conformance.observe import draw, flat
from conformance.test_layouts import one_direction
from treering._types import map_tensors
from treering.layers import Recurrent

THEME = "Inner states"
T, B = 7, 3
LENGTHS = torch.tensor([4, 7, 1])
RESET = torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.3


def close(one: Any, other: Any) -> None:
    for a, b in zip(flat(one), flat(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def cell_state(state: Any) -> Any:
    """The cell's own state inside the one that is carried on."""
    return getattr(state, "last", state)


def by_steps(
    layer: Recurrent, x: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None
) -> Any:
    """States (L*D, T, B, ...) collected token by token, each sequence alone; one direction."""
    columns = []
    for b in range(x.shape[1]):
        own = None if state is None else map_tensors(lambda s, b=b: s[:, b : b + 1], state)
        n = len(x) if lengths is None else int(lengths[b])
        seen = []
        for t in range(n):
            if reset is not None and reset[t, b]:
                own = None
            _, own = layer.step(x[t, b : b + 1], own)
            seen.append(cell_state(own))
        seen += [map_tensors(torch.zeros_like, seen[-1])] * (len(x) - n)
        columns.append(map_tensors(lambda *parts: torch.stack(parts, 1), *seen))
    return map_tensors(lambda *parts: torch.cat(parts, 2), *columns)


@feature(THEME, "`return_states=True`: the states that `step` returns, at every token")
def states(case: Case) -> None:
    layer, x = case.build(num_layers=2), draw(T, B, 2)
    _, start = layer(draw(5, B, 2, seed=3))
    for state, lengths, reset in (
        (None, None, None),
        (start, None, None),
        (start, LENGTHS, None),
        (None, LENGTHS, RESET),
        (start, LENGTHS, RESET),
    ):
        y, last, inner = layer(x, state, lengths, reset, return_states=True)
        plain, plain_last = layer(x, state, lengths, reset)
        close(y, plain)
        close(last, plain_last)
        close(inner.state, by_steps(layer, x, state, lengths, reset))


@feature(THEME, "the same in both directions, batch first, unbatched and packed")
def state_layouts(case: Case) -> None:
    layer, x = case.build(num_layers=2, bidirectional=True), draw(T, B, 2)
    y, _, inner = layer(x, lengths=LENGTHS, return_states=True)
    below = x
    for level in range(2):
        for direction, suffix in enumerate(("", "_reverse")):
            single = one_direction(layer, case, level, suffix)
            for b, n in enumerate(LENGTHS.tolist()):
                own = below[:n, b : b + 1]
                own = own.flip(0) if direction else own
                seen = by_steps(single, own, None, None, None)
                here = map_tensors(
                    lambda s, k=2 * level + direction, n=n, b=b: s[k, :n, b], inner.state
                )
                expected = map_tensors(
                    lambda s, turn=direction: s[0, :, 0].flip(0) if turn else s[0, :, 0], seen
                )
                close(here, expected)
        below = torch.cat((inner.state.h[2 * level], inner.state.h[2 * level + 1]), -1)
    close(below, y)
    assert all(not s[:, 4:, 0].any() for s in flat(inner.state))

    turned = case.build(num_layers=2, bidirectional=True, batch_first=True)
    turned.load_state_dict(layer.state_dict())
    _, _, other = turned(x.transpose(0, 1), lengths=LENGTHS, return_states=True)
    close(map_tensors(lambda s: s.transpose(1, 2), other.state), inner.state)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    _, _, other = layer(packed, return_states=True)
    close(other.state, inner.state)
    assert other.gates.keys() == inner.gates.keys()
    close(tuple(other.gates.values()), tuple(inner.gates.values()))
    _, _, alone = layer(x[:, 1], return_states=True)
    close(alone.state, map_tensors(lambda s: s[:, :, 1], inner.state))


def rebuilt(case: Case, gates: dict[str, Tensor], before: Any) -> tuple[Tensor, ...]:
    """h, or h and c, from the gates and the state met, by the layer's formula."""
    g = gates
    if case.name in ("lstm", "nonlinear-gate-lstm", "ql-lstm"):
        c = g["f"] * before.c + g["i"] * g["g"]
        h = g["o"] * c.tanh()
        if case.name == "ql-lstm":
            h = g["f"] * before.h + (1 - g["f"]) * h + g["alpha"] * before.h
        return h, c
    h = before.h
    if case.name in ("min-gru", "min-lstm"):
        return (g["a"] * h + g["b"],)
    if case.name == "rnn":
        return (g["h"],)
    if case.name == "gru":
        return ((1 - g["z"]) * g["n"] + g["z"] * h,)
    if case.name == "ql-gru":
        return (g["u"] * h + (1 - g["u"]) * g["n"] + g["alpha"] * h,)
    assert case.name == "ql-rnn", f"write down how {case.name}'s gates make its state"
    return (g["f"] * h + (1 - g["f"]) * g["n"] + g["alpha"] * h,)


def no_gates(case: Case) -> None:
    inner = case.build()(draw(T, B, 2), return_states=True)[2]
    assert inner.gates == {}
    assert flat(inner.state)


@feature(
    THEME,
    "the gates, which make the next state by the layer's formula",
    Absent(merging, no_gates, "which merge a token's gates belong to depends on the bracket"),
)
def gates(case: Case) -> None:
    layer, x = case.build(), draw(T, B, 2)
    _, start = layer(draw(5, B, 2, seed=3))
    for state, lengths, reset in ((None, None, None), (start, LENGTHS, RESET)):
        _, _, inner = layer(x, state, lengths, reset, return_states=True)
        first = map_tensors(torch.zeros_like, start) if state is None else state
        fresh = map_tensors(torch.zeros_like, start)
        for t in range(T):
            met = first if t == 0 else map_tensors(lambda s, t=t: s[:, t - 1], inner.state)
            flags = RESET[t] if reset is not None else torch.zeros(B, dtype=torch.bool)
            met = map_tensors(lambda s, z, m=flags: torch.where(m[:, None], z, s), met, fresh)
            now = {name: gate[:, t] for name, gate in inner.gates.items()}
            live = torch.full((B,), T) > t if lengths is None else lengths > t
            for made, field in zip(rebuilt(case, now, met), inner.state, strict=True):
                torch.testing.assert_close(made[:, live], field[:, t][:, live])


@feature(THEME, "gradients through inner states")
def inner_gradients(case: Case) -> None:
    layer, x = case.build(), draw(T, B, 2).requires_grad_()
    _, _, inner = layer(x, return_states=True)
    into = [x, *layer.parameters()]
    weights = draw(T, B, 3)
    found = torch.autograd.grad(inner.state.h[0], into, weights)
    expected = torch.autograd.grad(layer(x)[0], into, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
