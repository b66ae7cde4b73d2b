"""Native kernels as PyTorch operators: transforms, derivatives of all kinds, operation counts.

Legend: B batch, T time, I input, H hidden.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import treering as tr
from treering import operator
from treering.kernels.native import computation, library
from treering.layers.recurrent import Recurrent

pytestmark = [
    pytest.mark.skipif(library.missing() is not None, reason=str(library.missing())),
    # PyTorch compiles its own forward-mode rules with what it calls deprecated.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
T, B, I, H = 6, 2, 3, 5  # noqa: E741
LAYERS: dict[str, Callable[..., Recurrent]] = {
    "native-lstm": tr.LSTM,
    "native-gru": tr.GRU,
    "native-ql-lstm": tr.QLLSTM,
    "native-pr-lstm": tr.PRLSTM,
    "native-pr-rnn": tr.PRRNN,
}


@pytest.fixture(params=LAYERS)
def kernel(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return request.param


Results = Callable[[Recurrent], Any]


def agree(kernel: str, results: Results) -> None:
    """The same by the kernel and by plain operators."""
    layer = LAYERS[kernel](I, H)
    with tr.use_kernels("reference"):
        expected = results(layer)
    with tr.use_kernels(kernel):
        torch.testing.assert_close(results(layer), expected, rtol=1e-4, atol=1e-6)


def loss(layer: Recurrent) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x)[0].square().sum()


def test_vmap_over_inputs(kernel: str):
    x = torch.randn(4, T, B, I)
    agree(kernel, lambda layer: torch.func.vmap(lambda x: layer(x)[0])(x))
    agree(kernel, lambda layer: torch.func.vmap(lambda x: layer(x)[0], in_dims=2)(x.movedim(0, 2)))


# A tree's state counts tokens, which vmap cannot look at.
@pytest.mark.parametrize("kernel", ["native-lstm", "native-gru", "native-ql-lstm"])
def test_vmap_over_states_alone(kernel: str):
    x = torch.randn(T, B, I)

    def results(layer: Recurrent) -> Tensor:
        state = layer(torch.randn(1, B, I, generator=torch.Generator().manual_seed(1)))[1]
        many = type(state)(*(torch.stack([field, -field, 2 * field]) for field in state))
        return torch.func.vmap(lambda state: layer(x, state)[0])(many)

    agree(kernel, results)


def test_vmap_over_weights(kernel: str):
    x = torch.randn(T, B, I)

    def results(layer: Recurrent) -> Tensor:
        weights = {n: torch.stack([w, 0.5 * w, -w]) for n, w in layer.named_parameters()}
        return torch.func.vmap(lambda w: torch.func.functional_call(layer, w, (x,))[0])(weights)

    agree(kernel, results)


def test_gradients_of_each_sample(kernel: str):
    x = torch.randn(4, T, B, I)

    def results(layer: Recurrent) -> Any:
        def of_one(weights: Any, x: Tensor) -> Tensor:
            return torch.func.functional_call(layer, weights, (x,))[0].square().sum()

        weights = {name: w.detach() for name, w in layer.named_parameters()}
        return torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0))(weights, x)

    agree(kernel, results)


def test_forward_mode(kernel: str):
    x, along = torch.randn(2, T, B, I)

    def results(layer: Recurrent) -> tuple[Tensor, Tensor]:
        with forward_ad.dual_level():
            y = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, along))[0])
            assert y.tangent is not None
        through = torch.func.jvp(lambda x: layer(x)[0], (x,), (along,))[1]
        return y.tangent, through

    agree(kernel, results)


@pytest.mark.parametrize("outer", [torch.func.jacfwd, torch.func.jacrev])
def test_second_derivatives(kernel: str, outer: Callable[..., Any]):
    x = torch.randn(3, 1, I)
    agree(kernel, lambda layer: outer(torch.func.jacrev(loss(layer)))(x))


def test_second_derivatives_without_torch_func(kernel: str):
    x = torch.randn(3, 1, I)
    agree(kernel, lambda layer: torch.autograd.functional.hessian(loss(layer), x))


def test_forward_mode_within_forward_mode_is_refused_rather_than_zero(kernel: str):
    layer, x = LAYERS[kernel](I, H), torch.randn(3, 1, I)
    hessian = torch.func.jacfwd(torch.func.jacfwd(loss(layer)))
    with tr.use_kernels(kernel), pytest.raises(ValueError, match="forward mode within forward"):
        hessian(x)
    expected = torch.func.jacrev(torch.func.jacrev(loss(layer)))(x)
    torch.testing.assert_close(hessian(x), expected)


def test_many_gradients_at_once(kernel: str):
    x, grads = torch.randn(T, B, I), torch.randn(3, T, B, H)

    def results(layer: Recurrent) -> tuple[Tensor, ...]:
        inputs = (x.clone().requires_grad_(), *layer.parameters())
        y = layer(inputs[0])[0]
        return torch.autograd.grad(y, inputs, grads, is_grads_batched=True)

    agree(kernel, results)


def test_a_second_backward_pass_through_the_same_graph(kernel: str):
    x = torch.randn(T, B, I)

    def results(layer: Recurrent) -> Any:
        y = loss(layer)(x)
        wanted = tuple(layer.parameters())
        return [torch.autograd.grad(y, wanted, retain_graph=True) for _ in range(2)]

    agree(kernel, results)


def test_operations_are_counted(kernel: str):
    layer, x = LAYERS[kernel](I, H), torch.randn(T, B, I)
    with tr.use_kernels("reference"), FlopCounterMode(display=False) as plain:
        layer(x)
    with tr.use_kernels(kernel), FlopCounterMode(display=False) as counter:
        layer(x)[0].sum().backward()
    assert counter.get_flop_counts()["Global"] == {
        torch.ops.treering.native: plain.get_total_flops(),
        torch.ops.treering.native_backward_: 2 * plain.get_total_flops(),
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[Tensor]]]:
    """Computations that ran, and their tensors."""
    calls: list[tuple[Any, list[Tensor]]] = []
    run = computation.run

    def spy(what: computation.Computation, tensors: list[Tensor]) -> list[Tensor]:
        calls.append((what, tensors))
        return run(what, tensors)

    for room in ("steps", "trees"):
        monkeypatch.setattr(f"treering.dispatch.{room}.run", spy)
    return calls


# What PR-RNN keeps is scratch in part, and the check compares all of it.
@pytest.mark.parametrize(
    "kernel", ["native-lstm", "native-gru", "native-ql-lstm", "native-pr-lstm"]
)
# The check compiles a backward pass that hands gradients on in-place.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", [False, True])
def test_the_operator_passes_pytorch_s_own_check(kernel: str, trained: bool, seen: list[Any]):
    # Of this width nothing is padded, and all that is kept is written.
    layer = LAYERS[kernel](I, 16).requires_grad_(trained)
    with tr.use_kernels(kernel):
        layer(torch.randn(T, B, I), reset=torch.rand(T, B) < 0.3)
    ((what, tensors),) = seen
    given = (tensors, operator.key(what), trained)
    torch.library.opcheck(torch.ops.treering.native.default, given)


def test_equal_computations_share_a_key(kernel: str, seen: list[Any]):
    with tr.use_kernels(kernel):
        for _ in range(2):
            LAYERS[kernel](I, H)(torch.randn(T, B, I))
    assert len({operator.key(what) for what, _ in seen}) == 1
