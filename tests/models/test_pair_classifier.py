"""Pairs of sentences: each is read alone, in its own length, by the same layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treering as tr
from treering._errors import UserError
from treering.models import PairClassifier
from treering.models.classifier import Pooling

SEPARATOR = 2
sentence = st.lists(st.integers(3, 10), min_size=1, max_size=6)


def build(name: str = "gru", pooling: Pooling = "last", dropout: float = 0.0) -> PairClassifier:
    torch.manual_seed(0)
    layer = tr.layers.get(name)(5, 4, batch_first=True, bidirectional=name == "lstm")
    return PairClassifier(layer, 11, 5, 3, SEPARATOR, pooling, dropout).double()


def rows(pairs: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    joined = [torch.tensor([*first, SEPARATOR, *second]) for first, second in pairs]
    lengths = torch.tensor([len(row) for row in joined])
    # What is behind a row's end is no padding: it must not be read.
    tokens = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True, padding_value=SEPARATOR)
    return tokens, lengths


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(sentence, sentence), min_size=1, max_size=4),
    st.sampled_from(["gru", "lstm", "pr-lstm"]),
    st.sampled_from(["last", "max", "mean"]),
)
def test_the_formula_for_each_pair_alone(pairs, name: str, pooling: Pooling):
    model = build(name, pooling)
    found = model(*rows(pairs))
    assert found.shape == (len(pairs), 1, 3)
    for row, pair in enumerate(pairs):
        u, v = (model.vectors(torch.tensor([one]), None)[0] for one in pair)
        features = torch.cat((u, v, u * v, (u - v).abs()))
        torch.testing.assert_close(found[row, 0], model.head(model.compared(features).relu()))


def test_rows_without_lengths_end_where_the_tensor_does():
    model = build()
    tokens, lengths = rows([([3, 4], [5]), ([6], [7, 8])])
    torch.testing.assert_close(model(tokens), model(tokens, lengths))


def test_gradients_reach_both_sentences_and_not_the_separator():
    model = build()
    tokens, lengths = rows([([3, 4], [5, 6])])
    model(tokens, lengths).sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert gradient.any(1).nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_dropout_draws_in_training_only():
    model = build(dropout=0.5)
    tokens, lengths = rows([([3, 4], [5, 6])] * 20)
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))
    model.eval()
    torch.testing.assert_close(model(tokens, lengths), build().eval()(tokens, lengths))


@pytest.mark.parametrize(
    ("row", "length"),
    [([3, 4, 5], 3), ([SEPARATOR, 4, 5], 3), ([3, 4, SEPARATOR], 3), ([3, 4, SEPARATOR, 5], 2)],
)
def test_a_row_that_is_no_pair_is_named(row: list[int], length: int):
    tokens = torch.tensor([[3, SEPARATOR, 4, 5][: len(row)], row])
    with pytest.raises(UserError, match="row 1 is no pair of sentences: token 2 must stand"):
        build()(tokens, torch.tensor([3, length]))


def test_unchecked_a_missing_sentence_is_one_token_of_padding():
    model = build()
    sentences, sizes = model.separate(torch.tensor([[SEPARATOR, 4, 5]]), None, check=False)
    assert sentences.tolist() == [[0, 0, 0], [4, 5, 0]]
    assert sizes.tolist() == [1, 2]


def test_refuses_more_than_one_answer():
    with pytest.raises(ValueError, match="one answer"):
        build()(*rows([([3], [4])]), output_length=2)


def test_refuses_a_layer_that_reads_trees():
    layer = tr.PRLSTM(5, 4, batch_first=True, schedule=tr.Tree("given"))
    with pytest.raises(UserError, match="a pair of sentences has no trees"):
        PairClassifier(layer, 11, 5, 3, SEPARATOR)
    with pytest.raises(UserError, match="reads no trees; leave ranks out"):
        build()(torch.tensor([[3, SEPARATOR, 4]]), ranks=torch.zeros(1, 3))
