"""Derivatives of derivatives, torch.func and parametrizations.

Legend: T time, B batch, N samples.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from conformance import test_gradients
from conformance.cases import Case
from conformance.features.feature import feature
from conformance.observe import assert_same, draw, floats, observe, whole

THEME = "Transforms"
T, B, N = 6, 3, 4


def close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@feature(THEME, "first derivatives, by finite differences")
def first(case: Case) -> None:
    test_gradients.test_first_derivatives(case, "from a state, padded")


@feature(THEME, "double backward, by finite differences")
def second(case: Case) -> None:
    test_gradients.test_second_derivatives(case)


@feature(THEME, "`torch.func.vmap` over inputs and states")
def vectorised(case: Case) -> None:
    layer, xs = case.build(), draw(N, T, B, 2)

    def call(x: Tensor) -> tuple[Tensor, Any]:
        y, state = layer(x)
        z, last = layer(x, state)
        return y, (z, last)

    y, (z, last) = vmap(call)(xs)
    for n in range(N):
        one, (other, end) = call(xs[n])
        close(y[n], one)
        close(z[n], other)
        for a, b in zip(floats(last), floats(end), strict=True):
            close(a[n], b)


@feature(THEME, "per-sample gradients: `vmap(grad(functional_call))`")
def per_sample(case: Case) -> None:
    layer, x = case.build(num_layers=2), draw(T, N, 2)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x.unsqueeze(1),))[0].square().sum()

    found = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for n in range(N):
        layer.zero_grad()
        layer(x[:, n : n + 1])[0].square().sum().backward()
        for name, parameter in layer.named_parameters():
            close(found[name][n], parameter.grad)


@feature(THEME, "forward mode: `torch.func.jvp` and dual numbers, of inputs and weights")
def forward_mode(case: Case) -> None:
    layer, x, v = case.build(), draw(T, B, 2), draw(T, B, 2, seed=1)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    directions = {name: draw(*p.shape, seed=2) for name, p in parameters.items()}

    def call(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(layer, parameters, (x,))[0]

    with warnings.catch_warnings():
        # torch.func.jvp loads decompositions that PyTorch itself compiles with torch.jit.script.
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        tangent = jvp(call, (x, parameters), (v, directions))[1]
    # Against reverse mode: <u, J v> = <J^T u, v> for any u.
    u = draw(T, B, layer.output_size, seed=3)
    given = x.clone().requires_grad_()
    back = torch.autograd.grad(layer(given)[0], [given, *layer.parameters()], u)
    expected = sum((b * d).sum() for b, d in zip(back, [v, *directions.values()], strict=True))
    assert tangent.any()
    close((u * tangent).sum(), expected)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, v)
        seen = forward_ad.unpack_dual(layer(dual)[0]).tangent
    close(seen, jvp(lambda x: layer(x)[0], (x,), (v,))[1])


@feature(THEME, "activation checkpointing: the same gradients")
def checkpointed(case: Case) -> None:
    layer, x = case.build(num_layers=2), draw(T, B, 2)

    def call(layer: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return checkpoint(layer, x, state, use_reentrant=False)

    assert_same(observe(layer, x, None, whole), observe(layer, x, None, call))


def matrices(layer: nn.Module) -> list[str]:
    return [name for name, p in layer.named_parameters() if p.dim() == 2]


@feature(THEME, "weight norm through `torch.nn.utils.parametrizations`")
def weight_norm(case: Case) -> None:
    layer, x = case.build(num_layers=2, bidirectional=True), draw(T, B, 2)
    plain = copy.deepcopy(layer)
    expected = layer(x)[0]
    for name in matrices(plain):
        parametrizations.weight_norm(layer, name)
    close(layer(x)[0], expected)
    layer(x)[0].square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    name = matrices(plain)[0]
    magnitude = layer.get_parameter(f"parametrizations.{name}.original0")
    with torch.no_grad():
        magnitude *= 2
        plain.get_parameter(name).mul_(2)
    close(layer(x)[0], plain(x)[0])


@feature(THEME, "spectral norm through `torch.nn.utils.parametrizations`")
def spectral_norm(case: Case) -> None:
    layer, x = case.build(3, 4), draw(T, B, 3)
    plain = copy.deepcopy(layer)
    for name in matrices(plain):
        parametrizations.spectral_norm(layer, name, n_power_iterations=300)
    layer(x)
    layer.eval()
    with torch.no_grad():
        for name in matrices(plain):
            weight = plain.get_parameter(name)
            weight /= torch.linalg.matrix_norm(weight, 2)
    close(layer(x)[0], plain(x)[0])
    layer(x)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
