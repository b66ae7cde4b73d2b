"""Gates: forced ones, and every share counted by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import treering as tr
from treering.inspect.gates import CANDIDATES, gates
from treering.inspect.record import BINS
from treering.inspect.subject import NotAvailableError
from treering.tasks import Batch, RaggedBatch

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("bias", "shares", "closed", "opened"), [(9, (19, 1), 0, 1), (-9, (0, 1), 1, 0)]
)
def test_a_forced_gate(
    bias: float,
    shares: tuple[int, int],
    closed: float,
    opened: float,
    model_of: Make,
    symbols: Batch,
) -> None:
    model = model_of("transducer", "lstm")
    with torch.no_grad():
        for name, parameter in model.layer.named_parameters():
            parameter.zero_()
            if name == "bias_ih_l0":
                parameter[6:12] = bias  # f, the second of i, f, g, o
    found = {one.name: one for one in gates(model, symbols)}
    f = found["f"]
    value = torch.tensor(float(bias)).sigmoid().item()
    assert f.mean == pytest.approx(value, rel=1e-3)
    assert (f.closed, f.opened, f.outside) == (closed, opened, 0)
    assert f.shares == tuple(float(k == shares[0]) for k in range(BINS))
    assert f.by_position == pytest.approx([value] * 8, rel=1e-3)
    # The others stand in the middle, on the edge of two bins.
    assert found["i"].mean == found["o"].mean == 0.5
    assert found["g"].range == (-1, 1)
    assert (found["g"].mean, found["g"].closed, found["g"].opened) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "order"),
    [(n, n in ("gru", "ql-lstm")) for n in tr.layers.names() if not n.startswith("pr-")],
)
def test_every_share_is_counted_over_tokens_that_are_no_padding(
    name: str, order: bool, model_of: Make, texts: RaggedBatch
) -> None:
    model = model_of("classifier", name, order, num_layers=2, bidirectional=True)
    found = gates(model, texts)
    x = model.embedding(texts.inputs)
    recurrent = model.layer
    if order:
        x, recurrent = model.layer.reorder(x, texts.lengths)[0], model.layer.layer
    _, _, inner = recurrent(x, lengths=texts.lengths, return_states=True)
    names = list(inner.gates)
    assert [one.name for one in found] == names * 4
    assert [one.layer for one in found[:: len(names)]] == [
        "layer 1 forward", "layer 1 backward", "layer 2 forward", "layer 2 backward",
    ]  # fmt: skip
    for number, one in enumerate(found):
        field = inner.gates[one.name][number // len(names)]
        low, high = (-1, 1) if one.name in CANDIDATES else (0, 1)
        values: list[float] = []
        by_position: list[list[float]] = [[] for _ in range(7)]
        for row, length in enumerate(texts.lengths.tolist()):
            for t in range(length):
                values += field[row, t].tolist()
                by_position[t] += field[row, t].tolist()
        total = len(values)
        counts = [0] * BINS
        for value in values:
            if low <= value <= high:
                counts[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
        assert one.range == (low, high)
        assert one.shares == pytest.approx([count / total for count in counts], rel=1e-3)
        assert one.outside == pytest.approx(1 - sum(counts) / total, abs=1e-4)
        assert one.mean == pytest.approx(sum(values) / total, rel=1e-3)
        assert one.closed == pytest.approx(sum(v < low + 0.05 for v in values) / total, rel=1e-3)
        assert one.opened == pytest.approx(sum(v > high - 0.05 for v in values) / total, rel=1e-3)
        means = [sum(part) / len(part) for part in by_position]
        assert one.at == tuple(range(7))
        assert one.by_position == pytest.approx(means, rel=1e-3, abs=1e-6)


def test_a_merge_shows_none_and_says_why(model_of: Make, symbols: Batch) -> None:
    with pytest.raises(NotAvailableError, match=r"PRLSTM shows no gates.*bracket"):
        gates(model_of("transducer", "pr-lstm"), symbols)
