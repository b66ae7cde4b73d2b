"""The benchmark's model, against its definition written out.

Legend: B batch, T time, M output length, C classes.
"""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import treering as tr
from treering.models import Transducer

LAYERS = ("lstm", "pr-lstm", "ql-lstm", "min-gru")


def build(name: str, hidden_size: int = 6, **options: Any) -> Transducer:
    torch.manual_seed(0)
    layer = tr.layers.get(name)(3, hidden_size, batch_first=True, **options)
    return Transducer(layer, symbols=2, classes=2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("output_length", [1, 3])
def test_reads_all_symbols_then_answers_on_empty_tokens(name: str, output_length: int):
    model = build(name)
    inputs = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]])
    x = torch.cat(
        (F.one_hot(inputs, 3), torch.tensor([0, 0, 1]).expand(2, output_length, 3)), dim=1
    ).float()
    y, _ = model.layer(x)
    expected = model.head(torch.relu(y))[:, -output_length:]
    torch.testing.assert_close(model(inputs, output_length=output_length), expected)


@pytest.mark.parametrize(("refinements", "count"), [(0, 660_226), (1, 923_394), (2, 1_186_562)])
def test_parameter_counts_of_the_paper(refinements: int, count: int):
    model = build("pr-lstm", 256, refinements=refinements)
    assert sum(p.numel() for p in model.parameters()) == count


def test_refuses_ragged_inputs():
    with pytest.raises(ValueError, match="one length"):
        build("lstm")(torch.zeros(2, 3, dtype=torch.int64), lengths=torch.tensor([3, 1]))


def test_every_answer_reaches_every_parameter():
    model = build("pr-lstm")
    model(torch.tensor([[0, 1, 1, 0]]), output_length=2).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
