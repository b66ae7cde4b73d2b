"""Autocast, and what low precision does to long sequences.

Legend: T time, B batch.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

import treering as tr
from conformance.cases import Case
from conformance.features.feature import Absent, feature
from conformance.observe import floats
from treering.layers import Recurrent

THEME = "Precision"
T, B, I, H = 33, 4, 8, 16  # noqa: E741  (the letters of the formulas)


def build(case: Case) -> tuple[Recurrent, Tensor]:
    torch.manual_seed(3)
    return tr.layers.get(case.name)(I, H, num_layers=2), torch.randn(T, B, I)


def autocast(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype)


def held(case: Case, dtype: torch.dtype) -> None:
    """Outputs, states and gradients in single precision, near those without autocast."""
    layer, x = build(case)
    y, state = layer(x)
    expected = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    with autocast(dtype):
        z, last = layer(x)
        again, _ = layer(x, last)
        one, after = layer.step(x[0].to(dtype), last)
        packed = layer.reduce(x, torch.tensor([33, 1, 20, 7]))
    for tensor in (z, again, one, packed, *floats(last), *floats(after)):
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
    error = (z - y).abs().max()
    assert 0 < error < 20 * torch.finfo(dtype).eps
    for a, b in zip(floats(last), floats(state), strict=True):
        assert 0 < (a - b).abs().max() < 40 * torch.finfo(dtype).eps
    found = torch.autograd.grad(z.square().sum(), list(layer.parameters()))
    assert {gradient.dtype for gradient in found} == {torch.float32}
    one, other = (torch.cat([g.flatten() for g in grads]) for grads in (found, expected))
    assert (one - other).norm() < 20 * torch.finfo(dtype).eps * other.norm()


@feature(THEME, "autocast bf16: outputs and states float32, gradients near")
def bfloat16(case: Case) -> None:
    held(case, torch.bfloat16)


@feature(THEME, "autocast fp16: outputs and states float32, gradients near")
def float16(case: Case) -> None:
    held(case, torch.float16)


def rounded(case: Case) -> tuple[float, float]:
    """How far the state after 400 tokens is off: under autocast, and of a bfloat16 module."""
    layer, _ = build(case)
    x = torch.randn(400, B, I)
    low = tr.layers.get(case.name)(I, H, num_layers=2, dtype=torch.bfloat16)
    low.load_state_dict(layer.state_dict())
    with torch.no_grad():
        with autocast(torch.bfloat16):
            _, mixed = layer(x)
        # Kernels hold the state of such a module in float32 as well, so: by plain operators.
        with tr.use_kernels("reference"):
            _, coarse = low(x.to(torch.bfloat16))
        _, exact = layer.double()(x.double())
    mixed_error, coarse_error = (
        sum(
            float((a.double() - e).norm())
            for a, e in zip(floats(state), floats(exact), strict=True)
        )
        for state in (mixed, coarse)
    )
    return mixed_error, coarse_error


def without_a_sum(layer: type[Recurrent]) -> bool:
    """The new state is an activation of the old one, so that no rounding adds up."""
    return layer.name in ("rnn", "pr-rnn")


def no_sum(case: Case) -> None:
    mixed, coarse = rounded(case)
    assert mixed < 1.1 * coarse


@feature(
    THEME,
    "under autocast the state accumulates in float32: nearer than a bf16 module's",
    Absent(without_a_sum, no_sum, "the state is float32, but no sum: nothing accumulates"),
)
def accumulates(case: Case) -> None:
    mixed, coarse = rounded(case)
    assert mixed < 0.8 * coarse
