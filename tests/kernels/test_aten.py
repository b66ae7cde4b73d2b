"""What PyTorch's operators are asked for.

Legend: T time, B batch, H hidden.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from treering.kernels import aten

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
