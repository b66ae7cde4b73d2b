"""Whole sequence = token by token = cut anywhere and carried on = padded = packed.

Outputs, final states and all gradients, in float64, for every layer.
Legend: T time, B batch, I input.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

from treering._types import map_tensors
from treering.layers import Recurrent

from .cases import CASES, CASES_IN_TIME, REGISTERED, Case
from .observe import (
    assert_same,
    by_steps,
    cut,
    draw,
    met_before,
    observe,
    slots,
    whole,
    widened,
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_case_and_time = pytest.mark.parametrize(("case", "T"), CASES_IN_TIME)
B = 3


@every_case_and_time
def test_whole_sequence_is_token_by_token(case: Case, T: int):
    layer = case.build()
    x = draw(T, B, 2)
    assert_same(observe(layer, x, None, whole), observe(layer, x, None, by_steps))


@pytest.mark.parametrize("T", [1, 8])
@pytest.mark.parametrize("ragged", [False, True], ids=["together", "apart"])
@every_case
def test_token_by_token_from_a_state(case: Case, T: int, ragged: bool):
    layer = case.build()
    state, x = met_before(layer, B, ragged=ragged), draw(T, B, 2)
    assert_same(observe(layer, x, state, whole), observe(layer, x, state, by_steps))


@every_case_and_time
def test_cut_anywhere_and_carried_on(case: Case, T: int):
    layer = case.build()
    x = draw(T, B, 2)
    places = list(range(1, T))
    if len(places) > (8 if case.options else 17):
        places = [1, T // 2, T - 1]
    reference = observe(layer, x, None, whole)
    for place in places:
        assert_same(reference, observe(layer, x, None, cut(place)))
    if T > 3:
        assert_same(reference, observe(layer, x, None, cut(1, T // 2, T // 2 + 1, T - 1)))


@pytest.mark.parametrize("T", [2, 17])
@every_case
def test_cut_anywhere_from_a_ragged_state(case: Case, T: int):
    layer = case.build()
    state, x = met_before(layer, B, ragged=True), draw(T, B, 2)
    assert_same(observe(layer, x, state, whole), observe(layer, x, state, cut(T // 2)))


def uneven(T: int) -> Tensor:
    """Four lengths out of 1..T, neither sorted nor all different."""
    return torch.tensor([max(1, T // 2), T, 1, max(1, T - 1)])


def padded_call(lengths: Tensor) -> Any:
    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        poison = torch.arange(len(x)).unsqueeze(1) >= lengths
        return layer(x.masked_fill(poison.unsqueeze(-1), torch.nan), state, lengths=lengths)

    return call


def alone_call(lengths: Tensor) -> Any:
    """Every sequence by itself, without padding, put together afterwards."""

    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, finals = torch.zeros(*x.shape[:2], layer.output_size, dtype=x.dtype), []
        columns = []
        for b, n in enumerate(lengths.tolist()):
            own = None
            if state is not None:
                own = map_tensors(lambda s, b=b: s[:, b : b + 1], state)
            y, last = layer(x[:n, b : b + 1], own)
            columns.append(torch.cat((y, outputs[n:, b : b + 1])))
            finals.append(last)
        width = max(slots(last) for last in finals)
        finals = [widened(last, width) for last in finals]
        return torch.cat(columns, 1), map_tensors(lambda *parts: torch.cat(parts, 1), *finals)

    return call


@every_case_and_time
def test_lengths_are_sequences_alone(case: Case, T: int):
    layer = case.build()
    lengths, x = uneven(T), draw(T, 4, 2)
    padded = observe(layer, x, None, padded_call(lengths))
    past = torch.arange(T).unsqueeze(1) >= lengths
    assert not padded["outputs"][past].any()
    assert not padded["gradient of x"][past].any()
    assert_same(padded, observe(layer, x, None, alone_call(lengths)))


@pytest.mark.parametrize("T", [1, 3, 17])
@every_case
def test_lengths_from_a_ragged_state(case: Case, T: int):
    layer = case.build()
    lengths, x, state = uneven(T), draw(T, 4, 2), met_before(layer, 4, ragged=True)
    padded = observe(layer, x, state, padded_call(lengths))
    assert_same(padded, observe(layer, x, state, alone_call(lengths)))


def packed_call(lengths: Tensor, *, enforce_sorted: bool) -> Any:
    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
        y, last = layer(packed, state)
        assert isinstance(y, PackedSequence)
        assert torch.equal(y.batch_sizes, packed.batch_sizes)
        for got, given in zip(y[2:], packed[2:], strict=True):
            if given is None:
                assert got is None
            else:
                torch.testing.assert_close(got, given, rtol=0, atol=0)
        return pad_packed_sequence(y, total_length=len(x))[0], last

    return call


@every_case_and_time
def test_packed_is_padded_with_lengths(case: Case, T: int):
    layer = case.build()
    lengths, x, state = uneven(T), draw(T, 4, 2), met_before(layer, 4, ragged=True)
    padded = observe(layer, x, state, padded_call(lengths))
    assert_same(padded, observe(layer, x, state, packed_call(lengths, enforce_sorted=False)))
    lengths = lengths.sort(descending=True).values
    padded = observe(layer, x, state, padded_call(lengths))
    assert_same(padded, observe(layer, x, state, packed_call(lengths, enforce_sorted=True)))


@every_case
def test_packed_with_the_users_own_order_among_equals(case: Case):
    layer = case.build()
    rows = [draw(n, 2, seed=n) for n in (4, 4, 2)]
    packed = pack_sequence([rows[1], rows[0], rows[2]])
    order = torch.tensor([1, 0, 2])
    packed = PackedSequence(packed.data, packed.batch_sizes, order, order)
    y, _ = layer(packed)
    assert y.sorted_indices is order
    outputs, _ = pad_packed_sequence(y)
    for b, row in enumerate(rows):
        torch.testing.assert_close(outputs[: len(row), b], layer(row)[0], rtol=1e-12, atol=1e-13)


def pieces_call(reset: Tensor, lengths: Tensor | None) -> Any:
    """Every sequence by itself and cut at its resets; the state goes into the first piece only."""

    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        columns, finals = [], []
        for b in range(x.shape[1]):
            n = len(x) if lengths is None else int(lengths[b])
            starts = [t for t in range(1, n) if reset[t, b]]
            outputs, last = [], None
            for begin, end in zip((0, *starts), (*starts, n), strict=True):
                own = None
                if begin == 0 and state is not None and not reset[0, b]:
                    own = map_tensors(lambda s, b=b: s[:, b : b + 1], state)
                y, last = layer(x[begin:end, b : b + 1], own)
                outputs.append(y)
            empty = torch.zeros(len(x) - n, 1, layer.output_size, dtype=x.dtype)
            columns.append(torch.cat((*outputs, empty)))
            finals.append(last)
        width = max(SLOTS, *(slots(last) for last in finals))
        finals = [widened(last, width) for last in finals]
        return torch.cat(columns, 1), map_tensors(lambda *parts: torch.cat(parts, 1), *finals)

    return call


SLOTS = 12


def reset_call(reset: Tensor, lengths: Tensor | None) -> Any:
    def call(layer: Recurrent, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, last = layer(x, state, lengths=lengths, reset=reset)
        return y, widened(last, SLOTS)

    return call


RESETS = {
    "nowhere": torch.zeros(9, 3),
    "everywhere": torch.ones(9, 3),
    "at the first token": torch.eye(9)[:, :1].expand(9, 3),
    "here and there": torch.rand(9, 3, generator=torch.Generator().manual_seed(5)) < 0.25,
}


@pytest.mark.parametrize(
    ("case", "padded", "places"),
    [(case, padded, name) for case in REGISTERED for padded in (False, True) for name in RESETS]
    + [(case, True, "here and there") for case in CASES if case.options],
    ids=str,
)
def test_reset_is_pieces_run_separately(case: Case, padded: bool, places: str):
    layer, reset = case.build(), RESETS[places].bool()
    x, lengths = draw(9, 3, 2), torch.tensor([4, 9, 1]) if padded else None
    for state in (None, met_before(layer, 3, ragged=True)):
        assert_same(
            observe(layer, x, state, reset_call(reset, lengths)),
            observe(layer, x, state, pieces_call(reset, lengths)),
        )


@every_case
def test_after_a_reset_token_by_token(case: Case):
    """The state that a call with resets returns goes on like any other."""
    layer, x = case.build(), draw(17, 3, 2)
    _, last = layer(x[:9], reset=RESETS["here and there"])
    assert_same(observe(layer, x[9:], last, whole), observe(layer, x[9:], last, by_steps))


@pytest.mark.parametrize("T", [1, 8, 17])
@every_case
def test_reduce_is_the_last_output(case: Case, T: int):
    layer = case.build()
    x, lengths, state = draw(T, 4, 2), uneven(T), met_before(layer, 4, ragged=True)
    for given in (None, lengths):
        ends = (torch.full((4,), T) if given is None else given) - 1

        def last_of_all(
            layer: Recurrent, x: Tensor, state: Any, given: Any = given, ends: Any = ends
        ) -> Any:
            return layer(x, state, lengths=given)[0][ends, torch.arange(4)], ()

        def reduced(layer: Recurrent, x: Tensor, state: Any, given: Any = given) -> Any:
            return layer.reduce(x, given, state), ()

        assert_same(observe(layer, x, state, last_of_all), observe(layer, x, state, reduced))
        assert_same(observe(layer, x, None, last_of_all), observe(layer, x, None, reduced))
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    torch.testing.assert_close(layer.reduce(packed), layer.reduce(x, lengths))
