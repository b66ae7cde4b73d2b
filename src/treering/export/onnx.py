"""ONNX files whose batch and time are free, checked before they are handed out.

Legend: B batch, T time.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering.export.examples import (
    Axes,
    Example,
    LayerCall,
    ModelCall,
    layer_example,
    model_example,
    tensors_of,
    users_example,
)
from treering.layers import Recurrent, Reordered

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxFile:
    """What was written: names of inputs and outputs, size, and how it was checked.

    checked: the (batch, time) it ran at. difference: the largest one between onnxruntime and
    PyTorch there, relative to the largest output where that is above 1.
    """

    path: Path
    size: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    checked: tuple[tuple[int, int], ...]
    difference: float


def to_onnx(
    module: nn.Module,
    path: str | Path,
    example: Mapping[str, Tensor] | None = None,
    *,
    axes: Axes | None = None,
    lengths: bool = False,
    state: bool = False,
    outputs: Sequence[str] | None = None,
    tolerance: float = 1e-5,
) -> OnnxFile:
    """Write `module` as one ONNX file for any batch and any number of tokens, and check it.

    A layer: inputs `input`, `lengths` and the state's tensors `h_0`, `c_0`, ... if asked for;
    outputs `output`, `h_n`, `c_n`, ..., laid out as the layer's own. A model of `tr.models`:
    input `inputs`, and `lengths` if asked for. Any other module needs an example.

    example: the arguments of `module.forward` by name, tensors of at least two sequences and two
        tokens. The first axis is the batch, the second the time, unless `axes` says otherwise:
        `axes={"x": ("time", "batch", None)}`; further names are further free sizes.
    lengths, state: for layers and models of `tr.models`, make these inputs of the file.
    outputs: names for the outputs, in order; what the module returns beyond them is left out.
    tolerance: how much outputs may differ from PyTorch's.

    The module is exported in evaluation mode, from a copy. Time is a Scan node of the format for
    step and affine cells and for `Tree("left")`, two Loop nodes of log2 T rounds for the balanced
    tree, with T-1 merges up and about as many down; each round copies the buffer of states once.
    The file is then checked by onnx and run by onnxruntime at three sizes of batch and time that
    the export has not seen, against PyTorch. Lengths are not checked by the file when it runs.

    Raises:
        UserError: a tree with a state, `reset` or bracket="random", an example that fixes a size,
            the `export` extra not installed.
        RuntimeError: the file does not do what the module does; it is removed.
    """
    onnx, runtime = packages()
    path = Path(path)
    copied = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    call, sample, names = call_of(copied, example, axes, lengths, state, outputs)
    with _quiet(), torch.no_grad():
        dims = {axis: torch.export.Dim(axis) for axis in sample.sizes()}
        shapes = tuple(
            {k: dims[axis] for k, axis in enumerate(sample.axes[name]) if axis is not None}
            for name in sample.inputs
        )
        program = torch.export.export(
            call, tuple(sample.inputs.values()), dynamic_shapes=(shapes,), strict=False
        )
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=list(sample.inputs),
            output_names=names,
            dynamic_shapes=(shapes,),
        )
        assert written is not None
        _forget_sources(written.model)
        written.save(path)
        try:
            onnx.checker.check_model(str(path), full_check=True)
            checked, difference = _check(runtime, path, call, sample, tolerance)
        except Exception:
            path.unlink()
            raise
    size = path.stat().st_size
    return OnnxFile(path, size, tuple(sample.inputs), tuple(names), checked, difference)


def packages() -> tuple[Any, Any]:
    """onnx and onnxruntime; the exporter itself also needs onnxscript."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = import_module(package)
        except ImportError as error:
            raise UserError(
                f"exporting to ONNX needs {', '.join(PACKAGES)}, and {package} cannot be imported"
                f" ({error}); write: pip install 'treering[export]'"
            ) from error
    return found["onnx"], found["onnxruntime"]


def call_of(
    module: nn.Module,
    example: Mapping[str, Tensor] | None,
    axes: Axes | None,
    lengths: bool,
    state: bool,
    outputs: Sequence[str] | None,
) -> tuple[nn.Module, Example, list[str]]:
    """The module as a function of tensors, an example of them, and the outputs' names."""
    generator = torch.Generator().manual_seed(0)
    if example is None and isinstance(module, Recurrent | Reordered):
        call = LayerCall(module, lengths, state)
        sample = layer_example(call, generator)
        return call, sample, _named(call, outputs, ["output", *(f"{n}_n" for n in call.fields())])
    if example is None:
        if state:
            raise UserError(
                "state=True is for layers; give a model's state in `example`, by the names of"
                " its arguments"
            )
        sample = model_example(module, lengths, generator)
    else:
        if lengths or state:
            raise UserError("with an example, lengths and state are entries of it")
        sample = users_example(example, axes)
    call = ModelCall(module, tuple(sample.inputs))
    with torch.no_grad():
        found = len(call(*sample.inputs.values()))
    usual = ["output", *(f"output_{k}" for k in range(1, found))]
    return call, sample, _named(call, outputs, usual)


def _named(
    call: LayerCall | ModelCall, outputs: Sequence[str] | None, usual: list[str]
) -> list[str]:
    """The names that the outputs get; the call then returns as many."""
    if outputs is None:
        return usual
    if not 0 < len(outputs) <= len(usual):
        raise UserError(f"the module has {len(usual)} outputs, and {len(outputs)} names are given")
    call.outputs = len(outputs)
    return list(outputs)


def _check(
    runtime: Any, path: Path, call: nn.Module, sample: Example, tolerance: float
) -> tuple[tuple[tuple[int, int], ...], float]:
    """Run the file at sizes that the export has not seen; the largest difference."""
    session = start(runtime, path)
    given = sample.sizes()
    B, T = given.get("batch", 1), given.get("time", 1)
    generator = torch.Generator().manual_seed(1)
    worst, places = 0.0, ((B + 2, T), (1, 2 * T + 1), (B, 4 * T + 2))
    for batch, time in places:
        inputs = sample.resized(generator, batch=batch, time=time)
        with torch.no_grad():
            wanted = [*tensors_of(call(*inputs.values()))]
        taken = {i.name for i in session.get_inputs()}
        found = session.run(None, {n: t.numpy() for n, t in inputs.items() if n in taken})
        for k, (got, want) in enumerate(zip(found, wanted, strict=True)):
            name = session.get_outputs()[k].name
            if got.shape != tuple(want.shape):
                raise RuntimeError(
                    f"the exported file gives {name} {got.shape} at batch {batch} and time {time},"
                    f" where the module gives {tuple(want.shape)}"
                )
            scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
            apart = (torch.from_numpy(got).double() - want.double()).abs()
            difference = float(apart.max()) / scale if want.numel() else 0.0
            # Written so that NaN fails.
            if not difference <= tolerance:
                raise RuntimeError(
                    f"the exported file's {name} differs from the module's by {difference:.1e} at"
                    f" batch {batch} and time {time}, more than {tolerance:.1e}; in low precision"
                    " give a larger `tolerance`, otherwise this is a defect of the exporter"
                )
            worst = max(worst, difference)
    return places, worst


def start(runtime: Any, path: Path) -> Any:
    """A session of onnxruntime on one thread, silent but for errors."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _forget_sources(model: Any) -> None:
    """Drop the exporter's notes at every node: stack traces, with the paths of this machine."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            for part in (node, *node.outputs):
                part.metadata_props.clear()
        graph.metadata_props.clear()
    model.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself, which a user cannot act on."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch.onnx._internal.exporter._registration", "onnx_ir", "onnxscript")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # PyTorch's own use of what it is about to remove.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            # One name for one size at several inputs is what is meant.
            warnings.filterwarnings("ignore", r"# The axis name: \w+ will not be used", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
