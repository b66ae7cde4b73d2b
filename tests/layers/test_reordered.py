"""Reordered: tokens read in another order, answers back at their places.

Legend: T time, B batch.
"""

from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import treering as tr
from treering._errors import UserError
from treering.layers import Recurrent
from treering.schedules.orders import tree_order

every_layer = pytest.mark.parametrize("name", tr.layers.names())
T, B = 7, 4
LENGTHS = torch.tensor([3, 7, 1, 6])


def build(name: str, **options: Any) -> tuple[Recurrent, tr.Reordered]:
    layer = tr.layers.get(name)(2, 3, dtype=torch.float64, **options)
    return layer, tr.Reordered(layer)


def x_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_gather_before_and_after(name: str, bidirectional: bool):
    layer, reordered = build(name, bidirectional=bidirectional, num_layers=2)
    x = x_of(T, B, 2)
    order = tree_order(T)
    y, state = layer(x[order])
    expected = torch.empty_like(y)
    expected[order] = y
    made, made_state = reordered(x)
    assert torch.equal(made, expected)
    assert str(made_state) == str(state)
    assert torch.equal(reordered.reduce(x), layer.reduce(x[order]))
    _, start = layer(x_of(3, B, 2))
    made, _ = reordered(x, start)
    assert torch.equal(made[order], layer(x[order], start)[0])


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_sequence_by_its_own_length(name: str, bidirectional: bool):
    _, reordered = build(name, bidirectional=bidirectional)
    x = x_of(T, B, 2)
    past = torch.arange(T).unsqueeze(1) >= LENGTHS
    poisoned = x.masked_fill(past.unsqueeze(-1), torch.nan).requires_grad_()
    y, _ = reordered(poisoned, lengths=LENGTHS)
    last = reordered.reduce(poisoned, LENGTHS)
    assert not y[past].any()
    for b, n in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(y[:n, b], reordered(x[:n, b])[0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(last[b], reordered.reduce(x[:n, b]), rtol=1e-12, atol=1e-13)
    (gradient,) = torch.autograd.grad(y.sum(), poisoned)
    assert gradient.isfinite().all()
    assert not gradient[past].any()


@every_layer
def test_batch_first_and_unbatched(name: str):
    layer, reordered = build(name)
    turned = tr.Reordered(tr.layers.get(name)(2, 3, dtype=torch.float64, batch_first=True))
    turned.layer.load_state_dict(layer.state_dict())
    x = x_of(T, B, 2)
    y, _ = reordered(x, lengths=LENGTHS)
    torch.testing.assert_close(turned(x.transpose(0, 1), lengths=LENGTHS)[0].transpose(0, 1), y)
    for module in (reordered, turned):
        torch.testing.assert_close(module(x[:, 1])[0], reordered(x[:, 1:2])[0].squeeze(1))
        torch.testing.assert_close(
            module(x[:, 1], lengths=torch.tensor([4]))[0][:4], reordered(x[:4, 1])[0]
        )


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed(name: str, batch_first: bool):
    _, reordered = build(name, batch_first=batch_first, bidirectional=True)
    x = x_of(B, T, 2) if batch_first else x_of(T, B, 2)
    expected, state = reordered(x, lengths=LENGTHS)
    packed = pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
    y, packed_state = reordered(packed)
    assert isinstance(y, PackedSequence)
    assert y.sorted_indices is packed.sorted_indices
    unpacked, lengths = pad_packed_sequence(y, batch_first)
    assert torch.equal(lengths, LENGTHS)
    torch.testing.assert_close(unpacked, expected)
    assert str(packed_state) == str(state)
    torch.testing.assert_close(reordered.reduce(packed), reordered.reduce(x, LENGTHS))


def test_packed_with_the_users_own_order_among_equals():
    _, reordered = build("lstm")
    rows = [x_of(n, 2) for n in (4, 4, 2)]
    order = torch.tensor([1, 0, 2])
    given = pack_sequence([rows[1], rows[0], rows[2]])
    packed = PackedSequence(given.data, given.batch_sizes, order, order)
    outputs, _ = pad_packed_sequence(reordered(packed)[0])
    for b, row in enumerate(rows):
        torch.testing.assert_close(outputs[: len(row), b], reordered(row)[0])


def test_packed_and_already_sorted_with_many_ties():
    _, reordered = build("gru")
    x, lengths = x_of(5, 40, 2), torch.tensor([5] * 20 + [3] * 20)
    packed = pack_padded_sequence(x, lengths)
    outputs, _ = pad_packed_sequence(reordered(packed)[0])
    torch.testing.assert_close(outputs, reordered(x, lengths=lengths)[0])


def test_the_output_at_the_centre_has_seen_the_centre_only():
    _, reordered = build("lstm")
    x = x_of(T, 1, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(reordered(x)[0][3].sum(), x)
    assert gradient.flatten(1).any(1).tolist() == [False, False, False, True, False, False, False]


@every_layer
def test_an_empty_batch(name: str):
    _, reordered = build(name)
    assert reordered(x_of(5, 0, 2))[0].shape == (5, 0, 3)


def test_mistakes():
    _, reordered = build("lstm")
    with pytest.raises(UserError, match="a layer in tree order cannot step: it reads the centre"):
        reordered.step(x_of(B, 2))
    reset = torch.zeros(T, B, dtype=torch.bool)
    for call in (reordered, reordered.reduce):
        with pytest.raises(UserError, match="reset cannot be used in tree order"):
            call(x_of(T, B, 2), reset=reset)
    with pytest.raises(UserError, match="unknown order 'three'; did you mean 'tree'"):
        tr.Reordered(tr.LSTM(2, 3), order="three")
    with pytest.raises(ValueError, match="LSTM: Expected input to be 2D or 3D, got 4D instead"):
        reordered(x_of(1, T, B, 2))
    with pytest.raises(ValueError, match="sequence length to be larger than 0"):
        reordered(x_of(0, B, 2))
    with pytest.raises(UserError, match="lengths has an element 9"):
        reordered(x_of(T, B, 2), lengths=torch.tensor([9, 1, 1, 1]))
    packed = pack_padded_sequence(x_of(T, B, 2), LENGTHS, enforce_sorted=False)
    for call in (reordered.reduce, lambda p, n: reordered(p, lengths=n)):
        with pytest.raises(UserError, match="a PackedSequence carries its lengths"):
            call(packed, LENGTHS)


def test_parameters_are_the_layers():
    layer, reordered = build("lstm")
    assert [id(p) for p in reordered.parameters()] == [id(p) for p in layer.parameters()]
    assert reordered.output_size == 3
