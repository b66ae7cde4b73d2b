"""Text classification: what is behind a text's end must not matter."""

from typing import Any

import pytest
import torch

import treering as tr
from treering.models import Classifier


def build(name: str, wrap: bool = False, **options: Any) -> Classifier:
    torch.manual_seed(0)
    layer = tr.layers.get(name)(5, 4, batch_first=True, **options)
    return Classifier(tr.Reordered(layer) if wrap else layer, words=11, embedding_size=5, classes=3)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["lstm", "pr-lstm", "min-lstm"])
def test_padding_does_not_matter(name: str, bidirectional: bool, wrap: bool):
    model = build(name, wrap, bidirectional=bidirectional)
    texts = [[3, 4, 5, 6, 7], [8, 2], [9]]
    padded = torch.zeros(3, 5, dtype=torch.int64)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = torch.tensor(text)
    together = model(padded, lengths=torch.tensor([5, 2, 1]))
    assert together.shape == (3, 1, 3)
    for row, text in enumerate(texts):
        alone = model(torch.tensor([text]))
        torch.testing.assert_close(together[row], alone[0])


def test_reads_both_ends_of_a_text():
    model = build("gru", bidirectional=True)
    tokens = torch.tensor([[3, 4, 5, 6]])
    _, (h,) = model.layer(model.embedding(tokens))
    expected = model.head(torch.cat((h[0], h[1]), dim=-1))
    torch.testing.assert_close(model(tokens).squeeze(1), expected)


def test_refuses_more_than_one_answer():
    with pytest.raises(ValueError, match="one answer"):
        build("lstm")(torch.ones(1, 2, dtype=torch.int64), output_length=2)
