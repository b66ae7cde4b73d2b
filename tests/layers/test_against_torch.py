"""tr.LSTM, tr.GRU and tr.RNN against torch.nn's own modules with the same state_dict.

To 1e-12 in float64 and 1e-6 in float32: outputs, final states and all gradients.
Legend: T time, B batch, L layers, D directions.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import treering as tr
from treering.layers import Recurrent

KINDS: dict[str, tuple[Any, type[Recurrent], dict[str, Any]]] = {
    "lstm": (nn.LSTM, tr.LSTM, {}),
    "gru": (nn.GRU, tr.GRU, {}),
    "rnn-tanh": (nn.RNN, tr.RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (nn.RNN, tr.RNN, {"nonlinearity": "relu"}),
    "lstm-projected": (nn.LSTM, tr.LSTM, {"proj_size": 4}),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
T, B = 9, 4
LENGTHS = torch.tensor([4, 9, 1, 9])
INPUT, HIDDEN = 5, 6

pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN"  # nn.LSTM's own
)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


@pytest.fixture(params=["auto", "reference"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with tr.use_kernels(request.param):
        yield request.param


def both(kind: str, dtype: torch.dtype, **options: Any) -> tuple[nn.RNNBase, Recurrent]:
    theirs_type, ours_type, more = KINDS[kind]
    theirs = theirs_type(INPUT, HIDDEN, dtype=dtype, **options, **more)
    ours = ours_type(INPUT, HIDDEN, dtype=dtype, **options, **more)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [t for part in value for t in tensors(part)]


def compare(
    theirs: nn.RNNBase, ours: Recurrent, x: Tensor, state: Any, lengths: Tensor | None = None
) -> None:
    """Outputs, final states and gradients from random cotangents; packed if there are lengths."""
    found = []
    for module in (theirs, ours):
        given = x.clone().requires_grad_()
        start = None if state is None else [s.clone().requires_grad_() for s in state]
        batch: Any = given
        if lengths is not None:
            batch = pack_padded_sequence(
                given, lengths, batch_first=module.batch_first, enforce_sorted=False
            )
        single = module is theirs and not isinstance(theirs, nn.LSTM)
        y, last = module(batch, start[0] if start and single else start)
        heads = tensors(y) + tensors(last)
        generator = torch.Generator().manual_seed(1)
        # As from a mean over tokens: gradients of order one, whose digits can be counted.
        weights = [
            torch.randn(h.shape, generator=generator, dtype=h.dtype) / (T * B) for h in heads
        ]
        into = [given, *(start or []), *module.parameters()]
        found.append([*heads, *torch.autograd.grad(heads, into, weights)])
        if isinstance(y, PackedSequence):
            found[-1] += [y.batch_sizes, y.sorted_indices, y.unsorted_indices]
    tolerance = TOLERANCE[x.dtype]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)


def initial(ours: Recurrent, batch: int | None, dtype: torch.dtype) -> list[Tensor]:
    count = ours.num_layers * ours.num_directions
    widths = [ours.proj_size or HIDDEN, HIDDEN] if isinstance(ours, tr.LSTM) else [HIDDEN]
    leading = (count,) if batch is None else (count, batch)
    return [torch.randn(*leading, width, dtype=dtype) for width in widths]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
@pytest.mark.parametrize("num_layers", [1, 2])
@every_dtype
@every_kind
class TestNumbers:
    def test_padded(self, kind: str, dtype: torch.dtype, num_layers: int, bidirectional: bool):
        theirs, ours = both(kind, dtype, num_layers=num_layers, bidirectional=bidirectional)
        x = torch.randn(T, B, INPUT, dtype=dtype)
        compare(theirs, ours, x, None)
        compare(theirs, ours, x, initial(ours, B, dtype))

    def test_packed(self, kind: str, dtype: torch.dtype, num_layers: int, bidirectional: bool):
        theirs, ours = both(kind, dtype, num_layers=num_layers, bidirectional=bidirectional)
        x = torch.randn(T, B, INPUT, dtype=dtype)
        compare(theirs, ours, x, None, LENGTHS)
        compare(theirs, ours, x, initial(ours, B, dtype), LENGTHS)

    def test_batch_first(self, kind: str, dtype: torch.dtype, num_layers: int, bidirectional: bool):
        options = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": True}
        theirs, ours = both(kind, dtype, **options)
        x = torch.randn(B, T, INPUT, dtype=dtype)
        compare(theirs, ours, x, initial(ours, B, dtype))
        compare(theirs, ours, x, initial(ours, B, dtype), LENGTHS)

    def test_unbatched(self, kind: str, dtype: torch.dtype, num_layers: int, bidirectional: bool):
        theirs, ours = both(kind, dtype, num_layers=num_layers, bidirectional=bidirectional)
        x = torch.randn(T, INPUT, dtype=dtype)
        compare(theirs, ours, x, None)
        compare(theirs, ours, x, initial(ours, None, dtype))

    def test_without_bias(
        self, kind: str, dtype: torch.dtype, num_layers: int, bidirectional: bool
    ):
        options = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": False}
        theirs, ours = both(kind, dtype, **options)
        compare(theirs, ours, torch.randn(T, B, INPUT, dtype=dtype), initial(ours, B, dtype))


@every_kind
def test_the_same_seed_draws_the_same_parameters(kind: str):
    theirs_type, ours_type, more = KINDS[kind]
    states = []
    for module in (theirs_type, ours_type):
        torch.manual_seed(3)
        states.append(module(INPUT, HIDDEN, 2, bidirectional=True, **more).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@every_kind
def test_state_dicts_go_both_ways(kind: str):
    theirs, ours = both(kind, torch.float32, num_layers=2, bidirectional=True)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(T, B, INPUT)
    torch.testing.assert_close(theirs(x)[0], ours(x)[0], rtol=1e-6, atol=1e-6)


@every_kind
def test_dropout_between_layers_uses_the_same_scale(kind: str):
    """Masks differ, the distribution does not: all or nothing agree exactly."""
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        both(kind, torch.float64, dropout=0.5)
    theirs, ours = both(kind, torch.float64, num_layers=2, dropout=1.0)
    x = torch.randn(T, B, INPUT, dtype=torch.float64)
    torch.testing.assert_close(ours.train()(x)[0], theirs.train()(x)[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(x)[0], theirs.eval()(x)[0], rtol=1e-12, atol=1e-12)


class TestFromTorch:
    @every_kind
    @every_dtype
    def test_copies_everything(self, kind: str, dtype: torch.dtype):
        theirs_type, ours_type, more = KINDS[kind]
        options = {"num_layers": 2, "batch_first": True, "dropout": 0.25, "bidirectional": True}
        theirs = theirs_type(INPUT, HIDDEN, dtype=dtype, **options, **more).eval()
        ours = ours_type.from_torch(theirs)
        assert not ours.training
        assert {name: getattr(ours, name) for name in options} == options
        x = torch.randn(B, T, INPUT, dtype=dtype)
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=tolerance, atol=tolerance)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.zero_()
        assert all(parameter.any() for parameter in ours.parameters())

    def test_without_bias(self):
        theirs = nn.GRU(INPUT, HIDDEN, bias=False)
        x = torch.randn(T, B, INPUT)
        torch.testing.assert_close(tr.GRU.from_torch(theirs)(x)[0], theirs(x)[0])

    def test_another_module(self):
        with pytest.raises(TypeError, match=r"LSTM\.from_torch takes a torch\.nn\.LSTM, got GRU"):
            tr.LSTM.from_torch(nn.GRU(2, 3))

    def test_no_counterpart(self):
        with pytest.raises(TypeError, match=r"PRLSTM\.from_torch takes no module of torch\.nn"):
            tr.PRLSTM.from_torch(nn.LSTM(2, 3))

    def test_projections(self):
        theirs = nn.LSTM(4, 3, 2, bidirectional=True, proj_size=2)
        ours = tr.LSTM.from_torch(theirs)
        assert repr(ours) == repr(theirs)
        assert ours.output_size == 4
        x = torch.randn(5, 3, 4)
        (y, state), (expected, their_state) = ours(x), theirs(x)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(tuple(state), their_state)
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            tr.GRU(4, 3, proj_size=2)
