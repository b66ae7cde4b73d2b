"""Cosines over distance: states that never move, and every pair by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from treering.inspect.similarity import similarity
from treering.inspect.subject import NotAvailableError
from treering.tasks import Batch, RaggedBatch

Make = Callable[..., Any]


def test_a_state_that_never_turns_is_like_itself(model_of: Make, symbols: Batch) -> None:
    model = model_of("transducer", "min-gru")
    with torch.no_grad():
        model.layer.weight_ih_l0.zero_()
        model.layer.bias_ih_l0[:6] = 0  # every channel keeps one half
    (found,) = similarity(model, symbols)
    assert found.curve.at == (1, 2, 4)
    assert found.curve.low == found.curve.median == found.curve.high == (1, 1, 1)


@pytest.mark.parametrize(
    ("name", "order"), [("lstm", False), ("ql-rnn", True), ("min-lstm", False), ("pr-lstm", True)]
)
def test_every_pair_of_tokens_counts(
    name: str, order: bool, model_of: Make, texts: RaggedBatch
) -> None:
    model = model_of("classifier", name, order, num_layers=2)
    x = model.embedding(texts.inputs)
    recurrent = model.layer
    if order:
        x, recurrent = model.layer.reorder(x, texts.lengths)[0], model.layer.layer
    h = recurrent(x, lengths=texts.lengths, return_states=True)[2].state[0]
    found = similarity(model, texts)
    assert [one.layer for one in found] == ["layer 1", "layer 2"]
    for one, states in zip(found, h, strict=True):
        for k, distance in enumerate(one.curve.at):
            cosines = []
            for row, length in enumerate(texts.lengths.tolist()):
                for t in range(length - distance):
                    a, b = states[row, t].tolist(), states[row, t + distance].tolist()
                    norms = math.hypot(*a) * math.hypot(*b)
                    if norms > 0:
                        cosines.append(sum(p * q for p, q in zip(a, b, strict=True)) / norms)
            expected = torch.tensor(cosines).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
            given = [one.curve.low[k], one.curve.median[k], one.curve.high[k]]
            assert given == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert one.curve.at == (1, 2, 4)


def test_a_state_of_zeros_has_no_direction(model_of: Make, symbols: Batch) -> None:
    model = model_of("transducer", "rnn")
    with torch.no_grad():
        for parameter in model.layer.parameters():
            parameter.zero_()
    (found,) = similarity(model, symbols)
    assert found.curve.at == ()


def test_one_token_has_no_distance(model_of: Make) -> None:
    model = model_of("stream", "gru")
    batch = Batch(torch.tensor([[1]]), torch.tensor([[2]]), torch.tensor([[True]]))
    with pytest.raises(NotAvailableError, match="one token"):
        similarity(model, batch)
