"""Classifiers: logits and losses by hand, and what transformers chooses by itself.

Legend: B batch, T time, C labels.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import treering as tr
from hf.making import config, model, padded, tokens
from treering.hf import TreeringForSequenceClassification


def classifier(name: str = "pr-lstm", **changes: Any) -> TreeringForSequenceClassification:
    return model(TreeringForSequenceClassification, name, **changes)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", tr.layers.names())
def test_padding_at_either_side_changes_nothing(name: str, bidirectional: bool) -> None:
    net = classifier(name, num_labels=3, bidirectional=bidirectional)
    rows = [tokens(1, length, seed=length)[0] for length in (1, 4, 9)]
    expected = torch.cat([net(row[None]).logits for row in rows])
    assert expected.shape == (3, 3)
    for before in ([0, 0, 0], [9, 6, 1], [3, 2, 1]):
        logits = net(*padded(rows, before, 10)).logits
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", tr.layers.names())
def test_logits_are_linear_on_the_last_output(name: str) -> None:
    net, ids = classifier(name), tokens(2, 7)
    y, _ = net.model.layer(net.model.embed_tokens(ids))
    expected = y[:, -1] @ net.score.weight.t()
    torch.testing.assert_close(net(ids).logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("C", "labels", "kind"),
    [
        (3, torch.tensor([2, 0]), "single_label_classification"),
        (3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), "multi_label_classification"),
        (1, torch.tensor([0.5, -2.0]).double(), "regression"),
    ],
)
def test_losses(C: int, labels: Tensor, kind: str) -> None:
    net, ids = classifier(num_labels=C), tokens(2, 5)
    output = net(ids, labels=labels.double() if labels.is_floating_point() else labels)
    assert net.config.problem_type == kind
    logits = output.logits
    expected = {
        "single_label_classification": lambda: F.cross_entropy(logits, labels),
        "multi_label_classification": lambda: F.binary_cross_entropy_with_logits(
            logits, labels.double()
        ),
        "regression": lambda: F.mse_loss(logits.squeeze(-1), labels),
    }[kind]()
    assert torch.equal(output.loss, expected)
    loss, same = net(ids, labels=labels.to(torch.float64) if C == 1 else labels, return_dict=False)[
        :2
    ]
    assert torch.equal(same, logits)
    assert bool(loss.isfinite())


@pytest.mark.parametrize("name", tr.layers.names())
def test_the_loss_reaches_every_parameter(name: str) -> None:
    net = classifier(name, bidirectional=True).train()
    net(tokens(3, 6), labels=torch.tensor([0, 1, 1])).loss.backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key


def test_dropout_is_of_training_only() -> None:
    net, ids = classifier("lstm", dropout=0.5), tokens(2, 5)
    assert torch.equal(net(ids).logits, net(ids).logits)
    net.train()
    assert not torch.equal(net(ids).logits, net(ids).logits)


def test_labels_of_the_configuration() -> None:
    made = config("lstm", id2label={0: "bad", 1: "fair", 2: "good"}, label2id=None)
    assert TreeringForSequenceClassification(made)(tokens(1, 2)).logits.shape == (1, 3)


def test_holes_are_refused() -> None:
    with pytest.raises(ValueError, match="hole in row 0"):
        classifier()(tokens(1, 4), torch.tensor([[1, 0, 1, 1]]))
