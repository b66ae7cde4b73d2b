"""Weights in eight bits: how far they may be off, and that they stay eight bits in the file.

Legend: T time, B batch, I input.
"""

import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import treering as tr
from treering._errors import UserError
from treering.export import Int8Embedding, quantize
from treering.export.int8 import to_int8
from treering.models import Classifier

every_layer = pytest.mark.parametrize("name", tr.layers.names())


def test_by_hand():
    scale, integers = to_int8(torch.tensor([[1.27, -0.5, 0.0], [0.0, 0.0, 0.0]]))
    assert integers.dtype == torch.int8
    assert integers.tolist() == [[127, -50, 0], [0, 0, 0]]
    torch.testing.assert_close(scale, torch.tensor([[0.01], [0.0]]))


def test_off_by_half_a_step():
    weight = torch.randn(7, 30, dtype=torch.float64)
    scale, integers = to_int8(weight)
    # The bound is met exactly where an entry lies halfway: a rounding more.
    assert ((scale * integers - weight).abs() <= 0.5 * scale * (1 + 1e-12)).all()
    assert integers.abs().amax(1).tolist() == [127] * 7


@every_layer
@torch.no_grad()
def test_the_copy_is_the_layer_of_its_matrices(name: str):
    """A layer whose matrices are what int8 makes of them gives the copy's numbers exactly."""
    layer = tr.layers.get(name)(4, 6, num_layers=2, bidirectional=True, bias=False)
    before = {n: p.clone() for n, p in layer.named_parameters()}
    copied = quantize(layer)
    for n, p in layer.named_parameters():
        assert torch.equal(p, before[n])
        assert p.requires_grad
    for parameter in layer.parameters():
        if parameter.dim() == 2:
            scale, integers = to_int8(parameter)
            parameter.copy_(scale * integers)
    x, lengths = torch.randn(9, 2, 4), torch.tensor([9, 4])
    for got, want in zip(copied(x, lengths=lengths)[0], layer(x, lengths=lengths)[0], strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    stored = [p.dtype for p in copied.parameters()]
    assert torch.int8 in stored
    assert not any(p.requires_grad for p in copied.parameters())


@every_layer
@torch.no_grad()
def test_step_and_state_dict(name: str, tmp_path: Path):
    copied = quantize(tr.layers.get(name)(4, 6))
    x = torch.randn(5, 2, 4)
    want, state = copied(x), None
    for t in range(5):
        y, state = copied.step(x[t], state)
        torch.testing.assert_close(y, want[0][t], rtol=1e-5, atol=1e-6)
    torch.save(copied.state_dict(), tmp_path / "weights.pt")
    again = quantize(tr.layers.get(name)(4, 6))
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(again(x)[0], want[0], rtol=0, atol=0)


def a_classifier(hidden: int = 64) -> nn.Module:
    return Classifier(tr.LSTM(32, hidden, batch_first=True), 500, 32, 4).eval()


@torch.no_grad()
def test_a_model_with_its_embedding():
    model = a_classifier()
    copied: Any = quantize(model)
    assert isinstance(copied.embedding, Int8Embedding)
    # The padding's row is zero and stays so.
    assert not copied.embedding(torch.tensor([0])).any()
    ids, lengths = torch.randint(500, (3, 20)), torch.tensor([20, 5, 1])
    torch.testing.assert_close(copied(ids, lengths), model(ids, lengths), rtol=0, atol=0.02)
    assert not torch.equal(copied(ids, lengths), model(ids, lengths))


@pytest.mark.parametrize("name", ["lstm", pytest.param("pr-rnn", marks=pytest.mark.slow)])
def test_the_file_is_four_times_smaller(name: str, tmp_path: Path):
    """The exporter must not multiply the matrices out again into fp32 constants."""
    layer = tr.layers.get(name)(96, 96)
    full = tr.export.to_onnx(layer, tmp_path / "fp32.onnx")
    small = tr.export.to_onnx(quantize(layer), tmp_path / "int8.onnx")
    matrices = [p for p in layer.parameters() if p.dim() == 2]
    saved = 3 * sum(p.numel() for p in matrices)
    scales = 4 * sum(len(p) for p in matrices)
    assert full.size - small.size > saved - scales - 4096
    kept = onnx.load(tmp_path / "int8.onnx").graph.initializer
    integers = [t for t in kept if t.data_type == onnx.TensorProto.INT8]
    assert sum(math.prod(t.dims) for t in integers) == sum(p.numel() for p in matrices)


def test_measured():
    seen = tr.export.measure(a_classifier(96), lengths=True, batch=2, tokens=9, rounds=2)
    assert (seen.batch, seen.tokens) == (2, 9)
    assert 3 < seen.bytes_fp32 / seen.bytes_int8 < 4
    assert 0 < seen.relative < 0.1
    times = (seen.eager_ms_fp32, seen.eager_ms_int8)
    assert min(*times, seen.onnxruntime_ms_fp32, seen.onnxruntime_ms_int8) > 0


def test_compiles():
    copied = quantize(tr.GRU(4, 6))
    run = torch.compile(copied, fullgraph=True, backend="aot_eager")
    x = torch.randn(7, 2, 4)
    torch.testing.assert_close(run(x)[0], copied(x)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.Sequential(nn.LSTM(3, 4)), r"tr\.LSTM\.from_torch"),
        (nn.LayerNorm(4), "has no matrix that could become int8"),
    ],
)
def test_mistakes(module: nn.Module, match: str):
    with pytest.raises(UserError, match=match):
        quantize(module)
