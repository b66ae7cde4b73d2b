"""Padded rows give the numbers, and the gradients, of each row alone.

Legend: B batch, T time, E embedding size.
"""

import pytest
import torch
from torch import Tensor

import treering as tr
from hf.making import model, padded, tokens
from treering.hf import TreeringModel
from treering.hf.padding import read_mask

T = 17
LENGTHS = (1, 2, 3, 8, 17)
SIDES = {
    "right": [0] * len(LENGTHS),
    "left": [T - length for length in LENGTHS],
    "mixed": [0, 15, 7, 4, 0],
}


def rows() -> list[Tensor]:
    return [tokens(1, length, seed=length)[0] for length in LENGTHS]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", tr.layers.names())
def test_outputs_state_and_last(name: str, side: str) -> None:
    net = model(TreeringModel, name)
    batch, mask = padded(rows(), SIDES[side], T)
    whole = net(batch, mask)
    last = net(batch, mask, last_only=True).pooler_output
    assert bool((whole.last_hidden_state[mask == 0] == 0).all())
    for b, row in enumerate(rows()):
        alone = net(row.unsqueeze(0))
        here = whole.last_hidden_state[b, mask[b] == 1]
        torch.testing.assert_close(here, alone.last_hidden_state[0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(last[b], here[-1], rtol=1e-10, atol=1e-12)
        further = tokens(1, 3, seed=99)
        one = net(further, cache_params=alone.cache_params).last_hidden_state
        selected = whole.cache_params.select(torch.tensor([b]))
        other = net(further, cache_params=selected).last_hidden_state
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", tr.layers.names())
def test_both_directions(name: str, side: str) -> None:
    net = model(TreeringModel, name, bidirectional=True)
    batch, mask = padded(rows(), SIDES[side], T)
    whole = net(batch, mask)
    assert whole.cache_params is None
    last = net(batch, mask, last_only=True).pooler_output
    for b, row in enumerate(rows()):
        alone = net(row.unsqueeze(0)).last_hidden_state[0]
        here = whole.last_hidden_state[b, mask[b] == 1]
        torch.testing.assert_close(here, alone, rtol=1e-10, atol=1e-12)
        H = alone.shape[-1] // 2
        both = torch.cat((alone[-1, :H], alone[0, H:]))
        torch.testing.assert_close(last[b], both, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", tr.layers.names())
def test_padding_is_never_read_and_gradients_stay_with_their_tokens(name: str) -> None:
    net = model(TreeringModel, name)
    batch, mask = padded(rows(), SIDES["mixed"], T)
    embedded = net.embed_tokens(batch).detach()
    poisoned = embedded.masked_fill(mask.unsqueeze(-1) == 0, float("nan")).requires_grad_()
    net(inputs_embeds=poisoned, attention_mask=mask).last_hidden_state.sin().sum().backward()
    assert poisoned.grad is not None
    assert bool((poisoned.grad[mask == 0] == 0).all())
    for b in range(len(LENGTHS)):
        alone = embedded[b : b + 1, mask[b] == 1].clone().requires_grad_()
        net(inputs_embeds=alone).last_hidden_state.sin().sum().backward()
        assert alone.grad is not None
        here = poisoned.grad[b, mask[b] == 1]
        torch.testing.assert_close(here, alone.grad[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", tr.layers.names())
def test_position_zero_starts_anew(name: str) -> None:
    """What a flattening collator makes of several texts, also behind padding."""
    net = model(TreeringModel, name)
    batch = tokens(2, 9)
    positions = torch.tensor([[0, 1, 2, 3, 0, 0, 1, 2, 3], [7, 7, 0, 1, 2, 3, 4, 5, 6]])
    mask = torch.tensor([[1] * 9, [0, 0] + [1] * 7])
    y = net(batch, mask, position_ids=positions).last_hidden_state
    pieces = [net(piece).last_hidden_state for piece in batch[:1].split([4, 1, 4], dim=1)]
    torch.testing.assert_close(y[:1], torch.cat(pieces, 1), rtol=1e-10, atol=1e-12)
    alone = net(batch[1:, 2:]).last_hidden_state
    torch.testing.assert_close(y[1:, 2:], alone, rtol=1e-10, atol=1e-12)
    shared = net(batch[:1].expand(2, 9), position_ids=positions[:1]).last_hidden_state
    torch.testing.assert_close(shared[1:], y[:1], rtol=1e-10, atol=1e-12)


def test_what_a_mask_says() -> None:
    assert read_mask(None, 2, 3) is None
    assert read_mask(torch.ones(2, 3), 2, 3) is None
    assert read_mask(torch.tensor([[0, 1, 1]]), 1, 2, seen=1) is None
    for dtype in (torch.bool, torch.int64, torch.float32):
        mask = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 1, 0]]).to(dtype)
        stretch = read_mask(mask, 3, 3)
        assert stretch is not None
        assert stretch.start.tolist() == [1, 0, 1]
        assert stretch.lengths.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.tensor([[1, 1, 1], [1, 0, 1]]), "hole in row 1"),
        (torch.tensor([[0, 1, 0], [0, 0, 0]]), "no token in row 1"),
        (torch.ones(2, 4), r"must be \(batch, time\) = \(2, 3\), got \(2, 4\)"),
        (torch.ones(3), r"got \(3,\)"),
        (torch.ones(2, 1, 3, 3), r"got \(2, 1, 3, 3\)"),
        ([[1, 1, 1], [1, 1, 1]], "got list"),
    ],
)
def test_masks_that_cannot_be(mask: Tensor, message: str) -> None:
    net = model(TreeringModel, "lstm")
    with pytest.raises(ValueError, match=message):
        net(tokens(2, 3), mask)


def test_forgotten_masks_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model(TreeringModel, "lstm")
    asked: list[bool] = []
    monkeypatch.setattr(
        TreeringModel,
        "warn_if_padding_and_no_attention_mask",
        lambda self, ids, mask: asked.append(mask is None),
    )
    net(tokens(2, 3))
    assert asked == [True]
