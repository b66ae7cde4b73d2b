"""What int8 weights cost and save on this machine, side by side with the module itself.

Legend: B batch, T time.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from treering.export.examples import Axes, tensors_of
from treering.export.int8 import quantize
from treering.export.onnx import call_of, packages, start, to_onnx


@dataclass(frozen=True)
class Measured:
    """A module and its int8 copy: bytes of the ONNX files, milliseconds a call, and how far apart.

    difference: the largest between their outputs; relative: to the largest output.
    """

    batch: int
    tokens: int
    bytes_fp32: int
    bytes_int8: int
    difference: float
    relative: float
    eager_ms_fp32: float
    eager_ms_int8: float
    onnxruntime_ms_fp32: float
    onnxruntime_ms_int8: float


def measure(
    module: nn.Module,
    example: Mapping[str, Tensor] | None = None,
    *,
    axes: Axes | None = None,
    lengths: bool = False,
    batch: int = 1,
    tokens: int = 64,
    rounds: int = 20,
) -> Measured:
    """Compare `module` with `quantize(module)` on one call of `batch` sequences of `tokens` tokens.

    example, axes, lengths: as for `to_onnx`. Times are medians over `rounds`, taken in turn on
    the number of threads that PyTorch has; they are of this machine and this moment.

    Raises:
        UserError, RuntimeError: as `quantize` and `to_onnx`.
    """
    _, runtime = packages()
    full = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    both = (full, quantize(full))
    calls, files, sizes = [], [], []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for k, each in enumerate(both):
            call, sample, _ = call_of(each, example, axes, lengths, False, None)
            inputs = sample.resized(torch.Generator().manual_seed(0), batch=batch, time=tokens)
            path = Path(folder) / f"{k}.onnx"
            sizes.append(to_onnx(each, path, example, axes=axes, lengths=lengths).size)
            session = start(runtime, path)
            taken = {i.name for i in session.get_inputs()}
            arrays = {name: t.numpy() for name, t in inputs.items() if name in taken}
            calls.append(lambda call=call, inputs=inputs: call(*inputs.values()))
            files.append(lambda session=session, arrays=arrays: session.run(None, arrays))
        wanted, found = (list(tensors_of(call())) for call in calls)
        floats = [(w, f) for w, f in zip(wanted, found, strict=True) if w.is_floating_point()]
        difference = max(float((w - f).abs().max()) for w, f in floats)
        eager, exported = _in_turn(calls, rounds), _in_turn(files, rounds)
    return Measured(
        batch=batch,
        tokens=tokens,
        bytes_fp32=sizes[0],
        bytes_int8=sizes[1],
        difference=difference,
        relative=difference / max(float(w.abs().max()) for w, _ in floats),
        eager_ms_fp32=eager[0],
        eager_ms_int8=eager[1],
        onnxruntime_ms_fp32=exported[0],
        onnxruntime_ms_int8=exported[1],
    )


def _in_turn(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each call in milliseconds; what slows the machine down meets all."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            begin = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begin))
    return [median(times) for times in taken]
