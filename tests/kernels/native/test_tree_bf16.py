"""PR-LSTM and PR-RNN in C++ on bfloat16 numbers: outputs, states and all gradients against float64.

What is exact is the reference in float64 on the same rounded weights and inputs. Two things are
asked of the kernel's errors, relative to the largest number of each tensor. On average over the
tensors they are no larger than those of the reference in bfloat16, half a unit aside. And each
stays below a bound: a rounding takes away at most half a unit, 2^-9; a state has gone through one
for each product on the longest way from its tokens, and products of fan-in weights do not stretch
errors; a gradient has three factors that are all rounded so.

Legend: T time, B batch, I input, H hidden, R refinements.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import treering as tr
from conformance.observe import floats
from treering._types import map_tensors
from treering.cells.pr_lstm import PRLSTMCell
from treering.kernels.native import library
from treering.layers import Recurrent

from .test_tree import doubled, seen

NATIVE = "native-pr-lstm"
LOW = torch.bfloat16
HALF_UNIT = 2.0**-9


def build(I: int, H: int, R: int = 1, **options: Any) -> Recurrent:  # noqa: E741
    torch.manual_seed(2)
    return tr.PRLSTM(I, H, refinements=R, **options).to(LOW)


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape).to(LOW).requires_grad_()


def depth(layer: Recurrent, T: int) -> int:
    """Products on the longest way to a state: leaf, then merge and refinements at each level."""
    assert isinstance(layer.cell, PRLSTMCell)
    longest = T - 1 if "left" in str(layer.schedule) else 2 * math.ceil(math.log2(T + 1))
    return 1 + longest * (1 + layer.cell.refinements)


def assert_near(layer: Recurrent, x: Tensor, state: Any, wanted: str, **options: Any) -> None:
    by_kernel = seen(layer, x, state, NATIVE, wanted, **options)
    plain = seen(layer, x, state, "reference", wanted, **options)
    assert [t.dtype for t in by_kernel] == [t.dtype for t in plain]
    rounded = [p.dtype for p in layer.parameters()]
    layer.double()
    wide = x.detach().double().requires_grad_(x.requires_grad)
    state = None if state is None else doubled(state)
    exact = seen(layer, wide, state, "reference", wanted, **options)
    for parameter, dtype in zip(layer.parameters(), rounded, strict=True):
        parameter.data = parameter.data.to(dtype)
    heads = len(exact) - len(list(layer.parameters())) - int(x.requires_grad)
    heads -= 0 if state is None else len(floats(state))
    bound = HALF_UNIT * depth(layer, x.shape[0]) * layer.num_layers
    of_kernel, of_reference = [], []
    for made, by_reference, right in zip(by_kernel, plain, exact, strict=True):
        scale = max(float(right.abs().max()), 1e-30)
        of_kernel.append(float((made - right).abs().max()) / scale)
        of_reference.append(float((by_reference - right).abs().max()) / scale)
    assert max(of_kernel[:heads]) <= bound
    assert max(of_kernel[heads:]) <= 3 * bound
    assert sum(of_kernel) <= sum(of_reference) + HALF_UNIT * len(exact)


@pytest.mark.parametrize("H", [1, 7, 50, 64, 137, 256])
@pytest.mark.parametrize(("T", "batch"), [(17, 1), (16, 3), (40, 5)])
@pytest.mark.parametrize("wanted", ["last", "all"])
def test_sizes(H: int, T: int, batch: int, wanted: str):
    assert_near(build(5, H), tokens(T, batch, 5), None, wanted)


@pytest.mark.parametrize("schedule", [tr.Tree("left"), tr.Tree("random", seed=1)], ids=str)
@pytest.mark.parametrize("R", [0, 1, 2])
def test_brackets_and_refinements(schedule: tr.Tree, R: int):
    layer, x = build(3, 9, R, schedule=schedule), tokens(23, 2, 3)
    assert_near(layer, x, None, "all")
    assert_near(layer, x, None, "last")


@pytest.mark.parametrize("H", [1, 7, 64, 137])
@pytest.mark.parametrize("R", [0, 1, 2])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("wanted", ["last", "all"])
def test_pr_rnn(H: int, R: int, ragged: bool, wanted: str):
    """As near as the reference in bfloat16 is: where rounding changes a sum's sign the slope jumps,
    and no bound follows from the number of roundings.
    """
    torch.manual_seed(2)
    layer: Recurrent = tr.PRRNN(5, H, refinements=R).to(LOW)
    x = tokens(40, 5, 5)
    options = {"lengths": torch.tensor([40, 1, 17, 33, 8])} if ragged else {}
    with torch.no_grad():
        state = map_tensors(Tensor.detach, layer(tokens(3, 5, 5))[1])
    made, plain = (
        seen(layer, x, state, kernel, wanted, **options)
        for kernel in ("native-pr-rnn", "reference")
    )
    layer.double()
    wide = x.detach().double().requires_grad_()
    exact = seen(layer, wide, doubled(state), "reference", wanted, **options)
    assert [t.dtype for t in made] == [t.dtype for t in plain]

    def off(found: list[Tensor]) -> float:
        """On average over the tensors, as the others are compared."""
        errors = (a - right for a, right in zip(found, exact, strict=True))
        sizes = (float(right.norm()) or 1.0 for right in exact)
        return sum(float(e.norm()) / size for e, size in zip(errors, sizes, strict=True))

    assert off(made) <= off(plain) + HALF_UNIT * len(exact)


@pytest.mark.parametrize("options", [{"bias": False}, {"num_layers": 2, "bidirectional": True}])
def test_options(options: dict[str, Any]):
    assert_near(build(3, 9, **options), tokens(19, 3, 3), None, "all")


@pytest.mark.parametrize("wanted", ["last", "all"])
def test_lengths_resets_and_carried_states(wanted: str):
    layer, x = build(3, 9), tokens(21, 4, 3)
    with torch.no_grad():
        _, state = layer(tokens(5, 4, 3), lengths=torch.tensor([5, 1, 3, 4]))
    lengths = torch.tensor([21, 1, 8, 20])
    reset = torch.arange(21 * 4).view(21, 4) % 13 == 5
    assert_near(layer, x, state, wanted)
    assert_near(layer, x, state, wanted, lengths=lengths, reset=reset)


def test_shared_tokens():
    layer = build(3, 16)
    x = torch.nn.functional.one_hot(torch.randint(2, (40, 32)), 3).to(LOW)
    assert "merged once" in str(tr.explain(layer, x))
    assert_near(layer, x, None, "last")


def test_it_is_taken_by_itself():
    assert NATIVE in str(tr.explain(build(3, 4), tokens(20, 2, 3)))


def test_two_threads_give_the_same_bits():
    layer, x = build(24, 40), tokens(65, 9, 24)
    one = seen(layer, x, None, NATIVE, "all")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = seen(layer, x, None, NATIVE, "all")
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("target", library.targets())
def test_every_target(target: str):
    with library.use_target(target):
        assert_near(build(5, 19, R=2), tokens(17, 3, 5), None, "all")


def under_autocast(layer: Recurrent, x: Tensor, kernel: str) -> list[Tensor]:
    with torch.autocast("cpu", LOW):
        return seen(layer, x, None, kernel, "all")


@pytest.mark.parametrize("H", [7, 64])
def test_autocast_multiplies_in_bfloat16(H: int):
    torch.manual_seed(2)
    layer, x = tr.PRLSTM(5, H), torch.randn(17, 3, 5, requires_grad=True)
    by_kernel, plain = (under_autocast(layer, x, kernel) for kernel in (NATIVE, "reference"))
    exact = seen(layer.double(), x.detach().double().requires_grad_(), None, "reference", "all")
    assert {t.dtype for t in by_kernel} == {torch.float32}
    errors = [
        sum(
            float((t - right).abs().max() / right.abs().max())
            for t, right in zip(found, exact, strict=True)
        )
        for found in (by_kernel, plain)
    ]
    assert errors[0] <= errors[1] + HALF_UNIT * len(exact)


def test_derivatives_of_derivatives():
    layer, x = build(3, 4), tokens(20, 2, 3)
    found = []
    for kernel in (NATIVE, "reference"):
        with tr.use_kernels(kernel):
            (g,) = torch.autograd.grad(layer.reduce(x).square().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(g.square().sum(), [x, *layer.parameters()]))
    for made, right in zip(*found, strict=True):
        assert float((made - right).abs().max()) <= 0.1 * float(right.abs().max())


def test_nan_is_not_hidden():
    layer, x = build(3, 4), tokens(20, 2, 3).detach()
    x[4, 1, 0] = float("nan")
    with tr.use_kernels(NATIVE):
        y, _ = layer(x)
    assert torch.isfinite(y[:4]).all()
    assert torch.isfinite(y[:, 0]).all()
    assert torch.isnan(y[4:, 1]).all()


def test_other_numbers_are_refused():
    layer, x = build(3, 4).to(torch.float16), tokens(20, 2, 3).detach().to(torch.float16)
    with tr.use_kernels(NATIVE), pytest.raises(ValueError, match="in float32 and bfloat16"):
        layer(x)
    layer, x = tr.PRLSTM(3, 4), torch.randn(20, 2, 3)
    with (
        torch.autocast("cpu", torch.float16),
        tr.use_kernels(NATIVE),
        pytest.raises(ValueError, match="under autocast products"),
    ):
        layer(x)


@pytest.mark.slow
@pytest.mark.parametrize(("T", "batch", "H"), [(4096, 3, 64), (257, 33, 256), (40, 128, 256)])
def test_large(T: int, batch: int, H: int):
    assert_near(build(16, H), tokens(T, batch, 16), None, "last")
