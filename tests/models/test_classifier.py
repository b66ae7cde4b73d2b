"""Text classification: what is behind a text's end must not matter."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import treering as tr
from treering._errors import UserError
from treering.models import Classifier
from treering.models.classifier import Pooling, pool


def build(
    name: str,
    wrap: bool = False,
    pooling: Pooling = "last",
    dropout: float = 0.0,
    **options: Any,
) -> Classifier:
    torch.manual_seed(0)
    layer = tr.layers.get(name)(5, 4, batch_first=True, **options)
    return Classifier(tr.Reordered(layer) if wrap else layer, 11, 5, 3, pooling, dropout)


@pytest.mark.parametrize("pooling", ["last", "max", "mean"])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["lstm", "pr-lstm", "min-lstm"])
def test_padding_does_not_matter(name: str, bidirectional: bool, wrap: bool, pooling: Pooling):
    model = build(name, wrap, pooling, bidirectional=bidirectional)
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


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 3))
def test_pooling_is_over_each_rows_own_tokens(sizes: list[int], surplus: int):
    T = max(sizes) + surplus
    # All negative: a zero behind the end would be the largest and would shrink the mean.
    y = -1 - torch.rand(len(sizes), T, 3, dtype=torch.float64)
    y.requires_grad_()
    lengths = torch.tensor(sizes)
    largest, mean = pool(y, lengths, "max"), pool(y, lengths, "mean")
    for row, size in enumerate(sizes):
        torch.testing.assert_close(largest[row], y[row, :size].max(0).values)
        torch.testing.assert_close(mean[row], y[row, :size].mean(0))
    (gradient,) = torch.autograd.grad((largest + mean).sum(), y)
    behind = torch.arange(T) >= lengths[:, None]
    assert not gradient[behind].any()
    torch.testing.assert_close(gradient.sum(1), torch.full_like(largest, 2))


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_pooling_of_rows_of_one_length_needs_no_lengths(pooling: Pooling):
    model = build("gru", pooling=pooling)
    tokens = torch.randint(2, 11, (3, 6))
    torch.testing.assert_close(model(tokens), model(tokens, torch.full((3,), 6)))


def test_dropout_is_on_the_embedding_and_before_the_head():
    model = build("lstm", pooling="mean", dropout=0.75)
    seen: dict[str, torch.Tensor] = {}
    model.layer.register_forward_pre_hook(lambda _, given: seen.update(embedding=given[0]))
    model.head.register_forward_pre_hook(lambda _, given: seen.update(text=given[0]))
    tokens = torch.randint(2, 11, (40, 50))
    model(tokens)
    assert (seen["embedding"] == 0).double().mean() == pytest.approx(0.75, abs=0.03)
    assert (seen["text"] == 0).double().mean() == pytest.approx(0.75, abs=0.2)
    kept = seen["embedding"] != 0
    torch.testing.assert_close(seen["embedding"][kept], 4 * model.embedding(tokens)[kept])
    model.eval()
    torch.testing.assert_close(model(tokens), build("lstm", pooling="mean").eval()(tokens))


def test_without_dropout_nothing_is_drawn():
    model = build("lstm")
    before = torch.get_rng_state()
    model(torch.ones(2, 3, dtype=torch.int64))
    assert torch.equal(before, torch.get_rng_state())


def test_mistakes():
    with pytest.raises(UserError, match=r"unknown pooling 'maxx'.*'max'"):
        build("lstm", pooling="maxx")  # type: ignore[arg-type]
    for dropout in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"dropout is .*; write a number from 0 to below 1"):
            build("lstm", dropout=dropout)


def test_refuses_more_than_one_answer():
    with pytest.raises(ValueError, match="one answer"):
        build("lstm")(torch.ones(1, 2, dtype=torch.int64), output_length=2)


def test_a_layer_that_reads_trees_is_given_those_of_the_texts():
    layer = tr.PRLSTM(3, 4, batch_first=True, schedule=tr.Tree("given"))
    model, other = Classifier(layer, 9, 3, 2), Classifier(tr.LSTM(3, 4, batch_first=True), 9, 3, 2)
    assert (model.reads_ranks, other.reads_ranks) == (True, False)
    inputs, lengths = torch.randint(1, 9, (2, 5)), torch.tensor([5, 3])
    right, left = (torch.arange(5).mul(sign).expand(2, 5) for sign in (-1, 1))
    logits = model(inputs, lengths, ranks=left)
    assert not torch.allclose(logits, model(inputs, lengths, ranks=right))
    layer.schedule = tr.Tree("left")
    torch.testing.assert_close(model(inputs, lengths), logits)
    with pytest.raises(UserError, match="ranks say along which tree to merge, and Sequential"):
        other(inputs, lengths, ranks=left)


def test_pooling_needs_outputs_that_a_given_tree_does_not_have():
    layer = tr.PRLSTM(3, 4, batch_first=True, schedule=tr.Tree("given"))
    with pytest.raises(UserError, match="pooling='mean' reads outputs that are no nodes"):
        Classifier(layer, 9, 3, 2, pooling="mean")


@pytest.mark.parametrize("kind", ["language_model", "tagger", "transducer"])
def test_models_without_trees_refuse_a_layer_that_reads_them(kind: str):
    layer = tr.PRLSTM(4, 4, batch_first=True, schedule=tr.Tree("given"))
    build = {
        "language_model": lambda: tr.models.LanguageModel(layer, 9, 4),
        "tagger": lambda: tr.models.Tagger(layer, 4, 2),
        "transducer": lambda: tr.models.Transducer(layer, 3, 2),
    }[kind]
    with pytest.raises(UserError, match=r"no trees for a layer under Tree\('given'\)"):
        build()
