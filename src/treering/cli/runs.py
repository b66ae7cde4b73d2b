"""From options to one run: what every command that trains shares."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
import torch

from treering import explain
from treering._errors import UserError
from treering.cli.models import VOCABULARY, Model, build_model
from treering.cli.named_tasks import TaskKind, check_options, kind_of, load
from treering.cli.options import (
    ModelOptions,
    RunOptions,
    TaskOptions,
    TrainingOptions,
    command_line,
    filled,
)
from treering.cli.specs import LayerSpec
from treering.layers import Recurrent, Reordered
from treering.models.baselines import Baseline
from treering.models.layer import Layer
from treering.records import (
    Environment,
    ModelInfo,
    Record,
    TaskInfo,
)
from treering.tasks import DatasetTask, GeneratedTask, StreamTask
from treering.training import (
    Curriculum,
    LengthGrid,
    Progress,
    Settings,
    fit,
    run_id,
)
from treering.training.precision import autocast
from treering.training.seeds import derive

if TYPE_CHECKING:
    from treering.cli.named_tasks import NamedTask

LONGEST_FOLDER = 200


@dataclass(frozen=True)
class Protocol:
    """One task and all that its runs have in common."""

    word: str
    """The task as the user wrote it."""
    kind: TaskKind
    task: "NamedTask"
    given: tuple[TaskOptions, ModelOptions, TrainingOptions]
    """As the user gave them, for the command that reproduces a run."""
    model: ModelOptions
    settings: Settings
    run: RunOptions


def prepare(
    word: str,
    task_options: TaskOptions | None,
    model_options: ModelOptions | None,
    training_options: TrainingOptions | None,
    run_options: RunOptions | None,
) -> Protocol:
    """Load the task and complete the options; UserError for whatever does not fit."""
    given = (
        task_options or TaskOptions(),
        model_options or ModelOptions(),
        training_options or TrainingOptions(),
    )
    run = run_options or RunOptions()
    _check_folder(run.out)
    _check_device(run.device)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    kind, preset = kind_of(word)
    check_options(word, kind, given)
    task = load(word, kind, filled(given[0], preset))
    return _completed(word, task, given, run)


class Loader:
    """Prepares protocols that differ in options; what changes no task does not load one again."""

    def __init__(self, run: RunOptions) -> None:
        self._run = run
        self._loaded: dict[tuple[str, TaskOptions], Protocol] = {}

    def prepare(
        self, word: str, task: TaskOptions, model: ModelOptions, training: TrainingOptions
    ) -> Protocol:
        """As the function of that name; UserError for whatever does not fit."""
        if (word, task) not in self._loaded:
            self._loaded[word, task] = prepare(word, task, model, training, self._run)
            return self._loaded[word, task]
        first = self._loaded[word, task]
        given = (task, model, training)
        check_options(word, first.kind, given)
        return _completed(word, first.task, given, self._run)


def _completed(
    word: str,
    task: "NamedTask",
    given: tuple[TaskOptions, ModelOptions, TrainingOptions],
    run: RunOptions,
) -> Protocol:
    kind, preset = kind_of(word)
    duration = "epochs" if given[2].steps is not None else None
    training = filled(given[2], {k: v for k, v in preset.items() if k != duration})
    model = filled(given[1], preset)
    return Protocol(word, kind, task, given, model, _settings(task, training), run)


def _check_folder(out: Path) -> None:
    """Before any work: the last name of --out that exists must be a folder."""
    try:
        existing = next((path for path in (out, *out.parents) if path.exists()), None)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; give a folder") from None
    if existing is not None and not existing.is_dir():
        raise UserError(f"--out {out}: {existing} is not a folder; choose another one")


def _check_device(device: str) -> None:
    try:
        # Not every device that PyTorch knows by name computes: meta has no numbers.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"device {device!r} cannot be used: {reason}; leave out --device to use the CPU"
        ) from None


def _settings(task: "NamedTask", options: TrainingOptions) -> Settings:
    common = {
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "learning_rate_schedule": options.learning_rate_schedule or "constant",
        "warmup_steps": options.warmup_steps or 0,
        "weight_decay": options.weight_decay or 0.0,
        "precision": options.precision or "float32",
        "clip": options.clip,
        "steps": options.steps,
        "epochs": options.epochs,
        "validation_every": options.validate_every,
        "stop_at": options.stop_at,
    }
    if isinstance(task, StreamTask):
        assert options.truncate is not None
        return Settings(**common, truncate=options.truncate, log_every=20)
    if isinstance(task, DatasetTask):
        return Settings(**common, bucket=options.bucket, log_every=20)
    longest, tested = options.train_length or 0, options.test_length or 0
    if tested <= longest:
        raise UserError(
            f"--test-length {tested} must be above --train-length {longest}: the score is the"
            " accuracy on sequences longer than trained on"
        )
    if longest < task.shortest:
        raise UserError(
            f"--train-length {longest}: {task.name} has no sequences shorter than {task.shortest};"
            f" write --train-length {task.shortest} or more"
        )
    grid = {
        "start": longest + 1,
        "stop": tested,
        "step": options.test_every,
        "samples": options.test_samples,
    }
    return Settings(
        **common,
        curriculum=Curriculum(task.shortest, longest, kind=options.curriculum or "uniform"),
        evaluation=LengthGrid(**grid, batch=512),
        log_every=50,
    )


def build(protocol: Protocol, spec: LayerSpec, seed: int) -> tuple[Model, list, str]:
    """The model with its initial parameters drawn from the seed, its penalties, what runs it."""
    task, sizes = protocol.task, protocol.model
    assert sizes.hidden_size is not None
    if spec.reads_ranks and not (isinstance(task, DatasetTask) and task.train.ranks is not None):
        raise UserError(
            f"{spec.text!r} merges along trees that come with the data, and {task.name} has none;"
            " train it on sst, sst-binary or listops, or leave schedule out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "parameters"))
        model, penalties = build_model(
            spec,
            _kind(task),
            task.input_size,
            task.output_size,
            sizes.hidden_size,
            sizes.embedding_size,
            task if isinstance(task, GeneratedTask) else None,
            **_reading(sizes),
            separator=task.separator_id if isinstance(task, DatasetTask) else None,
        )
        model.to(protocol.run.device)
        layer = model.layer
        if isinstance(layer, Baseline):
            return model, penalties, f"PyTorch: {type(layer).__name__}"
        x = torch.zeros(2, 8, _sizes(layer).input_size, device=protocol.run.device)
        ranks = torch.zeros(2, 8) if spec.reads_ranks else None
        # Under the seed, for a schedule may be drawn.
        with autocast(protocol.settings, x.device):
            return model, penalties, str(explain(layer, x, ranks=ranks))


def _sizes(layer: Layer) -> Recurrent | Baseline:
    """Where a layer's sizes stand."""
    return layer.layer if isinstance(layer, Reordered) else layer


def _lengths(protocol: Protocol) -> dict[str, Any]:
    """What a record says of how long training sequences are, or of what else makes them hard."""
    task, curriculum = protocol.task, protocol.settings.curriculum
    if isinstance(task, GeneratedTask):
        return {"training_lengths": (curriculum.shortest, curriculum.longest)}
    if isinstance(task, DatasetTask) and task.sizes is not None:
        return {"training_lengths": task.sizes.trained, "size": task.sizes.name}
    return {}


def _reading(options: ModelOptions) -> dict[str, Any]:
    """How a classifier reads the layer's outputs, under the names that records have for it."""
    return {"pooling": options.pooling or "last", "dropout": options.dropout or 0.0}


def _kind(task: "NamedTask") -> Literal["generated", "dataset", "stream"]:
    if isinstance(task, GeneratedTask):
        return "generated"
    return "stream" if isinstance(task, StreamTask) else "dataset"


def folder_of(protocol: Protocol, spec: LayerSpec, seed: int) -> Path:
    """Where a run lives: the same command finds the same folder, and goes on in it."""
    sizes = {
        "hidden_size": protocol.model.hidden_size,
        "embedding_size": protocol.model.embedding_size,
        "device": protocol.run.device,
        **_reading(protocol.model),
    }
    settings, ranks = protocol.settings, spec.reads_ranks
    name = run_id(protocol.task, spec.text, settings, seed, sizes, ranks=ranks)
    layer = "".join(c if c.isalnum() or c in "-+=._" else "_" for c in spec.text)
    # Sixteen numbers of a penalty would be more than a file system takes; `name` tells them apart.
    return protocol.run.out / protocol.task.name / layer[:LONGEST_FOLDER] / f"seed{seed}-{name}"


def run_one(protocol: Protocol, spec: LayerSpec, seed: int, progress: Progress) -> Record:
    """Train and evaluate one model, or take up where an earlier call of the same left off."""
    model, penalties, ran = build(protocol, spec, seed)
    task, sizes = protocol.task, _sizes(model.layer)
    folder = folder_of(protocol, spec, seed)
    record = Record(
        run_id=folder.name,
        command=command_line(
            ["train", protocol.word, "--layer", spec.text, "--seed", str(seed)],
            *protocol.given,
            protocol.run,
            leave_out=("out", "json", "jobs"),
        ),
        task=TaskInfo(
            name=task.name,
            kind=_kind(task),
            chance=task.chance,
            classes=task.output_size,
            **_lengths(protocol),
            labels=task.labels if isinstance(task, DatasetTask) else (),
            max_tokens=task.max_tokens if isinstance(task, DatasetTask) else None,
            min_tokens=task.min_tokens if isinstance(task, DatasetTask) else None,
            separator=task.separator if isinstance(task, DatasetTask) else None,
            metric=task.metric,
        ),
        model=ModelInfo(
            layer=spec.text,
            hidden_size=sizes.hidden_size,
            embedding_size=protocol.model.embedding_size,
            num_layers=sizes.num_layers,
            bidirectional=sizes.bidirectional,
            **_reading(protocol.model),
            parameters=_count(model),
            layer_parameters=_count(model.get_submodule("layer")),
            explain=ran,
        ),
        settings={},
        seed=seed,
        environment=environment(protocol.run.device),
    )
    with enough_memory():
        return fit(
            model,
            task,
            protocol.settings,
            folder=folder,
            seed=seed,
            record=record,
            penalties=penalties,
            progress=progress,
            device=protocol.run.device,
            files=(
                {} if isinstance(task, GeneratedTask) else {VOCABULARY: task.vocabulary.to_json()}
            ),
        )


@contextmanager
def enough_memory(smaller: str = "--batch-size or --hidden-size") -> Iterator[None]:
    """A UserError that asks for smaller options where PyTorch finds no memory."""
    try:
        yield
    except RuntimeError as error:
        # PyTorch has a class of its own for this on accelerators only.
        told = any(words in str(error) for words in ("allocate memory", "Storage size calculation"))
        if not told and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"not enough memory for this model and batch; write a smaller {smaller}"
        ) from None


def environment(device: str) -> Environment:
    """What a record says of the machine."""
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        treering=version("treering"),
        platform=platform.platform(),
        processor=processor(),
        threads=torch.get_num_threads(),
        device=device,
        dtype=str(torch.get_default_dtype()).removeprefix("torch."),
    )


def processor() -> str:
    """The processor's name, its cores, and the instructions PyTorch uses on it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    cores = psutil.cpu_count(logical=True)
    return f"{name}, {cores} cores, {torch.backends.cpu.get_cpu_capability()}"


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
