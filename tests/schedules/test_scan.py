"""The affine scan against a plain loop: values, all derivatives, precision, transforms.

Legend: B batch, T time, H hidden.
"""

import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from treering.schedules.scan import affine_scan

# PyTorch's own forward mode compiles its formulas with torch.jit.script on first use.
forward_mode = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

TIMES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 257]


def loop(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """`h_t = a_t h_{t-1} + b_t`, one step after the other."""
    states = []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


def problem(T: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(T)
    a = torch.rand(T, 2, 3, generator=generator, dtype=dtype)
    b = torch.randn(T, 2, 3, generator=generator, dtype=dtype)
    return a, b, torch.randn(2, 3, generator=generator, dtype=dtype)


COEFFICIENTS = {
    "forgetting": lambda a: a,
    "zero": lambda a: a * 0,
    "one": lambda a: a * 0 + 1,
    "growing": lambda a: 1.0 + 0.05 * a,
    "of both signs": lambda a: 2 * a - 1,
    "with resets": lambda a: torch.where(a < 0.2, 0.0, a),
}


@pytest.mark.parametrize("T", TIMES)
@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_values_and_gradients(T: int, kind: str):
    a, b, h = problem(T)
    inputs = [t.requires_grad_() for t in (COEFFICIENTS[kind](a).detach(), b, h)]
    found, expected = affine_scan(*inputs), loop(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    weight = torch.randn_like(found)
    for made, wanted in zip(
        torch.autograd.grad(found, inputs, weight),
        torch.autograd.grad(expected, inputs, weight),
        strict=True,
    ):
        torch.testing.assert_close(made, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("T", [1, 5, 33])
def test_gradient_through_the_final_state_only(T: int):
    inputs = [t.requires_grad_() for t in problem(T)]
    made = torch.autograd.grad(affine_scan(*inputs)[-1].sum(), inputs)
    wanted = torch.autograd.grad(loop(*inputs)[-1].sum(), inputs)
    for one, other in zip(made, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@forward_mode
@pytest.mark.parametrize("T", [1, 2, 5, 11])
def test_first_and_second_derivatives(T: int):
    inputs = [t[..., :1, :1].contiguous().requires_grad_() for t in problem(T)]
    assert torch.autograd.gradcheck(affine_scan, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(affine_scan, inputs)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_a_gradient_of_one_argument_only(argument: int):
    inputs = list(problem(9))
    inputs[argument].requires_grad_()
    (made,) = torch.autograd.grad(affine_scan(*inputs).sum(), inputs[argument])
    (wanted,) = torch.autograd.grad(loop(*inputs).sum(), inputs[argument])
    torch.testing.assert_close(made, wanted, rtol=1e-11, atol=1e-12)


@forward_mode
@pytest.mark.parametrize("T", [3, 20])
def test_forward_derivatives(T: int):
    inputs, tangents = problem(T), tuple(torch.randn_like(t) for t in problem(T))
    found, expected = (jvp(function, inputs, tangents) for function in (affine_scan, loop))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("axes", [(0, 0, 0), (None, 0, None), (0, None, None), (None, None, 0)])
def test_vmap(axes: tuple[int | None, ...]):
    inputs = [
        torch.stack([problem(20)[k], 2 * problem(20)[k]]) if axis == 0 else problem(20)[k]
        for k, axis in enumerate(axes)
    ]
    found = vmap(affine_scan, in_dims=axes)(*inputs)
    for row in range(2):
        own = [t[row] if axis == 0 else t for t, axis in zip(inputs, axes, strict=True)]
        torch.testing.assert_close(found[row], loop(*own), rtol=1e-11, atol=1e-12)


def test_gradients_per_example():
    a, b, h = problem(12)

    def loss(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        return affine_scan(a, b, h).square().sum()

    def loss_by_loop(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        return loop(a, b, h).square().sum()

    made = vmap(grad(loss, (0, 1, 2)), in_dims=(1, 1, 0))(a, b, h)
    wanted = vmap(grad(loss_by_loop, (0, 1, 2)), in_dims=(1, 1, 0))(a, b, h)
    for one, other in zip(made, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_no_digits_are_lost_with_length():
    """T = 4096 in single precision against the loop in double precision, on the same numbers."""
    a, b, h = problem(4096)
    single = [t.float() for t in (0.9 + 0.1 * a, b, h)]
    exact = loop(*(t.double() for t in single))
    assert (affine_scan(*single).double() - exact).abs().max() <= 1e-6 * exact.abs().max()
    inputs = [t.requires_grad_() for t in single]
    doubles = [t.detach().double().requires_grad_() for t in single]
    made = torch.autograd.grad(affine_scan(*inputs).sum(), inputs)
    wanted = torch.autograd.grad(loop(*doubles).sum(), doubles)
    for one, other in zip(made, wanted, strict=True):
        assert (one.double() - other).abs().max() <= 2e-6 * other.abs().max()


def test_an_empty_batch():
    assert affine_scan(*(torch.zeros(t) for t in ((9, 0, 3), (9, 0, 3), (0, 3)))).shape == (9, 0, 3)
