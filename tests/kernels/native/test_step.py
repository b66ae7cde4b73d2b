"""Step cells in C++ against the reference: outputs, states and all gradients, in float32.

Errors are counted against float64, where the reference in float32 makes its own.

Legend: T time, B batch, I input, H hidden.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import treering as tr
from conformance.observe import flat, floats, fresh
from treering._types import map_tensors
from treering.kernels.native import library
from treering.layers import Recurrent

NORMED = {"layer_norm": True}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "lstm": [
        {},
        {"bias": False},
        {"weight_dropout": 0.2},
        {"zoneout": 0.3},
        NORMED,
        {**NORMED, "bias": False},
    ],
    "gru": [{}, {"bias": False}, {"zoneout": 0.3}, NORMED, {**NORMED, "bias": False}],
    "rnn": [
        {},
        {"nonlinearity": "relu"},
        {"bias": False},
        {"zoneout": 0.3},
        NORMED,
        {**NORMED, "bias": False, "nonlinearity": "relu"},
    ],
    "ql-lstm": [
        {},
        {"shared_blocks": 1},
        {"shared_blocks": 4},
        {"skip": "fixed", "alpha": -0.2},
        {"skip": "channel"},
        {"skip": "none"},
        {"skip": "input"},
        {"skip": "input", "bias": False, "bounded": True, "shared_blocks": 1},
        {"bounded": True},
        {"skip": "fixed", "bounded": True},
        {"skip": "channel", "bounded": True, "shared_blocks": 4},
        {"bias": False},
        {"bias": False, "shared_blocks": 1, "skip": "none"},
        {"block_size": 4, "bounded": True},
        {"block_size": 3, "skip": "input", "shared_blocks": 4},
        {"zoneout": 0.3},
        NORMED,
        {**NORMED, "shared_blocks": 1, "skip": "input", "bias": False},
        {**NORMED, "shared_blocks": 4, "block_size": 4, "bounded": True},
    ],
    "ql-gru": [
        {},
        {"shared_blocks": 1},
        {"shared_blocks": 3, "skip": "channel"},
        {"skip": "none", "bias": False},
        {"skip": "input", "bounded": True},
        {"skip": "input", "shared_blocks": 1, "bias": False},
        {"block_size": 4, "bounded": True, "shared_blocks": 3},
        {"zoneout": 0.3},
    ],
    "ql-rnn": [
        {},
        {"shared_blocks": 2},
        {"skip": "none"},
        {"bias": False, "skip": "channel", "bounded": True},
        {"skip": "input"},
        {"block_size": 4, "bounded": True, "shared_blocks": 2},
        {"zoneout": 0.3},
    ],
    "min-gru": [{}, {"bias": False}],
    "min-lstm": [{}, {"bias": False}],
    "nonlinear-gate-lstm": [
        {},
        {"gates": "f"},
        {"gates": "og"},
        {"gates": "igo"},
        {"bias": False},
        {"zoneout": 0.3},
    ],
}
CASES = [(name, options) for name in OPTIONS for options in OPTIONS[name]]
each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)
KERNELS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in OPTIONS),
    *((name, NORMED) for name in ("lstm", "gru", "rnn", "ql-lstm")),
    ("ql-lstm", {"skip": "input"}),
    ("ql-lstm", {"block_size": 4, "bounded": True}),
]
each_kernel = pytest.mark.parametrize(("name", "options"), KERNELS, ids=str)


def test_the_library_is_built():
    """Without it nothing below could fail."""
    assert library.missing() is None


def build(name: str, I: int, H: int, **options: Any) -> Recurrent:  # noqa: E741
    """The layer, with no parameter left at a round initial value."""
    torch.manual_seed(2)
    layer = tr.layers.get(name)(I, H, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return layer.eval()


def doubled(state: Any) -> Any:
    return map_tensors(lambda s: s.double() if s.is_floating_point() else s, state)


def seen(layer: Recurrent, x: Tensor, state: Any, kernel: str, **options: Any) -> list[Tensor]:
    """Outputs, final state, and gradients of input, initial state and parameters."""
    x = x.detach().clone().requires_grad_(x.requires_grad)
    state = None if state is None else fresh(state)
    with tr.use_kernels(kernel):
        y, last = layer(x, state, **options)
    heads = [y, *floats(last)]
    generator = torch.Generator().manual_seed(0)
    # Numbers that every precision has.
    weights = [torch.randn(h.shape, generator=generator).bfloat16() for h in heads]
    loss = torch.stack([(h * w.to(h.dtype)).sum() for h, w in zip(heads, weights, strict=True)])
    into = [*([x] if x.requires_grad else []), *([] if state is None else floats(state))]
    into += [parameter for parameter in layer.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss.sum(), into, allow_unused=True, materialize_grads=True)
    return [h.detach() for h in heads] + list(grads)


def assert_as_exact(layer: Recurrent, x: Tensor, state: Any = None, **options: Any) -> None:
    """No further from float64 than a few times the reference in float32 is.

    One error of the reference may be small by luck, where terms cancel or a slope is told from a
    rounded 1. What then counts is how far the exact result moves when operators round.
    """
    kernel = seen(layer, x, state, f"native-{layer.name}", **options)
    plain = seen(layer, x, state, "reference", **options)
    layer.double()
    wide = x.detach().double().requires_grad_(x.requires_grad)
    before = None if state is None else doubled(state)

    def exact() -> list[Tensor]:
        return seen(layer, wide, before, "reference", **options)

    compare(kernel, plain, exact)
    layer.float()


def compare(kernel: list[Tensor], plain: list[Tensor], exact: Callable[[], list[Tensor]]) -> None:
    """Errors of both against `exact`, which computes in float64."""
    right = exact()
    off = [float((a - b).abs().max()) for a, b in zip(kernel, right, strict=True)]
    allowed = [
        4 * float((a - b).abs().max()) + 4e-6 * float(b.abs().max()) + 1e-9
        for a, b in zip(plain, right, strict=True)
    ]
    if any(o > a for o, a in zip(off, allowed, strict=True)):
        moves = moved_by_rounding(exact, right)
        allowed = [a + 4 * move for a, move in zip(allowed, moves, strict=True)]
    assert all(o <= a for o, a in zip(off, allowed, strict=True)), (off, allowed)


class Rounding(TorchDispatchMode):
    """Every operator's result is off by up to half a unit in float32's last place."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        aliases = any(returned.alias_info is not None for returned in func._schema.returns)
        return out if aliases else tree_map_only(Tensor, self.rounded, out)

    def rounded(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        relative = torch.rand(tensor.shape, generator=self.generator, dtype=tensor.dtype) * 2 - 1
        return tensor * (1 + 2**-24 * relative)


def moved_by_rounding(exact: Callable[[], list[Tensor]], right: list[Tensor]) -> list[float]:
    """How far each exact result moves when every operation's is rounded to float32."""
    moves = []
    for seed in range(8):
        with Rounding(seed):
            now = exact()
        moves.append([float((a - b).abs().max()) for a, b in zip(now, right, strict=True)])
    return [max(of_result) for of_result in zip(*moves, strict=True)]


def carried(layer: Recurrent, batch: int) -> Any:
    with torch.no_grad():
        x = torch.randn(4, batch, layer.input_size, dtype=next(layer.parameters()).dtype)
        return layer(x)[1]


def draw(T: int, batch: int, size: int) -> Tensor:
    return torch.randn(T, batch, size, requires_grad=True)


@each_case
def test_it_is_what_runs(name: str, options: dict[str, Any]):
    with tr.use_kernels(f"native-{name}"):
        line = repr(tr.explain(build(name, 3, 4, **options), torch.randn(5, 2, 3)))
    assert f"native-{name} runs" in line


@each_case
@pytest.mark.parametrize("H", [7, 50])
def test_options(name: str, options: dict[str, Any], H: int):
    layer = build(name, 5, H, **options)
    assert_as_exact(layer, draw(17, 5, 5), carried(layer, 5))


@each_kernel
@pytest.mark.parametrize("H", [1, 64, 100, pytest.param(256, marks=pytest.mark.slow), 137])
@pytest.mark.parametrize(("T", "batch"), [(1, 1), (2, 3), (3, 33)])
def test_sizes(name: str, options: dict[str, Any], H: int, T: int, batch: int):
    layer = build(name, 3, H, **options)
    assert_as_exact(layer, draw(T, batch, 3), carried(layer, batch))


@each_kernel
@pytest.mark.parametrize(("T", "I", "H"), [(63, 1, 7), (257, 40, 24)])
def test_longer(name: str, options: dict[str, Any], T: int, I: int, H: int):  # noqa: E741
    assert_as_exact(build(name, I, H, **options), draw(T, 3, I))


# Systems that forget: others drift apart by themselves, or grow without bound.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {}),
        ("gru", {}),
        ("rnn", {}),
        ("ql-lstm", {"bounded": True}),
        ("ql-lstm", {"forget_bias": -1.0}),
        ("nonlinear-gate-lstm", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize(("batch", "H"), [(1, 64), (9, 256)])
def test_4096_tokens(name: str, options: dict[str, Any], batch: int, H: int):
    torch.manual_seed(2)
    layer, x = tr.layers.get(name)(8, H, **options), torch.randn(4096, batch, 8)
    if name == "nonlinear-gate-lstm":
        # Of so many numbers two roundings of one would come to lie on two sides of a kink. A
        # constant input keeps away from it, with some units on either side.
        x[..., 0] = 1
        side = torch.arange(4 * H) % 2 * 2 - 1
        layer.get_parameter("weight_relu_ih_l0").data[:, 0] = 4 * side
    assert_as_exact(layer, x.requires_grad_())


@each_kernel
def test_lengths_resets_and_carried_states(name: str, options: dict[str, Any]):
    layer, x = build(name, 3, 20, **options), draw(21, 6, 3)
    state = carried(layer, 6)
    lengths = torch.tensor([2, 1, 21, 8, 21, 20])
    reset = torch.arange(21 * 6).view(21, 6) % 13 == 5
    reset[0, 2] = True
    assert_as_exact(layer, x, state, lengths=lengths)
    assert_as_exact(layer, x, state, reset=reset)
    assert_as_exact(layer, x, state, lengths=lengths, reset=reset)
    assert_as_exact(layer, x, None, lengths=lengths)


@each_kernel
def test_layouts(name: str, options: dict[str, Any]):
    """Strided inputs, layers and directions."""
    layer = build(name, 3, 8, num_layers=2, bidirectional=True, batch_first=True, **options)
    assert_as_exact(layer, draw(4, 19, 3), lengths=torch.tensor([3, 19, 1, 7]))
    layer = build(name, 3, 8, **options)
    assert_as_exact(layer, draw(9, 1, 3).expand(9, 5, 3))
    assert_as_exact(layer, torch.randn(3, 9, 5).transpose(0, 2).transpose(0, 1))
    conjugate = torch.randn(9, 5, 3, dtype=torch.complex64).conj().imag
    assert conjugate.is_neg()
    assert_as_exact(layer, conjugate)


@each_kernel
def test_last_output_alone(name: str, options: dict[str, Any]):
    layer, x, lengths = build(name, 3, 20, **options), draw(9, 4, 3), torch.tensor([9, 1, 4, 4])
    for more in ({}, {"lengths": lengths}):
        found = []
        for kernel in (f"native-{name}", "reference"):
            with tr.use_kernels(kernel):
                last = layer.reduce(x, **more)
            found.append([last, *torch.autograd.grad(last.sum(), [x, *layer.parameters()])])
        for made, right in zip(*found, strict=True):
            torch.testing.assert_close(made, right, rtol=1e-4, atol=1e-5)


each_sharing = pytest.mark.parametrize(("batch", "H"), [(1, 256), (7, 100), (33, 64)])


@each_case
@each_sharing
def test_two_threads_give_the_same_bits(name: str, options: dict[str, Any], batch: int, H: int):
    same_bits(build(name, 24, H, **options), batch, (1, 2, 3))


@each_kernel
@each_sharing
@pytest.mark.parametrize("target", library.TARGETS[1:])
def test_other_targets_do_so_too(
    name: str, options: dict[str, Any], batch: int, H: int, target: str
):
    if target not in library.targets():
        pytest.skip(f"{target} does not run on this processor")
    with library.use_target(target):
        same_bits(build(name, 24, H, **options), batch, (1, 2))


def same_bits(layer: Recurrent, batch: int, threads: tuple[int, ...]) -> None:
    x = draw(9, batch, 24)
    more = {"lengths": torch.arange(batch) + 1} if batch == 7 else {}
    found, before = [], torch.get_num_threads()
    for count in threads:
        torch.set_num_threads(count)
        try:
            found.append(seen(layer, x, None, f"native-{layer.name}", **more))
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@each_kernel
def test_inference_gives_the_same_bits(name: str, options: dict[str, Any]):
    layer, x = build(name, 5, 40, **options), draw(33, 3, 5)
    with tr.use_kernels(f"native-{name}"):
        y, last = layer(x)
        with torch.no_grad():
            again, last_again = layer(x)
    assert torch.equal(y, again)
    assert all(torch.equal(a, b) for a, b in zip(flat(last), flat(last_again), strict=True))


@each_kernel
def test_only_what_is_asked_for(name: str, options: dict[str, Any]):
    """Frozen parameters get no gradient, and the others theirs."""
    layer, x = build(name, 3, 8, **options), torch.randn(20, 2, 3)
    full = dict(zip(dict(layer.named_parameters()), seen(layer, x, None, "reference")[-len(
        list(layer.parameters())) :], strict=True))  # fmt: skip
    assert_as_exact(layer, x)
    for frozen in full:
        for parameter_name, parameter in layer.named_parameters():
            parameter.requires_grad_(parameter_name != frozen)
        assert_as_exact(layer, x)
        assert_as_exact(layer, x.clone().requires_grad_())
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    assert_as_exact(layer, x.clone().requires_grad_())


@each_kernel
def test_derivatives_of_derivatives_and_a_second_pass(name: str, options: dict[str, Any]):
    layer, x = build(name, 3, 4, **options), draw(7, 2, 3)
    lengths, state = torch.tensor([7, 3]), carried(layer, 2)

    def found(kernel: str, x: Tensor, state: Any) -> list[Tensor]:
        with tr.use_kernels(kernel):
            y, last = layer(x, state, lengths=lengths)
        into = [x, *layer.parameters()]
        loss = (y**2).sum() + (last[0] ** 3).sum()
        first = torch.autograd.grad(loss, into, create_graph=True)
        penalty = torch.stack([(g**2).sum() for g in first]).sum()
        second = torch.autograd.grad(penalty, into, retain_graph=True)
        plain = torch.autograd.grad(loss, into, retain_graph=True)
        again = torch.autograd.grad(loss, into)
        return [g.detach() for g in (*first, *second, *plain, *again)]

    made, plain = found(f"native-{name}", x, state), found("reference", x, state)
    layer.double()
    wide = x.detach().double().requires_grad_()
    compare(made, plain, lambda: found("reference", wide, doubled(state)))


@each_case
def test_bfloat16(name: str, options: dict[str, Any]):
    """Rounded once, at the end: no result is further from float64 than one unit of bfloat16."""
    layer = build(name, 5, 40, **options).bfloat16()
    x = torch.randn(19, 6, 5, dtype=torch.bfloat16, requires_grad=True)
    lengths, state = torch.tensor([2, 1, 19, 8, 19, 18]), carried(layer, 6)
    made = seen(layer, x, state, f"native-{name}", lengths=lengths)
    assert all(result.dtype == torch.bfloat16 for result in made)
    layer.double()
    wide = x.detach().double().requires_grad_()
    exact = seen(layer, wide, doubled(state), "reference", lengths=lengths)
    for a, b in zip(made, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=4e-6 * float(b.abs().max()))


@each_kernel
def test_what_is_not_a_number_is_seen(name: str, options: dict[str, Any]):
    """NaN and infinity go where the reference has them, and no further."""
    layer, x = build(name, 3, 20, **options), torch.randn(6, 3, 3)
    x[2, 1, 0] = float("nan")
    x[3, 2] = float("inf")
    found = []
    for kernel in (f"native-{name}", "reference"):
        with tr.use_kernels(kernel):
            found.append(layer(x)[0])
    torch.testing.assert_close(*found, equal_nan=True)


class TestOneToken:
    """`step` without gradients, which goes another way."""

    @each_case
    @pytest.mark.parametrize(("H", "num_layers", "batch"), [(7, 2, 3), (64, 1, 1), (50, 1, 16)])
    def test_sizes(
        self, name: str, options: dict[str, Any], H: int, num_layers: int, batch: int
    ) -> None:
        layer = build(name, 5, H, num_layers=num_layers, **options)
        state, x = carried(layer, batch), torch.randn(batch, 5)
        with torch.no_grad():
            # A block's memory goes the way of whole sequences.
            assert (layer._step_once(x, state) is None) == ("block_size" in options)
            made = layer.step(x, state)
            with tr.use_kernels("reference"):
                right = layer.step(x, state)
        assert type(made[1]) is type(right[1])
        for a, b in zip(flat(made), flat(right), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)

    def test_nothing_is_shared(self):
        layer, x = build("lstm", 3, 4), torch.randn(2, 3)
        with torch.no_grad():
            state = carried(layer, 2)
            y, last = layer.step(x, state)
            copies = [last.h.clone(), state.h.clone()]
            y.zero_()
        assert torch.equal(last.h, copies[0])
        assert torch.equal(state.h, copies[1])

    def test_weights_are_read_anew(self):
        """Also where nothing tells that they were changed."""
        layer, x = build("lstm", 3, 4), torch.randn(2, 3)
        with torch.no_grad():
            state = carried(layer, 2)
            before, _ = layer.step(x, state)
            layer.get_parameter("weight_hh_l0").data.mul_(2)
            after, _ = layer.step(x, state)
            with tr.use_kernels("reference"):
                right, _ = layer.step(x, state)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, right)

    def test_every_doubt_takes_the_long_way(self):
        layer, x = build("lstm", 3, 4), torch.randn(2, 3)
        state = carried(layer, 2)

        def simple(layer: Recurrent = layer, x: Tensor = x, state: Any = state) -> bool:
            return layer._step_once(x, state) is not None

        assert not simple()  # gradients
        with torch.no_grad():
            assert simple()
            with tr.use_kernels("reference"):
                assert not simple()
            with torch.autocast("cpu", torch.bfloat16):
                assert not simple()
            with FlopCounterMode(display=False):
                assert not simple()
            assert not simple(x=x.double())
            assert not simple(x=x[:, :2])
            assert not simple(x=x[0])
            assert not simple(x=x.t().contiguous().t())
            assert not simple(state=None)
            assert not simple(state=(state.h,))
            assert not simple(state=(state.h[:, :1], state.c))
            assert not simple(x=torch.randn(17, 3), state=carried(layer, 17))
            assert not simple(build("lstm", 3, 4, layer_norm=True, zoneout=0.1))
            assert not simple(build("lstm", 3, 4, weight_dropout=0.5).train())
            assert not simple(
                build("lstm", 3, 4, num_layers=2, dropout=0.5).train(), state=(state.h,) * 2
            )
            layer.get_parameter("weight_hh_l0").data = torch.randn(16, 3)
            assert not simple()


class TestRefusals:
    def refused(self, layer: Recurrent, x: Tensor, reason: str, **options: Any) -> None:
        with tr.use_kernels(f"native-{layer.name}"), pytest.raises(ValueError, match=reason):
            layer(x, **options)

    def test_what_needs_the_loop(self):
        x = torch.randn(5, 2, 3)
        self.refused(tr.LSTM(3, 4, recurrent_dropout=0.1).train(), x, "masks of recurrent dropout")
        self.refused(tr.LSTM(3, 4, zoneout=0.1).train(), x, "masks of recurrent dropout and zone")
        self.refused(tr.QLGRU(3, 4, layer_norm=True), x, "layer norm of QLGRUCell needs the loop")
        self.refused(tr.LSTM(3, 4, layer_norm=True, zoneout=0.1).eval(), x, "zoneout together")
        self.refused(tr.QLLSTM(3, 4, block_size=2, zoneout=0.1).eval(), x, "zoneout together")
        self.refused(tr.LSTM(3, 4, proj_size=2), x, "projections need the loop")
        self.refused(tr.LSTM(3, 4), x, "inner states", return_states=True)
        self.refused(tr.LSTM(3, 4), torch.randn(5, 0, 3), "the batch is empty")

    def test_other_kinds_of_numbers(self):
        self.refused(tr.GRU(3, 4).double(), torch.randn(5, 2, 3).double(), "float32")
        with torch.autocast("cpu", torch.bfloat16):
            self.refused(tr.LSTM(3, 4), torch.randn(5, 2, 3), "under autocast")

    def test_counted_operations(self):
        """Those of the C++ code cannot be seen, so it does not run while somebody counts."""
        layer, x = tr.QLLSTM(3, 4), torch.randn(5, 2, 3)
        with FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == 2 * 5 * 2 * 2 * 4 * (3 + 4)


def hypothetical(examples: int) -> Any:
    drawn = given(
        case=st.sampled_from(CASES),
        sizes=st.tuples(*(st.integers(1, most) for most in (20, 40, 40, 80))),
        ragged=st.booleans(),
        resets=st.booleans(),
        state=st.booleans(),
        seed=st.integers(0, 1000),
    )
    return lambda test: settings(max_examples=examples, deadline=None, derandomize=True)(
        drawn(test)
    )


def any_shape(
    case: Any, sizes: tuple[int, ...], ragged: bool, resets: bool, state: bool, seed: int
) -> None:
    (name, options), (T, batch, I, H) = case, sizes  # noqa: E741
    layer = build(name, I, H, **options)
    torch.manual_seed(seed)
    more: dict[str, Any] = {}
    if ragged:
        more["lengths"] = torch.randint(1, T + 1, (batch,))
    if resets:
        more["reset"] = torch.rand(T, batch) < 0.2
    before = carried(layer, batch) if state else None
    assert_as_exact(layer, draw(T, batch, I), before, **more)


@hypothetical(50)
def test_any_shape(**drawn: Any):
    any_shape(**drawn)


@pytest.mark.slow
@hypothetical(1000)
def test_a_thousand_shapes(**drawn: Any):
    any_shape(**drawn)
