"""What every layer is as a module: parameters, names, copies, messages.

Legend: T time, B batch.
"""

import copy
import inspect
import io
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import treering as tr
from conformance.observe import flat
from treering._errors import UserError
from treering.cells.abstract import MergeCell
from treering.layers import register

every_layer = pytest.mark.parametrize("name", tr.layers.names())


def raises(kind: type[Exception], text: str) -> Any:
    return pytest.raises(kind, match=re.escape(text))


def count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


class TestRegistry:
    def test_names(self):
        assert set(tr.layers.names()) >= {
            "rnn", "gru", "lstm", "ql-lstm", "ql-gru", "ql-rnn", "pr-lstm", "pr-rnn",
            "nonlinear-gate-lstm", "min-gru", "min-lstm",
        }  # fmt: skip

    @every_layer
    def test_public_under_the_class_name(self, name: str):
        layer = tr.layers.get(name)
        assert layer.name == name
        assert getattr(tr, layer.__name__) is layer
        assert getattr(tr.layers, layer.__name__) is layer
        assert layer.__name__ in tr.layers.__all__
        assert f"{layer.__name__}Cell" == layer.cell_type.__name__

    def test_unknown_name_offers_the_nearest(self):
        with raises(UserError, "unknown layer 'lsmt'; did you mean 'lstm'"):
            tr.layers.get("lsmt")

    def test_unknown_name_lists_all(self):
        with pytest.raises(UserError) as caught:
            tr.layers.get("transformer")
        assert all(name in str(caught.value) for name in tr.layers.names())

    def test_registering_twice(self):
        with raises(ValueError, "a layer called 'lstm' is registered already"):
            register("lstm", tr.LSTM.cell_type)

    @every_layer
    def test_documentation(self, name: str):
        """Formula, cost, when not to use it, source: what a reader needs to choose."""
        text = tr.layers.get(name).__doc__ or ""
        for part in ("Cost:", "When not to use it:", "Source:", "The layer:", "lengths"):
            assert part in text, part

    @every_layer
    def test_signature_spells_the_options_out(self, name: str):
        layer = tr.layers.get(name)
        parameters = inspect.signature(layer).parameters
        assert list(parameters)[:7] == [
            "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
            "bidirectional",
        ]  # fmt: skip
        assert {n: parameters[n].default for n in layer.cell_options()} == layer.cell_options()
        assert all(p.kind is not p.VAR_KEYWORD for p in parameters.values())


@every_layer
class TestModule:
    def test_from_two_sizes_alone(self, name: str):
        layer = tr.layers.get(name)(4, 5)
        y, state = layer(torch.randn(6, 2, 4))
        assert y.shape == (6, 2, 5)
        assert layer.step(torch.randn(2, 4), state)[0].shape == (2, 5)

    def test_parameter_names_and_order(self, name: str):
        layer = tr.layers.get(name)(4, 5, 2, bidirectional=True)
        cell = layer.cell.parameters(4)
        expected = [
            f"{parameter}_l{level}{suffix}"
            for level in range(2)
            for suffix in ("", "_reverse")
            for parameter in cell
        ]
        assert list(layer.state_dict()) == expected
        above = layer.cell.parameters(10)
        for parameter in cell:
            assert layer.state_dict()[f"{parameter}_l0"].shape == cell[parameter].shape
            assert layer.state_dict()[f"{parameter}_l1_reverse"].shape == above[parameter].shape

    def test_gates_divide_the_rows(self, name: str):
        for spec in tr.layers.get(name)(4, 5).cell.parameters(4).values():
            assert not spec.gates or spec.shape[0] == len(spec.gates) * 5

    def test_no_bias_no_bias_parameters(self, name: str):
        layer = tr.layers.get(name)(4, 5, bias=False)
        assert not [n for n in layer.state_dict() if n.startswith(("bias_ih", "bias_hh"))]
        assert count(layer) < count(tr.layers.get(name)(4, 5))

    def test_same_seed_same_parameters(self, name: str):
        states = []
        for _ in range(2):
            torch.manual_seed(8)
            states.append(tr.layers.get(name)(4, 5, 2).state_dict())
        assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
        torch.manual_seed(9)
        other = tr.layers.get(name)(4, 5, 2).state_dict()
        assert any(not torch.equal(states[0][n], other[n]) for n in other)

    def test_reset_parameters_draws_as_the_constructor(self, name: str):
        torch.manual_seed(8)
        layer = tr.layers.get(name)(4, 5, 2)
        before = {n: p.clone() for n, p in layer.state_dict().items()}
        torch.manual_seed(8)
        layer.reset_parameters()
        assert all(torch.equal(before[n], p) for n, p in layer.state_dict().items())
        assert all(p.isfinite().all() for p in layer.parameters())

    def test_pickle_deepcopy_and_saved_state(self, name: str):
        layer, x = tr.layers.get(name)(4, 5, 2), torch.randn(6, 2, 4)
        y, state = layer(x)
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        loaded = tr.layers.get(name)(4, 5, 2)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), loaded):
            assert type(twin) is type(layer)
            assert torch.equal(twin(x)[0], y)
        again = pickle.loads(pickle.dumps(state))
        assert type(again) is type(state)
        assert torch.equal(layer(x, again)[0], layer(x, state)[0])

    def test_repr_builds_it_again(self, name: str):
        layer = tr.layers.get(name)(4, 5, 2, bias=False, dropout=0.5, bidirectional=True)
        text = repr(layer)
        assert text == (
            f"{type(layer).__name__}(4, 5, num_layers=2, bias=False, dropout=0.5,"
            " bidirectional=True)"
        )
        twin = eval(text, {type(layer).__name__: type(layer)})
        assert twin.state_dict().keys() == layer.state_dict().keys()

    def test_dtype_of_the_module(self, name: str):
        layer = tr.layers.get(name)(4, 5, dtype=torch.float64)
        assert layer(torch.randn(3, 2, 4, dtype=torch.float64))[0].dtype == torch.float64
        half = tr.layers.get(name)(4, 5).to(torch.bfloat16)
        assert half(torch.randn(3, 2, 4, dtype=torch.bfloat16))[0].dtype == torch.bfloat16

    def test_not_an_lstm_of_torch(self, name: str):
        assert not isinstance(tr.layers.get(name)(2, 3), nn.RNNBase)


def test_repr_names_options_and_schedule():
    assert repr(tr.QLLSTM(2, 3, block_size=4)) == "QLLSTM(2, 3, block_size=4)"
    layer = tr.PRLSTM(2, 3, refinements=2, schedule=tr.Tree("left"))
    assert repr(layer) == ("PRLSTM(2, 3, refinements=2, schedule=Tree(bracket='left', seed=0))")
    assert "order='tree'" in repr(tr.Reordered(layer))


@every_layer
class TestMistakes:
    """nn.LSTM's own texts where nn.LSTM has one, so that tests that match on text keep passing."""

    def test_constructor(self, name: str):
        layer = tr.layers.get(name)
        for given, kind, text in [
            ((2.0, 3), TypeError, "input_size should be of type int, got: float"),
            ((2, "3"), TypeError, "hidden_size should be of type int, got: str"),
            ((0, 3), ValueError, "input_size must be greater than zero"),
            ((2, 0), ValueError, "hidden_size must be greater than zero"),
            ((2, 3, 0), ValueError, "num_layers must be greater than zero"),
            ((2, 3, True), TypeError, "num_layers should be of type int, got: bool"),
            ((2, 3, 1, 1), TypeError, "bias should be of type bool, got: int"),
            ((2, 3, 1, True, 0), TypeError, "batch_first should be of type bool, got: int"),
            ((2, 3, 1, True, False, 0.0, 1), TypeError, "bidirectional should be of type bool"),
        ]:
            with raises(kind, text):
                layer(*given)

    @pytest.mark.parametrize("dropout", [-0.1, 1.1, True, "half", float("nan")])
    def test_dropout(self, name: str, dropout: Any):
        with raises(ValueError, "dropout should be a number in range [0, 1] representing the"):
            tr.layers.get(name)(2, 3, 2, dropout=dropout)

    def test_dropout_without_effect(self, name: str):
        text = "expects num_layers greater than 1, but got dropout=0.1 and num_layers=1"
        with pytest.warns(UserWarning, match=text):
            tr.layers.get(name)(2, 3, dropout=0.1)

    def test_unknown_option(self, name: str):
        layer = tr.layers.get(name)
        with raises(TypeError, f"unknown option of {layer.__name__} 'skpi'"):
            layer(2, 3, skpi="none")

    def test_shapes(self, name: str):
        layer = tr.layers.get(name)(10, 3)
        kind = type(layer).__name__
        with raises(ValueError, f"{kind}: Expected input to be 2D or 3D, got 4D instead"):
            layer(torch.zeros(1, 2, 3, 10))
        with raises(ValueError, f"{kind}: Expected input to be 2D or 3D, got 1D instead"):
            layer(torch.zeros(10))
        with raises(ValueError, "must be equal to input_size. Expected 10, got 11"):
            layer(torch.zeros(5, 2, 11))
        with raises(ValueError, "Expected sequence length to be larger than 0 in RNN"):
            layer(torch.zeros(0, 2, 10))
        with raises(ValueError, f"{kind}: Expected input to be 1D or 2D, got 3D instead"):
            layer.step(torch.zeros(1, 2, 10))
        with raises(ValueError, "must be equal to input_size. Expected 10, got 11"):
            layer.step(torch.zeros(2, 11))

    def test_packed_of_the_wrong_width(self, name: str):
        layer = tr.layers.get(name)(10, 3)
        packed = pack_padded_sequence(torch.zeros(5, 2, 11), torch.tensor([5, 2]))
        with raises(ValueError, "must be equal to input_size. Expected 10, got 11"):
            layer(packed)

    def test_dtype(self, name: str):
        text = (
            "RNN input dtype (torch.float64) does not match weight dtype (torch.float32)."
            " Convert input: input.to(torch.float32), or convert model: model.to(torch.float64)"
        )
        layer = tr.layers.get(name)(2, 3)
        for call in (layer, layer.reduce):
            with raises(ValueError, text):
                call(torch.zeros(5, 2, 2, dtype=torch.float64))
        with raises(ValueError, text):
            layer.step(torch.zeros(2, 2, dtype=torch.float64))

    def test_states(self, name: str):
        layer, x = tr.layers.get(name)(2, 3, 2), torch.zeros(5, 4, 2)
        _, state = layer(x)
        _, of_three = layer(x[:, :3])
        _, of_one_layer = tr.layers.get(name)(2, 3)(x)
        _, double = tr.layers.get(name)(2, 3, 2).double()(x.double())
        # Where the state is h, or h and c, nn.LSTM has words of its own.
        plain = not isinstance(layer.cell, MergeCell)
        size = "got [2, 3, 3]" if plain else "state does not fit"
        count = "got [1, 4, 3]" if plain else "num_layers * num_directions = 2 as the first axis"
        bare = "should also be 3-D but got" if plain else "as the first axis of every tensor"
        for wrong, text in [
            (of_three, size),
            (double, "(shapes, dtype and device must agree)"),
            (of_one_layer, count),
            ((), "as the first axis of every tensor, got tuple"),
            ("state", "as the first axis of every tensor, got str"),
            (torch.zeros(()), bare),
            ((*state, state[0]), "state"),
        ]:
            with raises(UserError, text):
                layer(x, wrong)

    def test_a_state_whose_parts_disagree(self, name: str):
        """The second tensor of a deeper layer must not be cut to fit."""
        layer, x = tr.layers.get(name)(2, 3), torch.zeros(5, 4, 2)
        _, state = layer(x)
        parts = [*state]

        def deeper(part: Any) -> Any:
            if isinstance(part, Tensor):
                return torch.cat((part, part))
            return type(part)(*map(deeper, part))

        parts[-1] = deeper(parts[-1])
        plain = not isinstance(layer.cell, MergeCell)
        text = "size (1, 4, 3), got [2, 4" if plain else "first axis of every tensor, got (2,"
        with raises(UserError, text):
            layer(x, tuple(parts))

    def test_lengths(self, name: str):
        layer, x = tr.layers.get(name)(2, 3), torch.zeros(5, 2, 2)
        for lengths, text in [
            ([5, 3], "lengths must be a tensor of integers"),
            (torch.tensor([5.0, 3.0]), "lengths must be a tensor of integers"),
            (torch.tensor([True, True]), "lengths must be a tensor of integers"),
            (torch.tensor([5, 3, 1]), "Expected `len(lengths)` to be equal to batch_size, but got"),
            (torch.tensor(5), "(batch_size=2)"),
            (torch.tensor([5, 0]), "Length of all samples has to be greater than 0"),
            (torch.tensor([5, 6]), "lengths has an element 6, but the input has only 5 time steps"),
        ]:
            with raises(UserError, text):
                layer(x, lengths=lengths)
            with raises(UserError, text):
                layer.reduce(x, lengths)

    def test_lengths_beside_packed_input(self, name: str):
        layer, lengths = tr.layers.get(name)(2, 3), torch.tensor([5, 2])
        packed = pack_padded_sequence(torch.zeros(5, 2, 2), lengths)
        for call in (layer.reduce, lambda p, n: layer(p, lengths=n)):
            with raises(UserError, "a PackedSequence carries its lengths; leave `lengths` out"):
                call(packed, lengths)

    def test_reset(self, name: str):
        layer, x = tr.layers.get(name)(2, 3), torch.zeros(5, 2, 2)
        for reset, got in [
            (torch.zeros(5, 2), "got torch.float32 (5, 2)"),
            (torch.zeros(2, 5, dtype=torch.bool), "got torch.bool (2, 5)"),
            ([[False] * 2] * 5, "got list"),
        ]:
            with raises(
                UserError, f"reset must be a bool tensor (5, 2), one flag per token, {got}"
            ):
                layer(x, reset=reset)

    def test_both_directions_neither_step_nor_reset(self, name: str):
        layer = tr.layers.get(name)(2, 3, bidirectional=True)
        with raises(UserError, f"a bidirectional {type(layer).__name__} cannot step"):
            layer.step(torch.zeros(4, 2))
        with raises(UserError, "reset cannot be used with bidirectional=True"):
            layer(torch.zeros(5, 4, 2), reset=torch.zeros(5, 4, dtype=torch.bool))

    def test_another_kinds_schedule(self, name: str):
        cell = tr.layers.get(name).cell_type
        schedules = (tr.Sequential(), tr.Scan(), tr.Tree())
        refused = [s for s in schedules if not issubclass(cell, s.accepts)]
        assert refused
        for schedule in refused:
            with raises(UserError, f"and {cell.__name__} is none; leave schedule out"):
                tr.layers.get(name)(2, 3, schedule=schedule)(torch.zeros(5, 4, 2))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: tr.QLLSTM(2, 3, shared_block=2), "did you mean 'shared_blocks'"),
        (lambda: tr.RNN(2, 3, nonlinearty="relu"), "did you mean 'nonlinearity'"),
        (lambda: tr.RNN(2, 3, nonlinearity="gelu"), "'gelu' is not known; write 'tanh' or 'relu'"),
        (lambda: tr.QLLSTM(2, 3, shared_blocks=3), "shared_blocks must be one of 2, 1, 4, got 3"),
        (lambda: tr.QLLSTM(2, 3, skip="maybe"), "skip must be one of learned, fixed, channel, inp"),
        (lambda: tr.QLLSTM(2, 3, alpha=float("inf")), "alpha must be a finite number, got inf"),
        (lambda: tr.QLLSTM(2, 3, bounded=True, alpha=1.0), "alpha must lie between 0 and 1"),
        (lambda: tr.QLLSTM(2, 3, skip="input", alpha=0.0), "alpha must lie between 0 and 1"),
        (lambda: tr.QLLSTM(2, 3, block_size=-1), "block_size must be 0 (off) or a number of steps"),
        (lambda: tr.QLLSTM(2, 3, block_size=2, skip="none"), "with a skip other than 'none'"),
        (lambda: tr.QLRNN(2, 3, shared_blocks=2, skip="none"), "write shared_blocks=1"),
        (lambda: tr.PRLSTM(2, 3, refinements=-1), "refinements must be an integer of at least 0"),
        (lambda: tr.PRRNN(2, 3, refinements=1.5), "refinements must be an integer of at least 0"),
        (lambda: tr.NonlinearGateLSTM(2, 3, gates="x"), "gates must name each nonlinear gate once"),
        (lambda: tr.NonlinearGateLSTM(2, 3, gates=""), "gates must name each nonlinear gate once"),
        (lambda: tr.NonlinearGateLSTM(2, 3, gates="ff"), "gates must name each nonlinear gate"),
    ],
)
def test_mistaken_options(build: Any, text: str):
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        build()


class TestParameterCounts:
    @pytest.mark.parametrize(("blocks", "low", "high"), [(2, 0.48, 0.50), (1, 0.73, 0.75)])
    @pytest.mark.parametrize("sizes", [(128, 128), (256, 256), (100, 50)], ids=str)
    def test_ql_lstm_saves_half_or_three_quarters(
        self, sizes: tuple[int, int], blocks: int, low: float, high: float
    ):
        fewer = 1 - count(tr.QLLSTM(*sizes, shared_blocks=blocks)) / count(tr.LSTM(*sizes))
        assert low <= fewer <= high

    @pytest.mark.parametrize(("refinements", "total"), [(0, 660_226), (1, 923_394), (2, 1_186_562)])
    def test_pr_lstm_has_the_papers_numbers(self, refinements: int, total: int):
        layer = tr.PRLSTM(3, 256, refinements=refinements)
        assert count(layer) + count(nn.Linear(256, 2)) == total

    def test_nonlinear_gates_add_eight_matrices(self):
        plain, bent = count(tr.LSTM(5, 7)), count(tr.NonlinearGateLSTM(5, 7))
        assert bent - plain == 4 * (7 * 5 + 7 * 7)


class TestInitialValues:
    def test_uniform_as_in_torch(self):
        for name in ("lstm", "gru", "rnn", "min-gru", "min-lstm", "nonlinear-gate-lstm"):
            for parameter in tr.layers.get(name)(8, 16).parameters():
                assert parameter.abs().max() <= 1 / 4
                assert parameter.std() > 0.08

    def test_ql_scales_one_and_alpha_as_given(self):
        weights = tr.QLLSTM(8, 16, alpha=0.3).state_dict()
        assert torch.equal(weights["gate_scale_l0"], torch.ones(64))
        assert float(weights["alpha_l0"]) == pytest.approx(0.3)
        weights = tr.QLLSTM(8, 16, skip="channel", alpha=0.3, bounded=True).state_dict()
        torch.testing.assert_close(torch.sigmoid(weights["alpha_l0"]), torch.full((16,), 0.3))
        weights = tr.QLLSTM(8, 16, skip="input", alpha=0.2).state_dict()
        assert not weights["weight_alpha_l0"].any()
        assert float(torch.sigmoid(weights["bias_alpha_l0"])) == pytest.approx(0.2)

    def test_pr_truncated_normal_by_fan_in_and_no_bias(self):
        weights = tr.PRLSTM(100, 64).state_dict()
        assert not weights["bias_merge_l0"].any()
        for weight, fan_in in ((weights["weight_leaf_l0"], 100), (weights["weight_merge_l0"], 128)):
            assert float(weight.abs().max()) <= 2 / fan_in**0.5 + 1e-6
            # A normal cut at two deviations has 0.88 of its standard deviation.
            assert float(weight.std()) * fan_in**0.5 == pytest.approx(0.88, abs=0.02)


@every_layer
def test_state_names(name: str):
    _, state = tr.layers.get(name)(2, 3, 2, bidirectional=True)(torch.zeros(5, 4, 2))
    assert hasattr(state, "_fields")
    if name in ("lstm", "nonlinear-gate-lstm", "ql-lstm"):
        assert state._fields == ("h", "c")
        assert state.c.shape == (4, 4, 3)
    if name.startswith("pr-"):
        assert state.last.h.shape == (4, 4, 3)
        assert state.length.tolist() == [[5] * 4] * 4


@every_layer
@pytest.mark.parametrize("kernel", ["auto", "reference"])
@pytest.mark.parametrize("T", [1, 20])
def test_outputs_and_state_are_apart(name: str, kernel: str, T: int):
    """Who writes into what was returned changes nothing else of it."""
    layer, x = tr.layers.get(name)(5, 8), torch.randn(T, 40, 5)
    with torch.no_grad(), tr.use_kernels(kernel):
        y, state = layer(x)
    left = [y, *flat(state)]
    while left:
        written, *left = left
        before = [tensor.clone() for tensor in left]
        written.zero_()
        assert all(map(torch.equal, before, left))
