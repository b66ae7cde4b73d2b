"""What a tree remembers of its sizes serves later calls, whatever the first one ran under."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import treering as tr


def transformed(layer: Any, x: Tensor) -> None:
    torch.func.jacrev(lambda x: layer.reduce(x).sum())(x)


def in_forward_mode(layer: Any, x: Tensor) -> None:
    torch.func.jvp(lambda x: layer(x)[0], (x,), (x,))


def in_inference_mode(layer: Any, x: Tensor) -> None:
    with torch.inference_mode():
        layer(x)


def without_numbers(layer: Any, x: Tensor) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        outputs = layer(torch.empty(x.shape))[0]
    assert outputs.shape == (*x.shape[:2], 3)


SIZES = count(37)
"""Lengths of which nothing is remembered yet."""


# PyTorch compiles its own forward-mode rules with what it calls deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kernels", ["reference", "auto"])
@pytest.mark.parametrize(
    "first", [transformed, in_forward_mode, in_inference_mode, without_numbers]
)
def test_the_first_call_leaves_nothing_behind(first: Callable[[Any, Tensor], None], kernels: str):
    torch.manual_seed(0)
    layer, x = tr.PRLSTM(2, 3), torch.randn(next(SIZES), 2, 2)
    outputs, state = [], None
    for token in x:
        y, state = layer.step(token, state)
        outputs.append(y)
    expected = gradients(layer, torch.stack(outputs))
    with tr.use_kernels(kernels):
        first(layer, x)
        torch.testing.assert_close(gradients(layer, layer(x)[0]), expected)


def gradients(layer: Any, outputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs.square().sum(), tuple(layer.parameters()))
