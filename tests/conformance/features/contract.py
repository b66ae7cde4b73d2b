"""What surrounds a cell, as nn.LSTM has it: arguments, shapes, packing, lengths, messages.

Legend: T time, B batch, I input, H hidden.
"""

import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.overrides import TorchFunctionMode

import treering as tr
from conformance import test_layouts, test_memory, test_time
from conformance.cases import Case
from conformance.features.feature import Refused, but, feature, merging, without_counterpart
from conformance.observe import draw, flat, floats
from layers import test_against_torch
from treering.layers import Recurrent

THEME = "Contract of nn.LSTM"
T, B, I, H = 5, 3, 10, 4  # noqa: E741  (the letters of the formulas)


def small(case: Case, *sizes: Any, **options: Any) -> Recurrent:
    """A float32 layer as a user builds it."""
    given: Any = sizes or (I, H)
    return tr.layers.get(case.name)(*given, **options)


@feature(THEME, "constructor: nn.LSTM's arguments in its order, with its defaults")
def constructor(case: Case) -> None:
    theirs = list(inspect.signature(nn.RNNBase.__init__).parameters.values())[2:]
    ours = inspect.signature(tr.layers.get(case.name)).parameters
    for place, parameter in enumerate(p for p in theirs if p.name != "proj_size"):
        assert ours[parameter.name].default == parameter.default
        if parameter.name not in ("device", "dtype"):
            assert list(ours)[place] == parameter.name
    positional = small(case, 3, 4, 2, True, True, 0.5, True)
    named = tr.layers.get(case.name)(
        input_size=3, hidden_size=4, num_layers=2, bias=True, batch_first=True,
        dropout=0.5, bidirectional=True, device="cpu", dtype=torch.float32,
    )  # fmt: skip
    assert repr(positional) == repr(named)
    assert positional.state_dict().keys() == named.state_dict().keys()


@feature(
    THEME,
    "`proj_size`",
    Refused(but(["lstm"]), "proj_size argument is only supported for LSTM", "as nn.GRU refuses it"),
)
def proj_size(case: Case) -> None:
    layer = case.build(4, 3, proj_size=2)
    with warnings.catch_warnings():
        # nn.LSTM's own.
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        test_against_torch.TestFromTorch().test_projections()
    y, state = layer(draw(5, 3, 4))
    assert y.shape == (5, 3, 2)
    assert state.h.shape == (1, 3, 2)
    assert state.c.shape == (1, 3, 3)
    for wrong in (-1, 3, 4):
        agree(
            lambda p=wrong: tr.LSTM(4, 3, proj_size=p),
            lambda p=wrong: nn.LSTM(4, 3, proj_size=p),
            "LSTM",
        )


@feature(THEME, "batch_first, which moves input, output and reset and not the state")
def batch_first(case: Case) -> None:
    test_layouts.test_batch_first(case)


@feature(THEME, "unbatched input (T, I)")
def unbatched(case: Case) -> None:
    test_layouts.test_unbatched(case, batch_first=False)
    test_layouts.test_unbatched(case, batch_first=True)


@feature(THEME, "layers and directions are single ones put together, h_n layer-major")
def directions(case: Case) -> None:
    test_layouts.test_layers_and_directions_are_single_ones_put_together(case, padded=True)
    layer, lengths = case.build(num_layers=2, bidirectional=True), torch.tensor([4, 5, 1])
    y, state = layer(draw(T, B, 2), lengths=lengths)
    h = state.last.h if merging(type(layer)) else state.h
    assert h.shape == (4, B, 3)
    ends = y[lengths - 1, torch.arange(B), :3]
    torch.testing.assert_close(h[-2], ends, rtol=0, atol=0)
    torch.testing.assert_close(h[-1], y[0, :, 3:], rtol=0, atol=0)


@feature(THEME, "dropout between layers and nowhere else")
def dropout(case: Case) -> None:
    test_layouts.test_dropout_sits_between_layers_and_nowhere_else(case)
    text = "dropout option adds dropout after all but last recurrent layer, so non-zero dropout"
    for build in (nn.LSTM, tr.layers.get(case.name)):
        with pytest.warns(UserWarning, match=text):
            build(2, 3, dropout=0.1)


@feature(THEME, "PackedSequence in, PackedSequence out, any order, state in the user's order")
def packed(case: Case) -> None:
    test_time.test_packed_is_padded_with_lengths(case, 17)
    test_time.test_packed_with_the_users_own_order_among_equals(case)


@feature(THEME, "`lengths` with padded input: each sequence as if alone, padding never read")
def lengths(case: Case) -> None:
    test_time.test_lengths_are_sequences_alone(case, 17)
    test_time.test_lengths_from_a_ragged_state(case, 17)
    test_layouts.test_both_directions_with_lengths_are_sequences_alone(case)


class Moves(TorchFunctionMode):
    """Records where `watched` is moved to."""

    def __init__(self, watched: Tensor) -> None:
        self.watched, self.places = watched, []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.to and args[0] is self.watched:
            self.places += [*args[1:], *(kwargs or {}).values()]
        return func(*args, **(kwargs or {}))


@feature(THEME, "`lengths` of any integer type, moved to the input's device")
def lengths_anywhere(case: Case) -> None:
    layer, x = case.build(), draw(T, B, 2)
    given = torch.tensor([2, 5, 1])
    expected = layer(x, lengths=given)
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        y, state = layer(x, lengths=given.to(dtype))
        assert torch.equal(y, expected[0])
        assert all(torch.equal(a, b) for a, b in zip(flat(state), flat(expected[1]), strict=True))
    with Moves(given) as moves:
        layer(x, lengths=given)
    assert x.device in moves.places


@feature(THEME, "lengths of zero, below zero or beyond the input are refused in one line")
def wrong_lengths(case: Case) -> None:
    layer, x = case.build(), draw(T, B, 2)
    for wrong, text in [
        ([5, 0, 1], "has to be greater than 0, but found an element in 'lengths' that is <= 0"),
        ([5, -2, 1], r"that is <= 0 \(-2\)"),
        ([5, 6, 1], "has an element 6, but the input has only 5 time steps"),
        ([5, 3], r"Expected `len\(lengths\)` to be equal to batch_size"),
    ]:
        for call in (layer, layer.reduce):
            with pytest.raises(ValueError, match=text) as caught:
                call(x, lengths=torch.tensor(wrong))
            assert "\n" not in str(caught.value)


@feature(THEME, "`hx=`, nn.LSTM's keyword for the state, as tuple or list")
def hx(case: Case) -> None:
    layer, x = case.build(), draw(T, B, 2)
    _, state = layer(x)
    expected = layer(x, state)[0]
    assert torch.equal(layer(x, hx=state)[0], expected)
    assert torch.equal(layer(x, hx=list(state))[0], expected)
    with pytest.raises(TypeError, match="`hx` is another name for `state`; give one of them"):
        layer(x, state, hx=state)


@feature(THEME, "`flatten_parameters()`, `all_weights`, `reset_parameters()`, ordinary Parameters")
def parameters(case: Case) -> None:
    layer = small(case, 3, 4, num_layers=2, bidirectional=True)
    before = [parameter.clone() for parameter in layer.parameters()]
    layer.flatten_parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    listed = [weight for weights in layer.all_weights for weight in weights]
    assert len(layer.all_weights) == 4
    assert [id(p) for p in listed] == [id(p) for p in layer.parameters()]
    assert all(type(p) is nn.Parameter and p.is_leaf for p in listed)
    layer.reset_parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


@feature(THEME, "`repr` as nn.LSTM's, which builds the layer again")
def representation(case: Case) -> None:
    cls = tr.layers.get(case.name)
    for options in (
        {},
        {"num_layers": 2, "bias": False, "batch_first": True},
        {"num_layers": 3, "dropout": 0.5, "bidirectional": True},
    ):
        text = repr(cls(2, 3, **options))
        assert text == repr(nn.LSTM(2, 3, **options)).replace("LSTM", cls.__name__, 1)
        assert repr(eval(text, {cls.__name__: cls})) == text
    equivalent: Any = cls.cell_type.torch_equivalent
    if equivalent is not None:
        assert repr(cls(2, 3)) == repr(equivalent(2, 3))


@feature(
    THEME,
    "torch.nn's weights: `from_torch` and state_dict both ways, the same numbers",
    Refused(without_counterpart, r"from_torch takes no module of torch\.nn", "not in torch.nn"),
)
def from_torch(case: Case) -> None:
    cls = tr.layers.get(case.name)
    equivalent: Any = cls.cell_type.torch_equivalent or nn.LSTM
    theirs = equivalent(I, H, 2, bidirectional=True, dtype=torch.float64)
    ours = cls.from_torch(theirs)
    x, given = draw(T, B, I), torch.tensor([5, 2, 4])
    for batch in (x, pack_padded_sequence(x, given, enforce_sorted=False)):
        (y, state), (expected, their_state) = ours(batch), theirs(batch)
        if isinstance(y, PackedSequence):
            y, expected = y.data, expected.data
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for a, b in zip(flat(state), flat(their_state), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    theirs.load_state_dict(ours.state_dict())


@feature(
    THEME,
    "torch.nn's start: the same seed draws the same parameters",
    Refused(without_counterpart, r"from_torch takes no module of torch\.nn", "not in torch.nn"),
)
def start(case: Case) -> None:
    cls = tr.layers.get(case.name)
    equivalent: Any = cls.cell_type.torch_equivalent or nn.LSTM
    cls.from_torch(equivalent(I, H))
    kind = next(k for k, v in test_against_torch.KINDS.items() if v[1] is cls)
    test_against_torch.test_the_same_seed_draws_the_same_parameters(kind)


def nn_lstms(call: Any) -> tuple[type[Exception], str]:
    """What nn.LSTM raises for the same mistake."""
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        call()
    return caught.type, str(caught.value)


def agree(ours: Any, theirs: Any, name: str) -> None:
    """Our exception is caught where nn.LSTM's is, and its text contains nn.LSTM's."""
    kind, text = nn_lstms(theirs)
    text = text.replace("LSTM", name)
    with pytest.raises(kind) as caught:
        ours()
    message = str(caught.value)
    assert isinstance(caught.value, ValueError | TypeError)
    assert text in message
    assert "\n" not in message


WRONG_SIZES: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((2.0, 3), {}),
    ((2, "3"), {}),
    ((0, 3), {}),
    ((2, -1), {}),
    ((2, 3, 0), {}),
    ((2, 3), {"bias": 1}),
    ((2, 3), {"batch_first": 1}),
    ((2, 3, 2), {"dropout": 1.5}),
    ((2, 3, 2), {"dropout": True}),
]


@feature(THEME, "nn.LSTM's exception and text for wrong constructor arguments")
def constructor_messages(case: Case) -> None:
    cls = tr.layers.get(case.name)
    for given, options in WRONG_SIZES:
        agree(
            lambda g=given, o=options: cls(*g, **o),
            lambda g=given, o=options: nn.LSTM(*g, **o),
            cls.__name__,
        )
    with pytest.raises(TypeError, match="bidirectional should be of type bool, got: int"):
        cls(2, 3, bidirectional=1)  # pyright: ignore[reportArgumentType]
    assert nn_lstms(lambda: nn.LSTM(2, 3, foo=1))[0] is TypeError
    with pytest.raises(TypeError, match=r"unknown option of .*'foo'"):
        cls(2, 3, foo=1)


@feature(THEME, "nn.LSTM's exception and text for wrong input")
def input_messages(case: Case) -> None:
    ours, theirs = small(case), nn.LSTM(I, H)
    for x in (
        torch.zeros(I),
        torch.zeros(1, T, B, I),
        torch.zeros(T, B, I + 1),
        torch.zeros(T, I - 1),
        torch.zeros(0, B, I),
        torch.zeros(T, B, I, dtype=torch.float64),
    ):
        agree(lambda x=x: ours(x), lambda x=x: theirs(x), type(ours).__name__)


@feature(THEME, "packed input of a wrong width, type or batch: a message, where nn.LSTM has none")
def packed_messages(case: Case) -> None:
    layer, sizes = small(case), torch.tensor([5, 2, 1])

    def pack(width: int, dtype: torch.dtype = torch.float32) -> PackedSequence:
        return pack_padded_sequence(torch.zeros(T, B, width, dtype=dtype), sizes)

    _, of_two = layer(torch.zeros(T, 2, I))
    for batch, state, text in [
        (pack(I + 1), None, "must be equal to input_size. Expected 10, got 11"),
        (pack(I, torch.float64), None, r"input dtype \(torch.float64\) does not match weight"),
        (pack(I), of_two, r"Expected hidden(\[0\])? size \(1, 3, 4\), got|state does not fit"),
        (pack(I), (), "state"),
    ]:
        with pytest.raises(ValueError, match=text) as caught:
            layer(batch, state)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="a PackedSequence carries its lengths"):
        layer(pack(I), lengths=sizes)


@feature(
    THEME,
    "nn's exception and text for a state of a wrong shape",
    Refused(merging, "state does not fit|first axis of every", "a tree's state has its own text"),
)
def state_messages(case: Case) -> None:
    layer = small(case)
    x = torch.zeros(T, B, I)
    pair = len(layer(x)[1]) == 2
    theirs = nn.LSTM(I, H) if pair else nn.GRU(I, H)
    wrong = [torch.zeros(2, B, H), torch.zeros(1, B + 1, H), torch.zeros(1, B, H - 1)]
    for h in wrong:
        state = (h, h) if pair else h
        agree(lambda s=state: layer(x, s), lambda s=state: theirs(x, s), type(layer).__name__)
    flat_h = torch.zeros(1, H)
    state = (flat_h, flat_h) if pair else flat_h
    agree(lambda: layer(x, state), lambda: theirs(x, state), type(layer).__name__)
    state = (wrong[0], wrong[0]) if pair else wrong[0]
    agree(lambda: layer(x[:, 0], state), lambda: theirs(x[:, 0], state), type(layer).__name__)


@feature(THEME, "an empty batch is an empty answer")
def empty_batch(case: Case) -> None:
    test_layouts.test_an_empty_batch_is_an_empty_answer(case)


@feature(THEME, "inputs need not be contiguous and are not written to")
def views(case: Case) -> None:
    test_layouts.test_inputs_need_not_be_contiguous(case)
    test_memory.test_inputs_and_states_are_not_written_to(case)


def by_a_loop(layer: type[Recurrent]) -> bool:
    """Layers for which no kernel is written: 65,537 Python steps take seconds."""
    return layer.name in ("ql-lstm", "ql-gru", "ql-rnn", "nonlinear-gate-lstm")


@feature(THEME, "more than 65,536 tokens in one call", slow=by_a_loop)
def long(case: Case) -> None:
    layer, N = case.build(1, 2), 65_537
    x = draw(N, 1, 1)
    with torch.no_grad():
        y, state = layer(x)
        # What a gated recurrence read 1,000 tokens ago has faded; a tree remembers all.
        before = x[:-17] if merging(type(layer)) else x[-1017:-17]
        z, end = layer(x[-17:], layer(before)[1])
        start, _ = layer(x[:17])
    assert y.shape == (N, 1, 2)
    torch.testing.assert_close(y[:17], start, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(y[-17:], z, rtol=1e-9, atol=1e-12)
    for a, b in zip(floats(end), floats(state), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@feature(THEME, "the same call twice: the same bits")
def deterministic(case: Case) -> None:
    test_memory.test_the_same_call_twice_is_bit_identical(case)
    layer, x = small(case, num_layers=2, dropout=0.5), torch.randn(T, B, I)
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(layer(x)[0])
    assert torch.equal(*found)
    assert not torch.equal(layer(x)[0], found[0])


@feature(THEME, "another dtype of the module is its input's, output's and state's")
def dtypes(case: Case) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        layer = small(case, dtype=dtype)
        x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
        y, state = layer(x)
        assert {t.dtype for t in (y, *flat(state)) if t.is_floating_point()} == {dtype}
        y.float().square().sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == dtype
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        reference = small(case, dtype=torch.float64)
        reference.load_state_dict(layer.state_dict())
        expected = reference(x.double())[0]
        tolerance = 40 * torch.finfo(dtype).eps
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
