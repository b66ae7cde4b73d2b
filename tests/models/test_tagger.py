"""The tagger, against its definition written out, and whom it refuses.

Legend: B batch, T time, C classes.
"""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import treering as tr
from treering._errors import UserError
from treering.models import Tagger

INPUTS = torch.randint(3, (4, 11), generator=torch.Generator().manual_seed(1))


def build(name: str, causal: bool = True, **options: Any) -> Tagger:
    torch.manual_seed(0)
    layer = tr.layers.get(name)(3, 6, batch_first=True, **options)
    return Tagger(layer, symbols=3, classes=5, causal=causal)


@pytest.mark.parametrize("name", tr.layers.names())
def test_logits_are_one_hot_layer_head_at_every_symbol(name: str):
    model = build(name)
    y, _ = model.layer(F.one_hot(INPUTS, 3).float())
    logits = model(INPUTS)
    assert logits.shape == (4, 11, 5)
    torch.testing.assert_close(logits, y @ model.head.weight.T + model.head.bias)
    assert torch.equal(model(INPUTS, output_length=11), logits)


@pytest.mark.parametrize("name", tr.layers.names())
def test_no_answer_knows_a_later_symbol(name: str):
    model, other = build(name, num_layers=2), INPUTS.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 3
    torch.testing.assert_close(model(INPUTS)[:, :6], model(other)[:, :6])
    assert not torch.allclose(model(INPUTS)[:, 6:], model(other)[:, 6:])


def test_lengths_end_a_row():
    model = build("pr-lstm")
    lengths = torch.tensor([11, 3, 1, 7])
    logits = model(INPUTS, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(INPUTS[row : row + 1, :length])[0]
        torch.testing.assert_close(logits[row, :length], alone)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (tr.LSTM(3, 5, batch_first=True, bidirectional=True), "a bidirectional LSTM does; use"),
        (tr.Reordered(tr.GRU(3, 5, batch_first=True)), "a layer in tree order does; use the"),
        (tr.PRLSTM(3, 5), "a Tagger reads .* build it with batch_first=True"),
    ],
    ids=str,
)
def test_layers_that_do_not_fit_are_refused(layer, words):
    with pytest.raises(UserError, match=words):
        Tagger(layer, 3, 2)


def test_tags_that_hang_on_both_sides_may_look_ahead():
    both = build("lstm", causal=False, bidirectional=True)
    assert both(INPUTS).shape == (4, 11, 5)
    layer = tr.Reordered(tr.GRU(3, 5, batch_first=True))
    assert Tagger(layer, 3, 2, causal=False)(INPUTS).shape == (4, 11, 2)
    with pytest.raises(UserError, match="build it with batch_first=True"):
        Tagger(tr.Reordered(tr.GRU(3, 5)), 3, 2, causal=False)


def test_other_numbers_of_answers_are_refused():
    with pytest.raises(UserError, match="one answer a symbol, 11 here and not 3; use a Transducer"):
        build("lstm")(INPUTS, output_length=3)
