"""The language model: what it computes, what it carries, whom it refuses.

Legend: B batch, T time, C tokens of the vocabulary.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

import treering as tr
from treering._errors import UserError
from treering.models import LanguageModel


def build(name: str, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(tr.layers.get(name)(4, 5, batch_first=True, **options), 7, 4).double()


TOKENS = torch.randint(7, (3, 17), generator=torch.Generator().manual_seed(2))


def test_logits_are_embedding_layer_head():
    model = build("lstm")
    logits, state = model(TOKENS)
    y, expected = model.layer(model.embedding.weight[TOKENS])
    assert logits.shape == (3, 17, 7)
    torch.testing.assert_close(logits, y @ model.head.weight.T + model.head.bias)
    assert torch.equal(state.c, expected.c)


@pytest.mark.parametrize("name", tr.layers.names())
def test_a_text_may_be_read_in_pieces(name):
    model = build(name, num_layers=2)
    whole, _ = model(TOKENS)
    for sizes in ((1, 16), (2, 3, 12), (8, 8, 1)):
        state, pieces = None, []
        for tokens in TOKENS.split(sizes, dim=1):
            logits, state = model(tokens, tr.detach(state))
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", tr.layers.names())
def test_no_logit_knows_a_later_token(name):
    model, other = build(name), TOKENS.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 7
    assert torch.equal(model(TOKENS)[0][:, :9], model(other)[0][:, :9])


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (tr.LSTM(4, 5, batch_first=True, bidirectional=True), "a bidirectional LSTM does; use"),
        (tr.Reordered(tr.GRU(4, 5, batch_first=True)), "a layer in tree order does; use the"),
        (tr.PRLSTM(4, 5), "build it with batch_first=True"),
    ],
    ids=str,
)
def test_layers_that_do_not_fit_are_refused(layer, words):
    with pytest.raises(UserError, match=words):
        LanguageModel(layer, 7, 4)


def test_detach_keeps_values_and_types_and_forgets_the_past():
    for name in ("lstm", "pr-lstm"):
        _, state = build(name, num_layers=2)(TOKENS)
        cut = tr.detach(state)
        assert type(cut) is type(state)
        pairs = zip(tensors(state), tensors(cut), strict=True)
        for before, after in pairs:
            assert torch.equal(before, after)
            assert not after.requires_grad
    assert tr.detach(None) is None
    plain = [torch.ones(1, requires_grad=True), (torch.ones(2, requires_grad=True),)]
    cut = tr.detach(plain)
    assert isinstance(cut, list)
    assert isinstance(cut[1], tuple)
    assert not cut[0].requires_grad
    assert not tr.detach(plain[0]).requires_grad
    with pytest.raises(TypeError, match="made of tensors in tuples, got dict"):
        tr.detach({"h": plain[0]})


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [tensor for part in state for tensor in tensors(part)]
