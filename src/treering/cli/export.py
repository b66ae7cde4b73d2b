"""`treering export`: the model of a run as an ONNX file, checked, and on request in int8."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from treering._errors import UserError
from treering.cli.answers import EveryPosition, Logits, Pairs, properties, refuse_trees
from treering.cli.models import LoadedRun, load_run
from treering.cli.options import Flag, Whole
from treering.cli.streams import plain_table, print_json, standard_output
from treering.models import LanguageModel, PairClassifier, Tagger, Transducer
from treering.models.baselines import Baseline
from treering.report.wording import exact


@dataclass(frozen=True)
class Exported:
    """What an export wrote and found, as `--json` prints it."""

    file: str
    bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    checked: tuple[tuple[int, int], ...]
    difference: float
    int8: dict[str, Any] | None = None


def export_(
    run: Path,
    /,
    *,
    out: Path = Path("model.onnx"),
    int8: Flag = False,
    tokens: Whole = 64,
    json: Flag = False,
) -> None:
    """Write the model of a run as one ONNX file for any batch and any length.

    Example: treering export runs/reviews.csv/lstm/seed0-1a2b3c --out reviews.onnx

    The file is run by onnxruntime at sizes that the export has not seen and compared with the
    model before anything is said to be done. It carries its vocabulary and the names of its
    classes, so that `treering predict` reads it like a run.

    Parameters
    ----------
    run
        The folder of a run, as `treering train` prints it.
    out
        The file to write.
    int8
        Keep the matrices in eight bits, and compare size, score and speed with full precision.
    tokens
        Length of the sequence on which speed is compared.
    json
        Print JSON.
    """
    from treering import export

    onnx, _ = export.packages()
    loaded = load_run(run)
    if isinstance(loaded.model.layer, Baseline):
        raise UserError(
            f"{run}: {loaded.record.model.layer} is a baseline of the formal-language benchmark,"
            " which is not exported; export a run of one of treering's own layers"
        )
    refuse_trees(loaded, run, "an exported program knows no trees")
    model, arguments = _exportable(loaded)
    chosen = export.quantize(model) if int8 else model
    with _one_line():
        written = export.to_onnx(chosen, out, **arguments)
        _add_properties(onnx, out, properties(loaded))
        compared = None
        if int8:
            measured = export.measure(model, **arguments, tokens=tokens)
            compared = asdict(measured) | _scores(loaded, export.quantize(loaded.model))
    found = Exported(
        str(out),
        out.stat().st_size,
        written.inputs,
        written.outputs,
        written.checked,
        written.difference,
        compared,
    )
    if json:
        print_json(asdict(found))
        return
    _show(found, loaded)


def _exportable(run: LoadedRun) -> tuple[nn.Module, dict[str, Any]]:
    """The model as a function of tensors, and what to_onnx has to be told of it."""
    model = run.model
    if isinstance(model, Transducer):
        example = torch.randint(model.symbols, (3, 7), generator=torch.Generator().manual_seed(0))
        return EveryPosition(model), {"example": {"inputs": example}}
    if isinstance(model, LanguageModel):
        words = model.embedding.num_embeddings
        example = torch.randint(words, (3, 7), generator=torch.Generator().manual_seed(0))
        return Logits(model), {"example": {"inputs": example}}
    if isinstance(model, PairClassifier):
        words = model.embedding.num_embeddings
        example = torch.randint(words, (3, 7), generator=torch.Generator().manual_seed(0))
        return Pairs(model), {"example": {"inputs": example, "lengths": torch.tensor([7, 5, 2])}}
    return model, {"lengths": not isinstance(model, Tagger)}


def _add_properties(onnx: Any, path: Path, about: dict[str, str]) -> None:
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, about)
    onnx.save(model, str(path))


def _scores(run: LoadedRun, quantized: nn.Module) -> dict[str, Any]:
    """Both models' scores on the run's own test, from the command that its record holds."""
    from treering.cli.reproduced import tested

    try:
        return {
            "score_name": run.record.evaluation.score_name if run.record.evaluation else "",
            "score_fp32": tested(run.record, run.model),
            "score_int8": tested(run.record, quantized),
        }
    except UserError as error:
        return {"score_name": f"not measured: {error}", "score_fp32": None, "score_int8": None}


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"the export does not hold: {error}") from None
    except OSError as error:
        raise UserError(f"cannot write the file: {error.strerror or error}") from None


def _show(found: Exported, run: LoadedRun) -> None:
    sizes = ", ".join(f"{batch} x {time}" for batch, time in found.checked)
    with standard_output() as out:
        for line in (
            f"{found.file}: {found.bytes / 1e6:.2f} MB, inputs {', '.join(found.inputs)},"
            f" outputs {', '.join(found.outputs)}; batch and time are free",
            f"checked in onnxruntime at batch x time {sizes}: largest difference"
            f" {found.difference:.1e}",
        ):
            out.print(line, markup=False, soft_wrap=True)
        if found.int8 is not None:
            out.print()
            out.print(_comparison(found.int8, run))


def _comparison(m: dict[str, Any], run: LoadedRun) -> Any:
    table = plain_table(f"Full precision and int8, batch {m['batch']}, {m['tokens']} tokens")
    table.add_column("")
    for heading in ("fp32", "int8", "int8 / fp32"):
        table.add_column(heading, justify="right")

    def row(name: str, unit: str, full: float, small: float, digits: int) -> None:
        ratio = f"{small / full:.2f}" if full else ""
        table.add_row(name, f"{full:.{digits}f} {unit}", f"{small:.{digits}f} {unit}", ratio)

    row("ONNX file", "MB", m["bytes_fp32"] / 1e6, m["bytes_int8"] / 1e6, 3)
    if m["score_fp32"] is None:
        table.add_row("score", m["score_name"], "", "")
    else:
        metric = run.record.task.measure
        scores = [exact(m[f"score_{kind}"], metric) for kind in ("fp32", "int8")]
        table.add_row(m["score_name"] or "score", *scores, "")
    row("onnxruntime, a call", "ms", m["onnxruntime_ms_fp32"], m["onnxruntime_ms_int8"], 3)
    row("PyTorch, a call", "ms", m["eager_ms_fp32"], m["eager_ms_int8"], 3)
    table.add_row("largest difference of outputs", "", f"{m['difference']:.1e}", "")
    return table
