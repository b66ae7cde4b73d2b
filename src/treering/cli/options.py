"""The options that commands share; None means: what fits the task (see `presets`)."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from treering.cli import presets

LARGEST = 10**9
"""Of whole numbers: far above what runs, and safe in 64-bit arithmetic such as steps x batch."""


def _from(smallest: int) -> Callable[[Any, Sequence[Token]], int]:
    def convert(kind: Any, tokens: Sequence[Token]) -> int:
        # Left to itself the parser would round 1.5 to 2 in silence.
        text = tokens[0].value
        if text.isascii() and text.isdecimal() and smallest <= int(text) <= LARGEST:
            return int(text)
        raise ValueError(f"write a whole number from {smallest} to {LARGEST:,}, not {text!r}")

    return convert


def _positive(kind: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"write a number above 0, not {text!r}")
    return number


def _not_negative(kind: Any, tokens: Sequence[Token]) -> float:
    return 0.0 if tokens[0].value in ("0", "0.0") else _positive(kind, tokens)


def default_of(name: str) -> Callable[[Any], str]:
    """What `--help` shows as the default of an option that depends on the task."""
    values = {k: f"{preset[name]:,}" for k, preset in presets.BY_KIND.items() if name in preset}
    if len(values) == len(presets.BY_KIND) and len(set(values.values())) == 1:
        text = values["generated"]
    else:
        text = "; ".join(f"{kind} {value}" for kind, value in values.items())
    return lambda _: text


def _by_task(name: str) -> Parameter:
    return Parameter(show_default=default_of(name))


def _share(kind: Any, tokens: Sequence[Token]) -> float:
    number = _not_negative(kind, tokens)
    if number >= 1:
        raise ValueError(f"write a number from 0 to below 1, not {tokens[0].value!r}")
    return number


Whole = Annotated[int, Parameter(converter=_from(1))]
Seed = Annotated[int, Parameter(converter=_from(0))]
Positive = Annotated[float, Parameter(converter=_positive)]
NotNegative = Annotated[float, Parameter(converter=_not_negative)]
Share = Annotated[float, Parameter(converter=_share)]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*", group=Group("Your own file", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What a file needs to become a task."""

    text: str | None = None
    """Column that holds the text."""
    label: str | None = None
    """Column that holds the label."""
    test: Path | None = None
    """A file of the same kind to test on; without it a part is held out: a tenth of the rows, the
    last twentieth of a continuous text."""
    unit: Literal["character", "word"] | None = None
    """What a language model of a .txt file reads and predicts; characters without it."""
    max_tokens: Annotated[Whole | None, _by_task("max_tokens")] = None
    """Words kept of each text; of listops, tokens of the longest expression trained on."""
    min_tokens: Whole | None = None
    """Repeat a text of fewer words until it has so many; without it texts are as they are."""
    max_words: Annotated[Whole | None, _by_task("max_words")] = None
    """Size of a vocabulary of words; without it every word of the training texts is in (of a
    continuous text, every word that occurs twice)."""


@Parameter(name="*", group=Group("Model", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Sizes of the model."""

    hidden_size: Annotated[Whole | None, _by_task("hidden_size")] = None
    """Width of the recurrent state."""
    embedding_size: Annotated[Whole | None, _by_task("embedding_size")] = None
    """Width of the embeddings of words or characters."""
    pooling: Literal["last", "max", "mean"] | None = None
    """What a classifier of texts reads: the layer's last output, as without it, or the largest or
    mean of its outputs at all words."""
    dropout: Share | None = None
    """Of a classifier's embeddings and of what its head reads; none without it. Between stacked
    layers: --layer lstm:num_layers=2:dropout=0.3."""


@Parameter(name="*", group=Group("Training and testing", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train and how to judge."""

    steps: Annotated[Whole | None, _by_task("steps")] = None
    """Updates of the parameters; of data that is given, instead of --epochs."""
    epochs: Annotated[Whole | None, _by_task("epochs")] = None
    """Passes over the training data."""
    batch_size: Annotated[Whole | None, _by_task("batch_size")] = None
    """Sequences in one update; of a continuous text, how many parallel streams it is cut into."""
    bucket: Annotated[Whole | None, _by_task("bucket")] = None
    """Of a data set: draw so many batches together, sort them by length and cut them again, so that
    little is padding; without it rows come in random order."""
    truncate: Annotated[Whole | None, _by_task("truncate")] = None
    """Tokens of each stream in one update; the state is carried on to the next, gradients are
    not."""
    learning_rate: Annotated[Positive | None, _by_task("learning_rate")] = None
    """Adam's step size."""
    learning_rate_schedule: Literal["constant", "cosine"] | None = None
    """What becomes of it: constant, as without it, or down to 0 along half a cosine."""
    warmup_steps: Whole | None = None
    """Updates in which the learning rate rises to its full value; none without it."""
    weight_decay: NotNegative | None = None
    """By how much, times the learning rate, every parameter shrinks at an update (AdamW)."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of matrix products in training: float32, as without it, or bfloat16 under autocast.
    Validation and test are in float32."""
    clip: Annotated[Positive | None, _by_task("clip")] = None
    """Greatest norm of the gradient."""
    validate_every: Whole | None = None
    """Updates between validations; without it given data is validated after every epoch."""
    stop_at: Positive | None = None
    """Stop as soon as three validations in a row are at least this good: an accuracy such as 1, or
    for a language model its bits per character or perplexity."""
    train_length: Annotated[Whole | None, _by_task("train_length")] = None
    """Longest sequence trained on."""
    curriculum: Literal["uniform", "growing"] | None = None
    """Which lengths an update draws: all with equal probability, as without it, or at first only
    short ones, up to a limit that rises during the first half of training."""
    test_length: Annotated[Whole | None, _by_task("test_length")] = None
    """Longest sequence tested on; the shortest is one longer than trained on."""
    test_every: Annotated[Whole | None, _by_task("test_every")] = None
    """Distance between the lengths tested on; 1 is the benchmark's own grid."""
    test_samples: Annotated[Whole | None, _by_task("test_samples")] = None
    """Sequences tested at each length."""


@Parameter(name="*", group=Group("Running", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a command runs."""

    out: Path = Path("runs")
    """Folder for records, checkpoints and the report."""
    device: str = "cpu"
    """A PyTorch device such as cpu or cuda."""
    threads: Whole | None = None
    """Threads that PyTorch uses; all cores without it. Results depend on it in the last bits."""
    jobs: Whole | None = None
    """Runs at the same time, each in a process of its own; without it one per core, or per thread
    given. `train` has one run."""
    json: Flag = False
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
