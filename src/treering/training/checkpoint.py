"""Checkpoints: one safetensors file and one JSON file that names it. Nothing is ever unpickled.

A folder holds `checkpoint.json` and `checkpoint-<step>-<hash>.safetensors`. Saving writes the
tensors under a new name, then replaces the JSON in one step, then removes the tensor files that
the JSON no longer names. Whatever the moment of a crash, the JSON names a whole tensor file, and
its SHA-256 proves it.

Cost: a save holds a second copy of all tensors in memory while it writes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from treering._errors import UserError
from treering.records import CurvePoint, write_atomically

FILE_NAME = "checkpoint.json"
VERSION = 2
START_OVER = "delete the folder to start over"


def _bare_name(name: str) -> str:
    if Path(name).name != name:
        raise ValueError("it must be a file of the same folder")
    return name


class Best(BaseModel):
    """The validation that chose the parameters kept so far."""

    score: float
    step: int
    epoch: int | None


class Position(BaseModel):
    """How far a run is: everything that is not a tensor and that the next step depends on."""

    model_config = ConfigDict(extra="forbid")

    step: int = 0
    learning: list[CurvePoint] = []
    best: Best | None = None
    good_checks: int = 0
    """Validations in a row that reached `stop_at`."""
    losses: float = 0.0
    """Sum over the steps since the last point of the curve; `scores` likewise."""
    scores: float = 0.0
    summed_steps: int = 0
    tokens: int = 0
    seconds: dict[str, float] = {}
    wall_seconds: float = 0.0
    peak_memory: int = 0
    threads: int = 1


class Header(BaseModel):
    """The content of `checkpoint.json`."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["treering checkpoint"] = "treering checkpoint"
    version: Literal[2] = VERSION
    file: Annotated[str, AfterValidator(_bare_name)]
    sha256: str
    shared: dict[str, str]
    """Names of tensors that are another tensor under a second name, and that one's name."""
    identity: dict[str, JsonValue]
    """What the run is: a run with another identity must not go on from here."""
    position: Position


class Checkpoint(NamedTuple):
    header: Header
    tensors: dict[str, Tensor]


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    identity: Mapping[str, JsonValue],
    position: Position,
) -> None:
    """Write a checkpoint that replaces the folder's present one as a whole.

    Args:
        tensors: By name. One tensor under several names is written once and shared again by
            `load`; views that only overlap are written each for itself.

    Raises:
        UserError: the folder cannot be written; the older checkpoint is still there, whole.
    """
    owners: dict[int, str] = {}
    shared: dict[str, str] = {}
    unique: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        owner = owners.setdefault(id(tensor), name)
        if owner == name:
            # A copy: safetensors refuses memory that two tensors share, and strided memory.
            unique[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        else:
            shared[name] = owner
    data = to_bytes(unique)
    digest = hashlib.sha256(data).hexdigest()
    file = f"checkpoint-{position.step}-{digest[:12]}.safetensors"
    header = Header(
        file=file, sha256=digest, shared=shared, identity=dict(identity), position=position
    )
    try:
        write_atomically(folder / file, data)
        write_atomically(folder / FILE_NAME, header.model_dump_json(indent=1).encode() + b"\n")
    finally:
        _remove_unnamed(folder)


def _remove_unnamed(folder: Path) -> None:
    """Remove what `checkpoint.json` does not name: older tensors, and what failed saves left.

    A process killed while it writes leaves a temporary `.part` file, as large as the tensors.
    """
    header = read_header(folder)
    for pattern in ("checkpoint-*.safetensors", ".checkpoint*.part"):
        for path in folder.glob(pattern):
            if header is None or path.name != header.file:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise UserError(
                        f"cannot remove {path}: {error.strerror or error}; "
                        "make the folder writable or choose another one"
                    ) from None


def read_header(folder: Path) -> Header | None:
    """The JSON half, or None if the folder has none.

    Raises:
        UserError: unreadable, damaged, or not a checkpoint of this version.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise UserError(f"{path} is damaged: not JSON; {START_OVER}") from None
    if not isinstance(content, dict) or content.get("format") != "treering checkpoint":
        raise UserError(f"{path} is not a treering checkpoint; choose another folder for this run")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path} has checkpoint version {content.get('version')!r}, this treering reads "
            f"version {VERSION}; go on with the treering that wrote it, or {START_OVER}"
        )
    try:
        return Header.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path} is damaged: {where}: {problem['msg']}; {START_OVER}") from None


def load(folder: Path) -> Checkpoint:
    """Read both halves, the hash checked; shared tensors are one tensor again, all on the CPU.

    Raises:
        UserError: missing, damaged, truncated or foreign; the path, the reason, what to do.
    """
    header = read_header(folder)
    if header is None:
        raise UserError(
            f"no checkpoint in {folder}: {FILE_NAME} is missing; "
            "give the folder of a run, or delete the folder to start over"
        )
    path = folder / header.file
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{folder / FILE_NAME} names {header.file}, which is missing; {START_OVER}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if hashlib.sha256(data).hexdigest() != header.sha256:
        raise UserError(
            f"{path} is damaged: its SHA-256 is not the one in {FILE_NAME} "
            f"({len(data)} bytes read); {START_OVER}"
        )
    try:
        tensors = from_bytes(data)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}; {START_OVER}") from None
    for name, owner in header.shared.items():
        if owner not in tensors:
            raise UserError(
                f"{folder / FILE_NAME} is damaged: {name} shares {owner}, which {header.file} "
                f"does not hold; {START_OVER}"
            )
        tensors[name] = tensors[owner]
    return Checkpoint(header, tensors)


def check_identity(
    saved: Mapping[str, JsonValue], given: Mapping[str, JsonValue], folder: Path
) -> None:
    """Raise UserError naming the first entry in which a saved run and the given one differ."""
    difference = _first_difference(saved, given, "")
    if difference is not None:
        where, there, here = difference
        raise UserError(
            f"{folder} holds another run: {where} is {there} there, {here} here; "
            f"choose another folder, or {START_OVER}"
        )


def _first_difference(
    saved: JsonValue | Mapping[str, JsonValue],
    given: JsonValue | Mapping[str, JsonValue],
    path: str,
) -> tuple[str, str, str] | None:
    if isinstance(saved, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys((*given, *saved)):
            inner = f"{path}.{key}" if path else key
            if key not in saved or key not in given:
                there, here = (
                    json.dumps(side[key]) if key in side else "absent" for side in (saved, given)
                )
                return inner, there, here
            difference = _first_difference(saved[key], given[key], inner)
            if difference is not None:
                return difference
        return None
    return None if saved == given else (path, json.dumps(saved), json.dumps(given))


def tensors_of(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Parameters and persistent buffers themselves (no copies), named `prefix.name`.

    Raises:
        UserError: the module keeps extra state that is not a tensor.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{type(module).__name__} keeps {name} as {type(value).__name__}, and checkpoints "
                "hold tensors only; make it a buffer (register_buffer)"
            )
        tensors[f"{prefix}.{name}"] = value
    return tensors


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of each tensor; one tensor under several names stays one tensor."""
    known: dict[int, Tensor] = {}
    return {
        name: known.setdefault(id(tensor), tensor.detach().clone())
        for name, tensor in tensors.items()
    }


def copy_into(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor], folder: Path) -> None:
    """Copy the sources of the same names into the targets, in place.

    In place, because the optimiser and other modules hold the targets, and because memory that
    torch allocated is aligned while a file's content is not: alignment can change the last bit.

    Raises:
        UserError: a name, shape or dtype differs; nothing was copied.
    """
    for name in dict.fromkeys((*targets, *sources)):
        there = _describe(sources.get(name))
        here = _describe(targets.get(name))
        if there != here:
            raise UserError(
                f"{folder} holds another model: {name} is {there} there, {here} here; "
                f"build the model it was saved from, or {START_OVER}"
            )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(sources[name])


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def restore(model: nn.Module, folder: str | Path) -> None:
    """Give a model the parameters a run has chosen: the evaluated ones, if it is finished.

    Of an unfinished run, the best on validation so far, or the last if none are selected so.

    Args:
        model: Built as for the run; only its parameters and buffers are overwritten.

    Raises:
        UserError: no readable checkpoint, or of another model.
    """
    folder = Path(folder)
    tensors = load(folder).tensors
    copy_into(tensors_of(model, "model"), chosen(tensors), folder)


def chosen(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The selected parameters in a checkpoint, under the names of the model's own."""
    best = {name: t for name, t in tensors.items() if name.startswith("best.")}
    if best:
        return {"model." + name.removeprefix("best."): tensor for name, tensor in best.items()}
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
