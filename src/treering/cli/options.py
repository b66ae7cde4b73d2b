"""The options that commands share; None means: what fits the task (see `presets`)."""

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What a file needs to become a task."""

    text: str | None = None
    """Column that holds the text, if the task is a file."""
    label: str | None = None
    """Column that holds the label, if the task is a file."""
    test: Path | None = None
    """A file of the same columns to test on; without it a tenth of the rows is held out."""
    max_tokens: int | None = None
    """Words kept of each text."""
    max_words: int | None = None
    """Size of the vocabulary; without it every word of the training texts is in."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Sizes of the model."""

    hidden_size: int | None = None
    """Width of the recurrent state."""
    embedding_size: int | None = None
    """Width of word embeddings."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train and how to judge."""

    steps: int | None = None
    """Updates of the parameters (generated tasks)."""
    epochs: int | None = None
    """Passes over the training texts."""
    batch_size: int | None = None
    """Sequences in one update."""
    learning_rate: float | None = None
    """Adam's step size."""
    clip: float | None = None
    """Greatest norm of the gradient."""
    train_length: int | None = None
    """Longest sequence trained on (generated tasks)."""
    test_length: int | None = None
    """Longest sequence tested on (generated tasks)."""
    test_every: int | None = None
    """Distance between the lengths tested on; 1 is the benchmark's own grid."""
    test_samples: int | None = None
    """Sequences tested at each length."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a command runs."""

    out: Path = Path("runs")
    """Folder for records, checkpoints and the report."""
    device: str = "cpu"
    """A PyTorch device such as cpu or cuda."""
    threads: int | None = None
    """Threads that PyTorch uses; all cores without it. Results depend on it in the last bits."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the result as JSON, and nothing else, on standard output."""


def filled(options: Any, preset: dict[str, Any]) -> Any:
    """The options with the preset where nothing was given."""
    missing = {
        field.name: preset[field.name]
        for field in fields(options)
        if getattr(options, field.name) is None and field.name in preset
    }
    return replace(options, **missing)


def command_line(words: list[str], *groups: Any, leave_out: tuple[str, ...] = ()) -> str:
    """The command that gives these options again: `treering train parity_check --steps 10`."""
    for group in groups:
        for field in fields(group):
            value = getattr(group, field.name)
            if value is None or value == field.default or field.name in leave_out:
                continue
            flag = f"--{field.name.replace('_', '-')}"
            words = [*words, flag] if value is True else [*words, flag, str(value)]
    return shlex.join(["treering", *words])
