"""PR-LSTM and PR-RNN in C++ against the reference: outputs, states, all gradients, in float32.

Errors are counted against float64, where the reference in float32 makes its own.

Legend: T time, B batch, I input, H hidden, R refinements.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

import treering as tr
from conformance.observe import floats, fresh
from treering._types import map_tensors
from treering.kernels.native import library
from treering.layers import Recurrent

LAYERS: dict[str, type[Recurrent]] = {"pr-lstm": tr.PRLSTM, "pr-rnn": tr.PRRNN}
both_cells = pytest.mark.parametrize("cell", LAYERS)


def test_the_library_is_built():
    """Without it nothing below could fail."""
    assert library.missing() is None


def doubled(state: Any) -> Any:
    return map_tensors(lambda s: s.double() if s.is_floating_point() else s, state)


def native(layer: Recurrent) -> str:
    return next(f"native-{name}" for name, kind in LAYERS.items() if type(layer) is kind)


def seen(
    layer: Recurrent, x: Tensor, state: Any, kernel: str, wanted: str, **options: Any
) -> list[Tensor]:
    """Outputs, final state, and gradients of input, initial state and parameters."""
    layer.zero_grad()
    x = x.detach().clone().requires_grad_(x.requires_grad)
    state = None if state is None else fresh(state)
    with tr.use_kernels(kernel):
        if wanted == "last":
            y, last = layer.reduce(x, state=state, **options), None
        else:
            y, last = layer(x, state, **options)
    heads = [y, *([] if last is None else floats(last))]
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(h.shape, generator=generator) for h in heads]
    loss = sum((h * w.to(h.dtype)).sum() for h, w in zip(heads, weights, strict=True))
    into = [*([x] if x.requires_grad else []), *([] if state is None else floats(state))]
    into += list(layer.parameters())
    assert isinstance(loss, Tensor)
    grads = torch.autograd.grad(loss, into, allow_unused=True, materialize_grads=True)
    return [h.detach() for h in heads] + list(grads)


class Rectified(TorchFunctionMode):
    """Remembers what relu was applied to."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.relu:
            self.met.append(args[0].detach().double())
        return func(*args, **(kwargs or {}))


def have_equal_signs(rounded: list[Tensor], exact: list[Tensor]) -> bool:
    """Whether rounding leaves all these numbers well on their side of 0, or at 0: sums of zeros."""

    def clear(r: Tensor, e: Tensor) -> bool:
        zeros = (r == 0) & (e == 0)
        return bool(((e.abs() > 4 * (r - e).abs().max()) | zeros).all())

    return all(map(clear, rounded, exact))


def compare_with_exact(
    layer: Recurrent, x: Tensor, state: Any, wanted: str, **options: Any
) -> bool:
    """No further from float64 than a few times the reference in float32 is.

    The slope of relu jumps at 0. Where rounding decides on which side a number is, gradients in
    float32 are no worse for being another side's, and only outputs and states are compared.
    Returns whether gradients were.
    """
    kernel = seen(layer, x, state, native(layer), wanted, **options)
    with Rectified() as rounded:
        plain = seen(layer, x, state, "reference", wanted, **options)
    layer.double()
    wide = x.detach().double().requires_grad_(x.requires_grad)
    state = None if state is None else doubled(state)
    with Rectified() as unrounded:
        exact = seen(layer, wide, state, "reference", wanted, **options)
    layer.float()
    smooth = have_equal_signs(rounded.met, unrounded.met)
    heads = len(exact) - x.requires_grad - len(list(layer.parameters()))
    heads -= 0 if state is None else len(floats(state))
    compared = len(exact) if smooth else heads
    found = (kernel[:compared], plain[:compared], exact[:compared])
    for made, by_reference, right in zip(*found, strict=True):
        scale = float(right.abs().max()) if right.numel() else 0.0
        allowed = 4 * float((by_reference - right).abs().max()) + 3e-6 * scale + 1e-9
        assert float((made - right).abs().max()) <= allowed
    return smooth


def build(
    cell: str,
    I: int,  # noqa: E741
    H: int,
    R: int = 1,
    schedule: Any = None,
    **options: Any,
) -> Recurrent:
    torch.manual_seed(2)
    build_layer: Any = LAYERS[cell]
    return build_layer(I, H, refinements=R, schedule=schedule, **options)


@both_cells
@pytest.mark.parametrize("H", [1, 7, 50, 64, 100, 137])
@pytest.mark.parametrize(("T", "batch"), [(17, 1), (16, 3), (63, 3), (5, 33)])
@pytest.mark.parametrize("wanted", ["last", "all"])
def test_sizes(cell: str, H: int, T: int, batch: int, wanted: str):
    layer = build(cell, 5, H)
    drawn = (torch.randn(T, batch, 5, requires_grad=True) for _ in range(10))
    assert any(compare_with_exact(layer, x, None, wanted) for x in drawn)


@both_cells
@pytest.mark.parametrize("schedule", [tr.Tree("left"), tr.Tree("random", seed=1)], ids=str)
@pytest.mark.parametrize("R", [0, 1, 2])
def test_brackets_and_refinements(cell: str, schedule: tr.Tree, R: int):
    layer, x = build(cell, 3, 8, R, schedule), torch.randn(23, 2, 3, requires_grad=True)
    assert compare_with_exact(layer, x, None, "all")
    assert compare_with_exact(layer, x, None, "last")


@both_cells
@pytest.mark.parametrize("options", [{"bias": False}, {"num_layers": 2, "bidirectional": True}])
def test_options(cell: str, options: dict[str, Any]):
    layer, x = build(cell, 3, 8, **options), torch.randn(19, 3, 3, requires_grad=True)
    assert compare_with_exact(layer, x, None, "all")


@both_cells
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("wanted", ["last", "all"])
def test_lengths_resets_and_carried_states(cell: str, ragged: bool, wanted: str):
    layer, x = build(cell, 3, 8), torch.randn(21, 4, 3, requires_grad=True)
    lengths = torch.tensor([21, 1, 8, 20])
    before = torch.tensor([5, 1, 3, 4]) if ragged else None
    with torch.no_grad():
        _, state = layer(torch.randn(5, 4, 3), lengths=before)
    reset = torch.arange(21 * 4).view(21, 4) % 13 == 5
    assert compare_with_exact(layer, x, state, wanted)
    assert compare_with_exact(layer, x, None, wanted, lengths=lengths)
    assert compare_with_exact(layer, x, state, wanted, lengths=lengths, reset=reset)


@both_cells
@pytest.mark.parametrize("symbols", [1, 2, 3])
def test_shared_tokens(cell: str, symbols: int):
    layer = build(cell, 3, 16)
    x = torch.nn.functional.one_hot(torch.randint(symbols, (40, 32)), 3).float()
    assert "merged once" in str(tr.explain(layer, x))
    assert compare_with_exact(layer, x, None, "last")
    assert compare_with_exact(layer, x, None, "all", lengths=torch.arange(32) + 9)


@both_cells
def test_only_what_is_asked_for(cell: str):
    """Frozen parameters get no gradient, and the others theirs."""
    layer, x = build(cell, 3, 8), torch.randn(20, 2, 3, requires_grad=True)
    wanted = seen(layer, x, None, "reference", "last")
    for name in ("weight_merge_l0", "bias_leaf_l0"):
        layer.get_parameter(name).requires_grad_(False)
    with tr.use_kernels(native(layer)):
        layer.reduce(x).sum().backward()
    assert layer.get_parameter("weight_merge_l0").grad is None
    assert layer.get_parameter("weight_leaf_l0").grad is not None
    assert len(wanted) == 2 + 6


class TestOneToken:
    """`step` without gradients, which goes another way."""

    @both_cells
    @pytest.mark.parametrize("options", [{}, {"bias": False}, {"R": 0}, {"num_layers": 2}])
    @pytest.mark.parametrize(("H", "batch"), [(7, 3), (64, 1), (50, 16)])
    def test_a_stream(self, cell: str, options: dict[str, Any], H: int, batch: int):
        """Each token and all that is carried on, as the reference has them."""
        layer, x = build(cell, 5, H, **options), torch.randn(18, batch, 5)
        with torch.no_grad():
            whole, _ = layer(x)
            _, state = layer.step(x[0])
            right = state
            for t in range(1, len(x)):
                assert layer._step_once(x[t], state) is not None
                y, state = layer.step(x[t], state)
                with tr.use_kernels("reference"):
                    _, right = layer.step(x[t], right)
                torch.testing.assert_close(y, whole[t], rtol=1e-5, atol=2e-6)
                torch.testing.assert_close(state, right, rtol=1e-5, atol=2e-6)

    @both_cells
    def test_sequences_that_are_not_equally_long(self, cell: str):
        layer, x = build(cell, 5, 9), torch.randn(9, 4, 5)
        lengths = torch.tensor([1, 9, 4, 7])
        with torch.no_grad():
            _, state = layer(x, lengths=lengths)
            y, after = layer.step(x[0], state)
            with tr.use_kernels("reference"):
                right = layer.step(x[0], state)
        torch.testing.assert_close((y, after), right, rtol=1e-5, atol=2e-6)

    @both_cells
    def test_every_doubt_takes_the_long_way(self, cell: str):
        layer, x = build(cell, 3, 4), torch.randn(2, 3)
        _, state = layer(torch.randn(5, 2, 3))
        with torch.no_grad():
            state = map_tensors(Tensor.detach, state)

            def simple(x: Tensor = x, state: Any = state, layer: Recurrent = layer) -> bool:
                return layer._step_once(x, state) is not None

            assert simple()
            assert not simple(x=x.double())
            assert not simple(x=x[:1])
            assert not simple(state=tuple(state))
            assert not simple(state=state._replace(length=state.length[:, :1]))
            assert not simple(state=state._replace(length=-state.length))
            assert not simple(state=state._replace(length=state.length + 3))
            assert not simple(state=state._replace(blocks=state.blocks[:0]))
            assert not simple(layer=build(cell, 3, 4, schedule=tr.Tree("left")))
            with tr.use_kernels("reference"):
                assert not simple()


@both_cells
@pytest.mark.parametrize("target", library.TARGETS)
@pytest.mark.parametrize("batch", [1, 9])
def test_two_threads_give_the_same_bits(cell: str, target: str, batch: int):
    if target not in library.targets():
        pytest.skip(f"{target} does not run on this processor")
    layer, x = build(cell, 24, 40), torch.randn(65, batch, 24, requires_grad=True)
    found = []
    before = torch.get_num_threads()
    with library.use_target(target):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                found.append(seen(layer, x, None, native(layer), "all"))
            finally:
                torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@both_cells
def test_derivatives_of_derivatives_and_a_second_pass(cell: str):
    layer, x = build(cell, 3, 4), torch.randn(20, 2, 3, requires_grad=True)
    found = []
    for kernel in (native(layer), "reference"):
        with tr.use_kernels(kernel):
            (g,) = torch.autograd.grad(layer.reduce(x).square().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(g.square().sum(), [x, *layer.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    with tr.use_kernels(native(layer)):
        y = layer.reduce(x).sum()
    (first,) = torch.autograd.grad(y, x, retain_graph=True)
    (second,) = torch.autograd.grad(y, x)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-7)


@both_cells
def test_memory_that_nobody_wrote_is_not_read(cell: str):
    layer, x = build(cell, 3, 20), torch.randn(21, 4, 3, requires_grad=True)
    lengths = torch.tensor([21, 1, 8, 20])
    found = []
    for poisoned in (False, True):
        torch.use_deterministic_algorithms(poisoned)  # torch.empty is NaN then
        try:
            found.append(seen(layer, x, None, native(layer), "all", lengths=lengths))
        finally:
            torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@both_cells
def test_nan_is_not_hidden(cell: str):
    layer, x = build(cell, 3, 4), torch.randn(20, 2, 3)
    x[4, 1, 0] = float("nan")
    with tr.use_kernels(native(layer)):
        y, _ = layer(x)
    assert torch.isfinite(y[:4]).all()
    assert torch.isfinite(y[:, 0]).all()
    assert torch.isnan(y[4:, 1]).all()


@both_cells
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda layer, x: (layer.double(), x.double()), "computes in float32"),
        (lambda layer, x: (layer, x[:, :0]), "the batch is empty"),
    ],
)
def test_refusals(cell: str, change: Any, reason: str):
    layer, x = change(build(cell, 3, 4), torch.randn(20, 2, 3))
    with tr.use_kernels(native(layer)), pytest.raises(ValueError, match=reason):
        layer(x)


SHAPES = st.tuples(
    st.sampled_from(sorted(LAYERS)),
    *(st.integers(1, n) for n in (40, 5, 6, 40)),
    st.integers(0, 2),
    st.booleans(),
)
Shape = tuple[str, int, int, int, int, int, bool]


def any_shape(shape: Shape) -> None:
    cell, T, batch, I, H, R, last = shape  # noqa: E741
    if T * batch < 16:
        T += 16
    layer, x = build(cell, I, H, R), torch.randn(T, batch, I, requires_grad=True)
    compare_with_exact(layer, x, None, "last" if last else "all")


@given(SHAPES)
@settings(max_examples=40, deadline=None)
def test_random_shapes(shape: Shape):
    any_shape(shape)


@pytest.mark.slow
@given(SHAPES)
@settings(max_examples=1000, deadline=None)
def test_a_thousand_random_shapes(shape: Shape):
    any_shape(shape)


@pytest.mark.slow
@both_cells
@pytest.mark.parametrize(("T", "batch", "H"), [(4096, 3, 64), (257, 33, 256), (40, 128, 256)])
def test_large(cell: str, T: int, batch: int, H: int):
    layer, x = build(cell, 16, H), torch.randn(T, batch, 16, requires_grad=True)
    compare_with_exact(layer, x, None, "last")
