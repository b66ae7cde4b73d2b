"""Which kernel runs, why, and what an explicit request does.

Legend: T time, B batch.
"""

import copy
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import treering as tr
from treering import dispatch
from treering._errors import UserError
from treering.cells.abstract import Cell, ParameterSpec
from treering.dispatch import KERNELS, default_schedule, requested

X = torch.zeros(5, 3, 2)
OWN = ("lstm", "gru", "rnn")


def lines(layer: Any, **options: Any) -> list[str]:
    return list(tr.explain(layer, X, **options).lines)


class TestExplain:
    @pytest.mark.parametrize("name", tr.layers.names())
    def test_every_layer(self, name: str):
        (line,) = lines(tr.layers.get(name)(2, 3))
        schedule = type(default_schedule(tr.layers.get(name)(2, 3).cell)).__name__
        assert line.startswith(schedule)
        runs = line.split(": ", 1)[1].split(" (", 1)[0]
        written = {k.name for k in KERNELS if k.cell is tr.layers.get(name).cell_type}
        assert runs in written | {"reference"}
        if name in OWN:
            assert runs != "reference"
        if not written:
            assert "no kernel is written for" in line
            assert "plain PyTorch operators run it" in line

    def test_the_faster_kernel(self):
        gru, lstm, x = tr.GRU(64, 64), tr.LSTM(64, 64), torch.zeros(600, 1, 64)
        assert "native-gru (native-gru runs GRUCell under Sequential; aten-gru: treering's" in str(
            tr.explain(gru, x)
        )
        assert ": aten-gru (" in str(tr.explain(gru, x[:1]))
        assert "; aten-lstm: in training treering's own kernel is faster)" in str(
            tr.explain(lstm, x)
        )
        assert ": aten-lstm (" in str(tr.explain(lstm, x[:100]))
        with torch.no_grad():
            assert ": aten-lstm (" in str(tr.explain(lstm, x))

    def test_too_few_tokens_for_a_kernel_unless_it_is_asked_for(self):
        layer, x = tr.PRLSTM(2, 3), torch.randn(5, 3, 2)
        assert "native-pr-lstm: for fewer than 16 tokens" in lines(layer)[0]
        with tr.use_kernels("native-pr-lstm"):
            assert ": native-pr-lstm (" in str(tr.explain(layer, x))

    @pytest.mark.parametrize("merging", ["sum", "linear"])
    def test_a_merge_that_the_kernel_does_not_know(self, merging: Any):
        layer, x = tr.PRLSTM(2, 3, merging=merging), torch.randn(20, 4, 2)
        reason = f"it is written for the gated merge, and this one is {merging!r}"
        assert f"reference (native-pr-lstm: {reason}" in str(tr.explain(layer, x))
        assert (
            f": shared-pr-lstm (shared-pr-lstm runs PRLSTMCell under Tree; native-pr-lstm: {reason}"
            in str(tr.explain(layer, torch.zeros(20, 4, 2)))
        )
        with tr.use_kernels("native-pr-lstm"), pytest.raises(UserError, match=reason):
            layer(x)
        with torch.no_grad():
            y, _ = layer(x)
            state = None
            for t, x_t in enumerate(x):
                y_t, state = layer.step(x_t, state)
                torch.testing.assert_close(y_t, y[t])

    def test_one_line_per_layer_and_direction(self):
        explanation = tr.explain(tr.LSTM(2, 3, 2, bidirectional=True), X)
        assert len(explanation.lines) == 4
        assert str(explanation) == "\n".join(explanation.lines)

    def test_lengths_order_and_layout(self):
        wide, lengths = tr.LSTM(2, 3).double(), torch.tensor([5, 1, 2])
        assert list(tr.explain(wide, X.double(), lengths).lines) == [
            "Sequential(): reference (aten-lstm: for sequences of different lengths the loop over"
            " time is faster; native-lstm: it computes in float32 and bfloat16, and the input is"
            " torch.float64)"
        ]
        assert ": native-lstm (" in lines(tr.LSTM(2, 3), lengths=lengths)[0]
        assert ": aten-lstm (" in lines(tr.LSTM(2, 3), lengths=torch.tensor([5, 5, 5]))[0]
        assert ": native-gru (" in lines(tr.Reordered(tr.GRU(2, 3, batch_first=True)))[0]

    def test_the_users_schedule_is_named(self):
        layer = tr.PRLSTM(2, 3, schedule=tr.Tree("random", seed=5))
        assert lines(layer)[0].startswith("Tree(bracket='random', seed=5): reference")
        assert lines(tr.MinGRU(2, 3, schedule=tr.Sequential()))[0].startswith("Sequential()")

    def test_no_gradients_no_traces(self):
        layer = tr.LSTM(2, 3)
        tr.explain(layer, X.clone().requires_grad_())
        assert all(parameter.grad is None for parameter in layer.parameters())
        assert torch.is_grad_enabled()
        with pytest.raises(ValueError, match="input_size"):
            tr.explain(layer, torch.zeros(5, 3, 7))
        layer(X)
        assert len(lines(layer)) == 1

    def test_random_numbers_are_left_alone(self):
        layer = tr.LSTM(2, 3, 2, dropout=0.5).train()
        before = torch.get_rng_state()
        tr.explain(layer, X)
        assert torch.equal(torch.get_rng_state(), before)
        assert layer.training


class TestRequests:
    @pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
    def test_each_kernel_by_name(self, kernel: dispatch.Kernel):
        layer = next(
            c(2, 3) for n in tr.layers.names() if (c := tr.layers.get(n)).cell_type is kernel.cell
        )
        with tr.use_kernels(kernel.name):
            # Enough equal tokens for any kernel.
            assert f": {kernel.name} (" in str(tr.explain(layer, torch.zeros(20, 4, 2)))

    def test_the_reference(self):
        with tr.use_kernels("reference"):
            assert lines(tr.LSTM(2, 3)) == [
                "Sequential(): reference (TREERING_KERNELS or use_kernels asks for the reference)"
            ]
        assert ": aten-lstm (" in lines(tr.LSTM(2, 3))[0]

    def test_unknown_name(self):
        with (
            pytest.raises(UserError, match="unknown kernel 'aten-lstn'; did you mean 'aten-lstm'"),
            tr.use_kernels("aten-lstn"),
        ):
            pass

    def test_a_kernel_that_does_not_run_this_pair(self):
        text = "kernel 'aten-gru' was asked for, but it does not run LSTMCell under Sequential"
        with tr.use_kernels("aten-gru"), pytest.raises(UserError, match=text):
            tr.LSTM(2, 3)(X)

    def test_a_kernel_that_cannot_run_this_call(self):
        reset = torch.zeros(5, 3, dtype=torch.bool)
        text = "'aten-lstm' was asked for, but cannot run: aten-lstm: a reset mask needs the loop"
        with tr.use_kernels("aten-lstm"), pytest.raises(UserError, match=text):
            tr.LSTM(2, 3)(X, reset=reset)

    def test_by_itself_the_reference_takes_over_with_the_reason(self):
        reset = torch.zeros(5, 3, dtype=torch.bool)
        cell, x = tr.LSTM(2, 3).double(), X.double()
        ran = tr.unroll(cell.cell, cell.weights(0), x, reset=reset)
        assert "reference (aten-lstm: a reset mask needs the loop over time; native" in ran.ran
        empty = tr.unroll(cell.cell, cell.weights(0), x[:, :0])
        assert "reference (aten-lstm: the batch is empty; native" in empty.ran

    def test_requests_nest_and_end(self):
        with tr.use_kernels("reference"):
            with tr.use_kernels("auto"):
                assert requested() == "auto"
            assert requested() == "reference"
        assert requested() == "auto"
        with pytest.raises(RuntimeError), tr.use_kernels("reference"):
            raise RuntimeError
        assert requested() == "auto"


class TestEnvironment:
    def test_the_reference(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("TREERING_KERNELS", "reference")
        assert "asks for the reference" in lines(tr.LSTM(2, 3))[0]

    def test_unknown_name(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("TREERING_KERNELS", "fast")
        with pytest.raises(UserError, match="unknown kernel 'fast'"):
            tr.LSTM(2, 3)(X)

    def test_a_kernel_that_cannot_run(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("TREERING_KERNELS", "aten-lstm")
        assert ": aten-lstm (" in lines(tr.LSTM(2, 3))[0]
        with pytest.raises(UserError, match="it does not run PRLSTMCell under Tree"):
            tr.PRLSTM(2, 3)(X)

    @pytest.mark.parametrize("value", ["", "auto"])
    def test_nothing_asked_for(self, monkeypatch: pytest.MonkeyPatch, value: str):
        monkeypatch.setenv("TREERING_KERNELS", value)
        assert requested() == "auto"

    def test_the_block_goes_before_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("TREERING_KERNELS", "reference")
        with tr.use_kernels("auto"):
            assert requested() == "auto"


def test_a_subclass_of_a_layer_keeps_its_kernel():
    class Mine(tr.LSTM):
        pass

    assert ": aten-lstm (" in lines(copy.deepcopy(Mine(2, 3)))[0]


def test_a_cell_of_no_kind():
    class Strange(Cell):
        def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
            return {}

    with pytest.raises(TypeError, match="Strange is not one of the kinds of cell in"):
        default_schedule(Strange(3))


KERNEL_LAYERS = ["rnn", "gru", "lstm"]


# PyTorch compiles its own forward-mode rules with what it calls deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNEL_LAYERS)
def test_transforms_run_the_reference(name: str, dtype: torch.dtype):
    layer = tr.layers.get(name)(3, 4, dtype=dtype)
    samples = torch.randn(6, 5, 2, 3, dtype=dtype)
    each = torch.stack([layer(x)[0] for x in samples])
    torch.testing.assert_close(torch.func.vmap(lambda x: layer(x)[0])(samples), each)

    x, direction = samples[0], samples[1]
    with tr.use_kernels("reference"):
        expected = torch.func.jvp(lambda x: layer(x)[0], (x,), (direction,))[1]
    tangent = torch.func.jvp(lambda x: layer(x)[0], (x,), (direction,))[1]
    torch.testing.assert_close(tangent, expected)
    with forward_ad.dual_level():
        y, _ = layer(forward_ad.make_dual(x, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(y)[1], expected)


def test_a_kernel_asked_for_under_a_transform_raises():
    layer = tr.LSTM(3, 4)
    with tr.use_kernels("aten-lstm"), pytest.raises(ValueError, match="no rule for vmap"):
        torch.func.vmap(lambda x: layer(x)[0])(torch.randn(6, 5, 2, 3))
