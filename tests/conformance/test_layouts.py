"""batch_first, unbatched, two directions, several layers, dropout: what surrounds a cell.

Legend: T time, B batch, O output.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from treering._types import map_tensors
from treering.layers import Recurrent

from .cases import CASES, REGISTERED, Case
from .observe import assert_same, by_steps, cut, draw, flat, met_before, observe, whole
from .test_time import alone_call, padded_call

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_layer = pytest.mark.parametrize("case", REGISTERED, ids=str)
T, B = 7, 4
LENGTHS = torch.tensor([3, 7, 1, 6])


def twin(layer: Recurrent, case: Case, **options: Any) -> Recurrent:
    """The same parameters in another layout."""
    other = case.build(layer.input_size, layer.hidden_size, **options)
    other.load_state_dict(layer.state_dict())
    return other


def same_state(one: Any, other: Any) -> None:
    for a, b in zip(flat(one), flat(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@every_case
def test_batch_first(case: Case):
    layer = case.build(num_layers=2)
    turned = twin(layer, case, num_layers=2, batch_first=True)
    x, state = draw(T, B, 2), met_before(layer, B, ragged=True)
    reset = torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.3

    def call(_: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, last = turned(x.transpose(0, 1), state, LENGTHS, reset.t())
        return y.transpose(0, 1), last

    y, last = layer(x, state, LENGTHS, reset)
    y_turned, last_turned = call(turned, x, state)
    torch.testing.assert_close(y_turned, y)
    same_state(last_turned, last)
    torch.testing.assert_close(turned.reduce(x.transpose(0, 1), LENGTHS), layer.reduce(x, LENGTHS))
    y_t, after = turned.step(x[0], state)
    torch.testing.assert_close(y_t, layer.step(x[0], state)[0])
    same_state(after, layer.step(x[0], state)[1])
    packed = pack_padded_sequence(
        x.transpose(0, 1), LENGTHS, batch_first=True, enforce_sorted=False
    )
    y, last = layer(x, None, LENGTHS)
    y_packed, last_packed = turned(packed)
    torch.testing.assert_close(pad_packed_sequence(y_packed)[0], y)
    same_state(last_packed, last)
    torch.testing.assert_close(turned.reduce(packed), layer.reduce(x, LENGTHS))


@every_case
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(case: Case, batch_first: bool):
    layer = case.build()
    plain = twin(layer, case, batch_first=batch_first)
    x, state = draw(T, 1, 2), met_before(layer, 1, ragged=False)
    reset = torch.tensor([False, False, True, False, False, False, False])
    single = map_tensors(lambda s: s.squeeze(1), state)

    y, last = layer(x, state, reset=reset.unsqueeze(1))
    y_plain, last_plain = plain(x.squeeze(1), single, reset=reset)
    torch.testing.assert_close(y_plain, y.squeeze(1))
    same_state(last_plain, map_tensors(lambda s: s.squeeze(1), last))

    y, last = layer.step(x[0], state)
    y_plain, last_plain = plain.step(x[0, 0], single)
    torch.testing.assert_close(y_plain, y.squeeze(0))
    same_state(last_plain, map_tensors(lambda s: s.squeeze(1), last))
    torch.testing.assert_close(plain.reduce(x.squeeze(1)), layer.reduce(x).squeeze(0))
    torch.testing.assert_close(
        plain(x.squeeze(1), lengths=torch.tensor([4]))[0],
        layer(x, lengths=torch.tensor([4]))[0].squeeze(1),
    )


def one_direction(layer: Recurrent, case: Case, level: int, suffix: str) -> Recurrent:
    """Level and direction of `layer` as a layer of its own."""
    width = layer.input_size if level == 0 else layer.output_size
    single = case.build(width, layer.hidden_size)
    single.load_state_dict(
        {
            name: layer.get_parameter(f"{name.removesuffix('_l0')}_l{level}{suffix}")
            for name in single.state_dict()
        }
    )
    return single


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    columns = []
    for b, n in enumerate(lengths.tolist()):
        columns.append(torch.cat((x[:n, b].flip(0), x[n:, b])))
    return torch.stack(columns, 1)


@pytest.mark.parametrize(
    ("case", "padded"),
    [(case, False) for case in REGISTERED] + [(case, True) for case in CASES],
    ids=str,
)
def test_layers_and_directions_are_single_ones_put_together(case: Case, padded: bool):
    layer = case.build(num_layers=2, bidirectional=True)
    state = met_before(layer, B, ragged=True)
    lengths = LENGTHS if padded else torch.full((B,), T)

    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return layer(x, state, lengths if padded else None)

    def by_hand(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        finals = []
        for level in range(2):
            sides = []
            for direction, suffix in enumerate(("", "_reverse")):
                single = one_direction(layer, case, level, suffix)
                k = 2 * level + direction
                own = map_tensors(lambda s, k=k: s[k : k + 1], state)
                names: dict[str, Tensor] = {
                    name: layer.get_parameter(f"{name.removesuffix('_l0')}_l{level}{suffix}")
                    for name, _ in single.named_parameters()
                }
                y, last = torch.func.functional_call(
                    single, names, (backwards(x, lengths) if direction else x, own, lengths)
                )
                sides.append(backwards(y, lengths) if direction else y)
                finals.append(last)
            x = torch.cat(sides, -1)
        return x, map_tensors(lambda *parts: torch.cat(parts), *finals)

    x = draw(T, B, 2)
    assert_same(observe(layer, x, state, call), observe(layer, x, state, by_hand))
    y, H = layer(x, state, lengths)[0], layer.cell.output_size
    last = layer.reduce(x, lengths, state)
    ends = torch.cat((y[lengths - 1, torch.arange(B), :H], y[0, :, H:]), 1)
    torch.testing.assert_close(last, ends, rtol=1e-12, atol=1e-13)


@every_layer
@pytest.mark.parametrize("options", [{"num_layers": 2}, {"num_layers": 3}], ids=str)
def test_deep_layers_in_time(case: Case, options: dict[str, Any]):
    layer, x = case.build(**options), draw(T, B, 2)
    reference = observe(layer, x, None, whole)
    assert_same(reference, observe(layer, x, None, by_steps))
    assert_same(reference, observe(layer, x, None, cut(3, 4)))
    assert_same(
        observe(layer, x, None, padded_call(LENGTHS)), observe(layer, x, None, alone_call(LENGTHS))
    )


@every_layer
def test_both_directions_with_lengths_are_sequences_alone(case: Case):
    layer, x = case.build(bidirectional=True, num_layers=2), draw(T, B, 2)
    assert_same(
        observe(layer, x, None, padded_call(LENGTHS)), observe(layer, x, None, alone_call(LENGTHS))
    )


@every_layer
def test_dropout_sits_between_layers_and_nowhere_else(case: Case):
    layer, x = case.build(num_layers=2, dropout=0.5), draw(T, B, 2)
    first, second = (one_direction(layer, case, level, "") for level in range(2))
    layer.train()
    torch.manual_seed(11)
    y, last = layer(x)
    middle, last_first = first(x)
    torch.manual_seed(11)
    expected, last_second = second(F.dropout(middle, 0.5))
    assert torch.equal(y, expected)
    both = map_tensors(lambda a, b: torch.cat((a, b)), last_first, last_second)
    same_state(last, both)

    layer.eval()
    assert torch.equal(layer(x)[0], second(middle)[0])
    before = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), before)


@every_case
def test_an_empty_batch_is_an_empty_answer(case: Case):
    layer = case.build(num_layers=2)
    x = torch.zeros(5, 0, 2, dtype=torch.float64)
    y, last = layer(x)
    assert y.shape == (5, 0, layer.output_size)
    assert all(s.shape[:2] == (2, 0) for s in flat(last))
    y, last = layer(x, last, torch.zeros(0, dtype=torch.int64))
    assert y.shape == (5, 0, layer.output_size)
    assert layer.step(x[0], last)[0].shape == (0, layer.output_size)
    assert layer.reduce(x).shape == (0, layer.output_size)
    assert layer(x, reset=torch.zeros(5, 0, dtype=torch.bool))[0].shape == (5, 0, layer.output_size)


@every_case
def test_inputs_need_not_be_contiguous(case: Case):
    layer, x = case.build(), draw(2 * T, B, 4)
    view = x[::2, :, ::2]
    torch.testing.assert_close(layer(view)[0], layer(view.contiguous())[0])


@every_case
def test_a_state_may_be_plain_tuples(case: Case):
    """Names are a convenience: a state that lost them on its way (to a file, say) still works."""

    def plain(state: Any) -> Any:
        return state if isinstance(state, Tensor) else tuple(plain(part) for part in state)

    layer, x = case.build(), draw(T, B, 2)
    state = met_before(layer, B, ragged=True)
    for lengths in (None, LENGTHS):
        y, last = layer(x, plain(state), lengths)
        torch.testing.assert_close(y, layer(x, state, lengths)[0])
        same_state(last, layer(x, state, lengths)[1])
        assert type(last) is type(state)
    assert torch.equal(layer.step(x[0], plain(state))[0], layer.step(x[0], state)[0])
