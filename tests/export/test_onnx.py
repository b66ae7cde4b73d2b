"""One ONNX file against PyTorch at batches and lengths that the export has never seen.

Legend: T time, B batch, I input.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import treering as tr
from treering._errors import UserError
from treering.cells.abstract import MergeCell
from treering.export.examples import draw_lengths, tensors_of
from treering.models import Classifier, Tagger, Transducer
from treering.models.classifier import Pooling
from treering.schedules.tree import TreeState

BATCHES, TIMES = (1, 3, 8), (1, 7, 64, 301)
every_layer = pytest.mark.parametrize("name", tr.layers.names())


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def lengths_of(T: int, B: int) -> Tensor:
    return draw_lengths(T, B, torch.Generator().manual_seed(T * B))


def assert_equal(found: Sequence[Any], wanted: Any, at: object) -> None:
    for got, want in zip(found, tensors_of(wanted), strict=True):
        assert got.shape == tuple(want.shape), at
        scale = max(1.0, float(want.abs().max()))
        bound = 1e-9 if want.dtype == torch.float64 else 1e-5
        assert float((torch.from_numpy(got) - want).abs().max()) / scale < bound, at


def visible(last: Any) -> Any:
    """What of a layer's state leaves the file."""
    return last.last if isinstance(last, TreeState) else last


@torch.no_grad()
def hold_layer(layer: Any, path: Path, *, lengths: bool) -> None:
    """Export once, then compare at every batch and time."""
    inner = layer.layer if isinstance(layer, tr.Reordered) else layer
    # Layers among the parameters of a test were drawn before its seed was set.
    inner.reset_parameters()
    tr.export.to_onnx(layer, path, lengths=lengths)
    session = session_of(path)
    for T in TIMES:
        for B in BATCHES:
            shape = (B, T) if inner.batch_first else (T, B)
            x = torch.randn(*shape, inner.input_size, dtype=next(inner.parameters()).dtype)
            n = lengths_of(T, B) if lengths else None
            y, last = layer(x, lengths=n)
            given = {"input": x.numpy()} | ({} if n is None else {"lengths": n.numpy()})
            assert_equal(session.run(None, given), (y, visible(last)), (T, B))


def kinds(path: Path) -> list[str]:
    """The operators of the file's main graph."""
    return [node.op_type for node in onnx.load(path).graph.node]


@every_layer
def test_every_layer(name: str, tmp_path: Path):
    layer, path = tr.layers.get(name)(4, 5), tmp_path / "layer.onnx"
    hold_layer(layer, path, lengths=True)
    loops = [kind for kind in kinds(path) if kind in ("Scan", "Loop")]
    assert loops == (["Loop"] * 2 if isinstance(layer.cell, MergeCell) else ["Scan"])
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["time", "batch", 4]
    # The file says nothing of this machine.
    assert str(Path(tr.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [False, True])
@every_layer
def test_layers_and_directions(name: str, lengths: bool, tmp_path: Path):
    layer = tr.layers.get(name)(4, 5, num_layers=2, bidirectional=True, batch_first=True)
    hold_layer(layer, tmp_path / "layer.onnx", lengths=lengths)


def test_two_layers_in_both_directions_batch_first(tmp_path: Path):
    layer = tr.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)
    hold_layer(layer, tmp_path / "layer.onnx", lengths=True)
    assert kinds(tmp_path / "layer.onnx").count("Scan") == 4


@pytest.mark.parametrize(
    "layer",
    [
        tr.PRLSTM(4, 5, schedule=tr.Tree("left")),
        # What a block adds past the gates makes rounding grow with T: held in double precision.
        tr.QLLSTM(4, 5, block_size=3, bounded=True, dtype=torch.float64),
        tr.MinLSTM(4, 5, schedule=tr.Sequential()),
        tr.Reordered(tr.GRU(4, 5, batch_first=True)),
    ],
    ids=["left", "blocks", "sequential", "reordered"],
)
def test_options(layer: Any, tmp_path: Path):
    hold_layer(layer, tmp_path / "layer.onnx", lengths=True)


@pytest.mark.parametrize("name", ["lstm", "min-gru", "ql-lstm"])
@torch.no_grad()
def test_state_in_and_out(name: str, tmp_path: Path):
    layer, path = tr.layers.get(name)(4, 5, num_layers=2), tmp_path / "layer.onnx"
    written = tr.export.to_onnx(layer, path, state=True)
    fields = [n.removesuffix("_0") for n in written.inputs[1:]]
    assert written.outputs == ("output", *(f"{n}_n" for n in fields))
    x = torch.randn(20, 2, 4)
    want, state = layer(x)
    _, middle = layer(x[:7])
    given = {"input": x[7:].numpy()}
    given |= {f"{n}_0": t.numpy() for n, t in zip(fields, middle, strict=True)}
    assert_equal(session_of(path).run(None, given), (want[7:], state), name)


@torch.no_grad()
def hold_model(model: nn.Module, path: Path, *, lengths: bool, ids: int) -> None:
    tr.export.to_onnx(model, path, lengths=lengths)
    session = session_of(path)
    for T in TIMES:
        for B in BATCHES:
            given = {"inputs": torch.randint(ids, (B, T))}
            if lengths:
                given["lengths"] = lengths_of(T, B)
            found = session.run(None, {name: t.numpy() for name, t in given.items()})
            assert_equal(found, model(**given), (T, B))


@pytest.mark.parametrize(
    ("name", "pooling"), [("gru", "last"), ("min-lstm", "last"), ("lstm", "max"), ("gru", "mean")]
)
def test_classifier(name: str, pooling: Pooling, tmp_path: Path):
    layer = tr.layers.get(name)(6, 5, batch_first=True, bidirectional=True)
    model = Classifier(layer, 20, 6, 3, pooling, dropout=0.5).eval()
    hold_model(model, tmp_path / "m.onnx", lengths=True, ids=20)


@pytest.mark.parametrize("name", ["lstm", pytest.param("pr-lstm", marks=pytest.mark.slow)])
def test_transducer(name: str, tmp_path: Path):
    layer = tr.layers.get(name)(4, 5, batch_first=True)
    hold_model(Transducer(layer, 3, 2), tmp_path / "m.onnx", lengths=False, ids=3)


@pytest.mark.parametrize("name", ["min-gru", pytest.param("pr-lstm", marks=pytest.mark.slow)])
def test_tagger(name: str, tmp_path: Path):
    layer = tr.layers.get(name)(3, 5, batch_first=True)
    model = Tagger(layer, 3, 2)
    hold_model(model, tmp_path / "m.onnx", lengths=False, ids=3)
    hold_model(model, tmp_path / "l.onnx", lengths=True, ids=3)


class UsersTagger(nn.Module):
    """A user's module, time first, with arguments of its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.layer = tr.QLGRU(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        y, last = self.layer(self.words(tokens), lengths=lengths)
        return {"tags": self.head(y), "summary": last.h}


@torch.no_grad()
def test_a_module_of_the_users(tmp_path: Path):
    model, path = UsersTagger(), tmp_path / "m.onnx"
    written = tr.export.to_onnx(
        model,
        path,
        {"tokens": torch.randint(11, (5, 3)), "lengths": torch.tensor([5, 2, 1])},
        axes={"tokens": ("time", "batch")},
        outputs=["tags"],
    )
    assert (written.inputs, written.outputs) == (("tokens", "lengths"), ("tags",))
    assert model.training
    tokens, lengths = torch.randint(11, (50, 4)), torch.tensor([50, 1, 2, 3])
    given = {"tokens": tokens.numpy(), "lengths": lengths.numpy()}
    assert_equal(session_of(path).run(None, given), model(tokens, lengths)["tags"], "tags")


@torch.no_grad()
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["lstm", "pr-rnn"])
def test_torch_export_alone(name: str, strict: bool):
    layer = tr.layers.get(name)(4, 5)
    free = {0: torch.export.Dim("time"), 1: torch.export.Dim("batch")}
    program = torch.export.export(
        layer, (torch.randn(7, 3, 4),), dynamic_shapes={"input": free}, strict=strict
    )
    for T in (2, 64, 301):
        x = torch.randn(T, 5, 4)
        torch.testing.assert_close(program.module()(x)[0], layer(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "more", "match"),
    [
        (tr.PRLSTM(4, 5, schedule=tr.Tree("random")), {}, "drawn token by token"),
        (tr.PRLSTM(4, 5), {"state": True}, "cannot be exported with a carried state"),
        (nn.Linear(4, 5), {}, "what a Linear is called with is not known here"),
        (UsersTagger(), {"example": {"tokens": torch.zeros(1, 3)}}, "size 1 along 'batch'"),
        (tr.GRU(4, 5), {"outputs": ["y", "h", "c"]}, "has 2 outputs, and 3 names"),
    ],
    ids=["random", "state", "unknown", "one", "outputs"],
)
def test_mistakes(layer: Any, more: dict[str, Any], match: str, tmp_path: Path):
    with pytest.raises(UserError, match=match):
        tr.export.to_onnx(layer, tmp_path / "layer.onnx", **more)
    assert not (tmp_path / "layer.onnx").exists()


class Frozen(nn.Module):
    """Looks at T while it is traced, as a module that freezes time does."""

    def forward(self, x: Tensor) -> Tensor:
        scale = 1.0 if torch.compiler.is_exporting() else float(x.shape[1])
        return x * scale


def test_a_file_that_does_something_else_is_refused(tmp_path: Path):
    with pytest.raises(RuntimeError, match="output differs from the module's by"):
        tr.export.to_onnx(Frozen(), tmp_path / "m.onnx", {"x": torch.randn(2, 3)})
    assert not (tmp_path / "m.onnx").exists()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'treering\[export\]'"):
        tr.export.to_onnx(tr.GRU(4, 5), tmp_path / "layer.onnx")
