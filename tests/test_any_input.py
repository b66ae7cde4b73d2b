"""Whatever a layer is given, it answers rightly or says in one line what is wrong.

Hypothesis draws constructor options, shapes, dtypes, lengths, states and resets, right and wrong
ones. What is right is known of each part as it is drawn: if all are, outputs, final state and
gradients are compared with each sequence alone, token by token, in float64; if one is wrong, the
call must raise a ValueError or TypeError of one line.

Legend: T time, B batch, I input, H hidden, L layers, D directions.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import treering as tr
from conformance.cases import OPTIONS, Case
from conformance.observe import flat, floats, slots, widened
from conformance.test_layouts import one_direction
from treering._types import map_tensors
from treering.layers import Recurrent

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.15}
PAIRS = ("lstm", "ql-lstm", "nonlinear-gate-lstm")
RIGHT = {"none", "as returned", "plain tuples", "list"}
# What a message about each kind of mistake has to name.
WORDS = {
    "no tokens": "sequence length",
    "step where causality forbids it": "cannot step",
    "lengths": "length",
    "lengths beside packed input": "lengths",
    "reset": "reset",
    "state": "state|hx|hidden",
    "x": "input",
}
every_layer = pytest.mark.parametrize("name", tr.layers.names())
quiet = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@dataclass
class Drawn:
    """One call: what goes in, what is wrong with it, and x as (T, B, I) with each length."""

    case: Case
    layer: Recurrent
    order: bool
    method: str
    x: Any
    state: Any
    lengths: Any
    reset: Any
    return_states: bool
    tokens: Tensor
    sizes: list[int]
    flags: Tensor | None
    batched: bool
    wrong: list[str] = field(default_factory=list)

    def run(self) -> Any:
        module = tr.Reordered(self.layer) if self.order else self.layer
        if self.method == "step":
            return module.step(self.x, self.state)
        if self.method == "reduce":
            return module.reduce(self.x, self.lengths, self.state, self.reset)
        return module(
            self.x, self.state, self.lengths, self.reset, return_states=self.return_states
        )


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@st.composite
def layers(draw: Any, name: str) -> tuple[Case, dict[str, Any], torch.dtype]:
    case = Case(name, draw(st.sampled_from([{}, {}, *OPTIONS[name]])))
    options = {
        "input_size": draw(st.integers(1, 3)),
        "hidden_size": draw(st.integers(2, 3)),
        "num_layers": draw(st.integers(1, 2)),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    dtypes = [torch.float64] * 4 + [torch.float32] * 2
    # Over two rows layer norm is little more than a sign, which rounding to bfloat16 decides.
    dtypes += [] if case.options.get("layer_norm") else [torch.bfloat16]
    dtype = draw(st.sampled_from(dtypes))
    return case, options, dtype


def plain(state: Any) -> Any:
    return state if isinstance(state, Tensor) else tuple(plain(part) for part in state)


def states(layer: Recurrent, kind: str, B: int, batched: bool, seed: int) -> tuple[Any, bool]:
    """A state of this kind, and whether it is a right one."""
    count, like = layer.num_layers * layer.num_directions, next(layer.parameters())
    leading = (count, B) if batched else (count,)
    if kind == "none":
        return None, True
    if kind == "ones for nn.LSTM":
        ones = like.detach().new_ones(*leading, layer.hidden_size)
        return (ones, ones), B == 0
    if kind in ("zeros for nn.LSTM", "zeros for nn.GRU"):
        zero = like.detach().new_zeros(*leading, layer.hidden_size)
        if kind == "zeros for nn.LSTM":
            return (zero, zero), layer.proj_size == 0
        return zero, layer.name not in PAIRS or bool(layer.options.get("block_size"))
    if kind in ("text", "number", "empty tuple"):
        return {"text": "state", "number": 0.5, "empty tuple": ()}[kind], False
    batch = B + 1 if kind == "of another batch" else B
    if kind == "of another size":
        other = tr.layers.get("lstm" if seed % 2 else "pr-lstm")
        layer = other(layer.input_size, layer.hidden_size + 1, layer.num_layers, dtype=like.dtype)
    with torch.no_grad():
        shape = (3, batch, layer.input_size)
        x = random(*shape, seed=seed, dtype=like.dtype)
        _, state = layer(x.transpose(0, 1) if layer.batch_first else x)
    if not batched:
        if batch != 1:
            return state, False
        state = map_tensors(lambda s: s.squeeze(1), state)
    if kind == "of another dtype":
        double = like.dtype == torch.float64
        wider = torch.float32 if double else torch.float64
        return map_tensors(lambda s: s.to(wider) if s.is_floating_point() else s, state), False
    if kind == "plain tuples":
        state = plain(state)
    if kind == "list":
        state = list(state)
    return state, kind in RIGHT


@st.composite
def lengths_of(draw: Any, T: int, B: int, careful: bool) -> tuple[Any, list[int], bool]:
    """Lengths as given, as they are meant, and whether they are right."""
    kinds = ["none", "right", "right"]
    if not careful:
        kinds += ["zero", "below zero", "over-long", "list", "floats", "bools", "too many"]
        kinds += ["matrix"]
    kind = draw(st.sampled_from(kinds))
    whole = [T] * B
    if kind == "none":
        return None, whole, True
    sizes = draw(st.lists(st.integers(1, max(T, 1)), min_size=B, max_size=B))
    dtype = draw(st.sampled_from([torch.int64, torch.int32, torch.int16, torch.uint8]))
    tensor = torch.tensor(sizes, dtype=dtype)
    if kind == "right":
        return tensor, sizes, True
    if kind in ("zero", "below zero", "over-long"):
        if not B:
            return None, whole, True
        place = draw(st.integers(0, B - 1))
        sizes[place] = {"zero": 0, "below zero": -3, "over-long": T + 2}[kind]
        return torch.tensor(sizes), whole, False
    wrong = {
        "list": sizes,
        "floats": tensor.double(),
        "bools": tensor.bool(),
        "too many": torch.ones(B + 1, dtype=torch.int64),
        "matrix": tensor.unsqueeze(0),
    }
    return wrong[kind], whole, False


@st.composite
def calls(draw: Any, name: str) -> Drawn:
    case, sizes, dtype = draw(layers(name))
    seed = draw(st.integers(0, 1000))
    # Two calls of three are right in every part; of the third kind, any part may be wrong.
    careful = draw(st.sampled_from([True, True, False]))
    layer = case.build(**sizes).to(dtype).eval()
    order = draw(st.integers(0, 4)) == 0
    steps = not (careful and (layer.bidirectional or order))
    method = draw(st.sampled_from(["forward"] * 4 + ["reduce"] + ["step"] * steps))
    times = [1, 2, 3, 3, 5, 7, 8, 9] + [0] * (not careful)
    T = 1 if method == "step" else draw(st.sampled_from(times))
    batched = draw(st.integers(0, 3)) > 0
    B = draw(st.integers(0, 4)) if batched else 1
    I = layer.input_size  # noqa: E741
    wrong = []
    if T == 0:
        wrong.append("no tokens")
    if method == "step" and (layer.bidirectional or order):
        wrong.append("step where causality forbids it")

    given_lengths, meant, fine = (None, [T] * B, True)
    packed = method != "step" and batched and B > 0 and T > 0 and draw(st.integers(0, 3)) == 0
    if packed:
        meant = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
        meant[draw(st.integers(0, B - 1))] = T
    elif method != "step" and T > 0:
        given_lengths, meant, fine = draw(lengths_of(T, B, careful))
        if not fine:
            wrong.append("lengths")

    x = tokens = random(T, B, I, seed=seed, dtype=dtype).requires_grad_(draw(st.booleans()))
    past = torch.arange(T).unsqueeze(1) >= torch.tensor(meant, dtype=torch.int64)
    if fine:
        poison = draw(st.sampled_from([0.0, float("nan"), float("inf")]))
        x = x.masked_fill(past.unsqueeze(-1), poison)
    if draw(st.booleans()):
        # Every second element of a larger tensor.
        x = x.repeat_interleave(2, dim=-1)[..., ::2]

    reset = flags = None
    kinds = ["none", "right"] if not (layer.bidirectional or order) else ["none"]
    if not careful:
        kinds = ["none", "none", "right", "floats", "list", "shape"]
    kind = draw(st.sampled_from(kinds))
    if method != "step" and kind != "none":
        flags = random(T, B, seed=seed + 1) > 0.5
        if kind != "right" or layer.bidirectional or order:
            wrong.append("reset")
        turn = layer.batch_first and batched
        laid = (flags.t() if turn else flags) if batched else flags.squeeze(1)
        reset = {
            "right": laid,
            "floats": laid.double(),
            "list": laid.tolist(),
            "shape": torch.zeros(T + 1, B + 2, dtype=torch.bool),
        }[kind]

    kinds = ["none", "none", "as returned", "as returned", "plain tuples", "list"]
    if not careful:
        kinds += ["of another batch", "of another size", "of another dtype"]
        kinds += ["text", "number", "empty tuple"]
    pair = layer.name in PAIRS and not layer.options.get("block_size")
    if not (careful and layer.proj_size):
        kinds += ["zeros for nn.LSTM"]
    if not (careful and pair):
        kinds += ["zeros for nn.GRU"]
    if not careful and not pair:
        kinds += ["ones for nn.LSTM"]
    kind = draw(st.sampled_from(kinds))
    state, right = states(layer, kind, B, batched, seed)
    if not right:
        wrong.append(f"state: {kind}")

    given_x: Any = x
    if not batched:
        given_x = x.squeeze(1)
    elif layer.batch_first:
        given_x = x.transpose(0, 1)
    if method == "step":
        given_x = given_x.squeeze(1 if layer.batch_first and batched else 0)
    mistakes = ["none"] if careful else ["none"] * 4 + ["width", "dtype", "axes", "list"]
    mistake = draw(st.sampled_from(mistakes))
    if mistake == "width":
        given_x = torch.cat((given_x, given_x), -1)
    elif mistake == "dtype":
        other = [torch.float16, torch.int64, torch.bool, torch.complex64]
        given_x = given_x.detach().to(draw(st.sampled_from(other)))
    elif mistake == "axes":
        given_x = given_x[None, None] if draw(st.booleans()) else torch.zeros(I, dtype=dtype)[0]
    elif mistake == "list":
        given_x, packed = given_x.detach().float().tolist(), False
    if packed and mistake in ("none", "width", "dtype"):
        given_x = pack_padded_sequence(
            given_x, torch.tensor(meant), layer.batch_first, enforce_sorted=False
        )
        if draw(st.integers(0, 5)) == 0:
            given_lengths = torch.tensor(meant)
            wrong.append("lengths beside packed input")
    if mistake != "none":
        wrong.append(f"x: {mistake}")
    return Drawn(
        case, layer, order, method, given_x, state, given_lengths, reset,
        draw(st.integers(0, 4)) == 0, tokens, meant, flags, batched, wrong,
    )  # fmt: skip


def one_by_one(
    single: Recurrent, x: Tensor, state: Any, reset: Tensor | None
) -> tuple[Tensor, Any]:
    """One direction over one sequence x (T, 1, I), token by token."""
    outputs = []
    for t, x_t in enumerate(x):
        if reset is not None and reset[t]:
            state = None
        y, state = single.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs), state


def reference(call: Drawn, tokens: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Outputs (T, B, D*O), last outputs (B, D*O) and final state, each sequence alone.

    tokens: (T, B, I) in float64.
    """
    layer = call.layer
    D, B = layer.num_directions, tokens.shape[1]
    outputs = torch.zeros(*tokens.shape[:2], layer.output_size, dtype=torch.float64)
    lasts, finals = torch.zeros(B, layer.output_size, dtype=torch.float64), []
    singles = {
        (level, d): one_direction(layer, call.case, level, suffix).double().eval()
        for level in range(layer.num_layers)
        for d, suffix in enumerate(("", "_reverse")[:D])
    }
    carried = started(call)
    for b, n in enumerate(call.sizes):
        x = tokens[:n, b : b + 1]
        order = tr.orders.tree_order(n) if call.order else torch.arange(n)
        x, ends = x[order], []
        flags = None if call.flags is None else call.flags[:n, b]
        for level in range(layer.num_layers):
            sides = []
            for d in range(D):
                k = level * D + d
                own = None
                if carried is not None:
                    own = map_tensors(lambda s, k=k, b=b: s[k : k + 1, b : b + 1], carried)
                y, last = one_by_one(singles[level, d], x.flip(0) if d else x, own, flags)
                ends.append(last)
                sides.append(y.flip(0) if d else y)
                O = y.shape[-1]  # noqa: E741
                lasts[b, d * O : (d + 1) * O] = y[-1, 0]
            x = torch.cat(sides, -1)
        outputs[order, b] = x[:, 0]
        width = max(slots(end) for end in ends)
        ends = [widened(end, width) for end in ends]
        finals.append(map_tensors(lambda *parts: torch.cat(parts), *ends))
    if not finals:
        return outputs, lasts, None
    width = max(slots(final) for final in finals)
    finals = [widened(final, width) for final in finals]
    return outputs, lasts, map_tensors(lambda *parts: torch.cat(parts, 1), *finals)


def started(call: Drawn) -> Any:
    """The state that the call starts from, in float64 and of the layer's own type, or None."""
    given = call.state
    if given is None or not any(part.any() for part in flat(given)):
        return None
    with torch.no_grad():
        like = call.layer(call.tokens.detach().new_zeros(1, 1, call.layer.input_size))[1]

    def named(part: Any, type_of: Any) -> Any:
        if isinstance(part, Tensor):
            part = part if call.batched else part.unsqueeze(1)
            return part.double() if part.is_floating_point() else part
        return type(type_of)(*(named(p, t) for p, t in zip(part, type_of, strict=True)))

    return named((given,) if isinstance(given, Tensor) else given, like)


def time_first(call: Drawn, y: Any) -> Tensor:
    if isinstance(y, PackedSequence):
        return pad_packed_sequence(y, total_length=len(call.tokens))[0]
    if call.method == "step":
        return y.view(1, -1, y.shape[-1])
    if not call.batched:
        return y.unsqueeze(1)
    return y.transpose(0, 1) if call.layer.batch_first else y


def check(call: Drawn) -> None:
    if call.wrong:
        event(f"wrong: {call.wrong[0].split(':')[0]}")
        with pytest.raises((ValueError, TypeError)) as caught:
            call.run()
        text = str(caught.value)
        assert "\n" not in text
        words = "|".join(WORDS[wrong.partition(":")[0]] for wrong in call.wrong)
        assert re.search(words, text), text
        return
    event(f"right: {call.method}")
    found = call.run()
    tokens = call.tokens.detach().double().requires_grad_(call.tokens.requires_grad)
    outputs, lasts, final = reference(call, tokens)
    tolerance = TOLERANCE[next(call.layer.parameters()).dtype]
    close = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    if call.method == "reduce":
        y = found
        torch.testing.assert_close(y if call.batched else y.unsqueeze(0), lasts, **close)
    else:
        y, state = found[:2]
        torch.testing.assert_close(time_first(call, y), outputs, **close)
        if final is not None:
            state = state if call.batched else map_tensors(lambda s: s.unsqueeze(1), state)
            width = max(slots(state), slots(final))
            for one, other in zip(
                flat(widened(state, width)), flat(widened(final, width)), strict=True
            ):
                torch.testing.assert_close(one, other, **close)
        if call.return_states and call.method == "forward":
            assert all(part.isfinite().all() for part in floats(found[2].state))
    y = y.data if isinstance(y, PackedSequence) else y
    assert y.dtype == next(call.layer.parameters()).dtype
    if call.tokens.requires_grad and call.tokens.numel():
        (found,) = torch.autograd.grad(y.sum(), call.tokens)
        head = lasts if call.method == "reduce" else outputs
        (expected,) = torch.autograd.grad(head.sum(), tokens)
        torch.testing.assert_close(found, expected, **close)


@every_layer
@settings(quiet, max_examples=80)
@given(data=st.data())
def test_any_input(name: str, data: st.DataObject):
    check(data.draw(calls(name)))


@pytest.mark.slow
@every_layer
@settings(quiet, max_examples=500)
@given(data=st.data())
def test_any_input_at_length(name: str, data: st.DataObject):
    check(data.draw(calls(name)))
