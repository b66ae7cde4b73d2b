"""What PyTorch's operators are asked for.

Legend: T time, B batch, H hidden.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

import treering as tr
from treering import dispatch
from treering.kernels import aten
from treering.schedules.abstract import Call

T, B, H = 4, 2, 3


@pytest.mark.parametrize("gradients", [True, False])
def test_training_mode_where_gradients_are_wanted(gradients: bool):
    """cuDNN refuses the backward pass of an inference call, on machines that this one is not."""
    asked: list[bool] = []

    def operator(*arguments: Any) -> tuple[Tensor, ...]:
        # ..., has_biases, num_layers, dropout, train, bidirectional, batch_first
        dropout = next(k for k, given in enumerate(arguments) if isinstance(given, float))
        asked.append(arguments[dropout + 1])
        return torch.gru(*arguments)

    x, h = torch.randn(T, B, H), torch.zeros(B, H)
    parameters = [torch.randn(3 * H, H), torch.randn(3 * H, H)]
    with torch.set_grad_enabled(gradients):
        aten.run(operator, x, [h], parameters)
    assert asked == [gradients]


def test_cudnns_operations_are_counted():
    """By shapes alone, without a GPU: two a multiply-add, each matrix times each token."""
    I, P = 5, 2  # noqa: E741  (the letters of the formulas)
    weights = [torch.empty(4 * H, I, device="meta"), torch.empty(4 * H, P, device="meta")]
    weights += [torch.empty(4 * H, device="meta")] * 2 + [torch.empty(P, H, device="meta")]
    x, h = torch.empty(T, B, I, device="meta"), torch.empty(1, B, P, device="meta")
    c = torch.empty(1, B, H, device="meta")
    with FlopCounterMode(display=False) as counter:
        torch.ops.aten._cudnn_rnn(
            x, weights, 5, None, h, c, 2, H, P, 1, False, 0.0, True, False, [], None
        )
    products = 2 * T * B * (4 * H * I + 4 * H * P + P * H)
    assert counter.get_total_flops() == products
    for of_weights, times in ((True, 2), (False, 1)):
        formula = flop_counter.flop_registry[torch.ops.aten._cudnn_rnn_backward]
        assert formula(x, weights, [True, True, True, of_weights], out_val=x) == times * products


def test_a_formula_of_pytorchs_own_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    theirs = dict.fromkeys(aten.FORMULAS, len)
    monkeypatch.setattr(flop_counter, "flop_registry", dict(theirs))
    aten.count_operations()
    assert flop_counter.flop_registry == theirs
    monkeypatch.setattr(flop_counter, "flop_registry", {})
    aten.count_operations()
    assert flop_counter.flop_registry.keys() == theirs.keys()


@pytest.mark.parametrize(("steps", "refused"), [(65_535, False), (65_536, True)])
def test_more_steps_than_cudnn_takes(steps: int, refused: bool, monkeypatch: pytest.MonkeyPatch):
    """On a GPU that only its tensor's shape pretends to."""
    calls: list[Call] = []
    choose = dispatch.choose
    monkeypatch.setattr(
        dispatch, "choose", lambda *given: calls.append(given[-1]) or choose(*given)
    )
    tr.LSTM(2, 3)(torch.zeros(T, 1, 2))
    with FakeTensorMode():
        call = replace(calls[0], x=torch.empty(steps, 1, 2, device="cuda"))
    kernel = next(kernel for kernel in dispatch.KERNELS if kernel.name == "aten-lstm")
    assert (kernel.refuses(call) == "cuDNN stops at 65535 time steps") == refused
