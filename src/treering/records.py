"""One run, one record: the only thing the report reads.

A record is the JSON file `record.json` in the folder of one run (one task, one layer, one seed).
It holds everything a table or a plot needs, and the command that produces it again. This module
defines its fields, writes and reads it, and never imports torch: reading results must not need
what made them.
"""

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from treering._errors import UserError

SCHEMA_VERSION = 2
FILE_NAME = "record.json"

Status = Literal["running", "interrupted", "diverged", "finished"]
"""`diverged`: its loss or gradient became infinite or no number; the same command would again."""


@dataclass(frozen=True)
class Metric:
    """What a score measures and which way is better: all that makes accuracy unlike perplexity."""

    name: str
    better: Literal["higher", "lower"]
    perfect: float
    """The best there can be."""
    phrase: str
    """How a sentence states a score: `{} bits per character`."""
    unit: str
    """Of a difference; empty if it has none."""
    decimals: int
    """That are worth reading, after multiplication by `scale`."""
    guess: str = ""
    """What a task's `chance` is the score of, if its name does not say it."""
    scale: float = 1.0
    """100 for what is read in percent."""
    of_loss: Callable[[float], float] | None = None
    """The score that a mean loss in nats a token is; None: a score is no form of the loss."""
    logarithmic: bool = False
    """Whether ratios rather than differences count."""

    def gain(self, score: float, over: float) -> float:
        """Difference of two scores, positive if the first is the better one."""
        return score - over if self.better == "higher" else over - score

    def way(self, score: float, chance: float) -> float:
        """0 at chance, 1 at perfect, below 0 where guessing does better."""
        values = (score, chance, self.perfect)
        if self.logarithmic:
            values = tuple(math.log(value) if value > 0 else -math.inf for value in values)
        score, chance, perfect = values
        return (score - chance) / (perfect - chance) if chance != perfect else 0.0


def _exp(number: float) -> float:
    # math.exp raises where a diverged model's loss is large.
    return math.exp(number) if number < 700 else math.inf


ACCURACY = Metric("accuracy", "higher", 1.0, "{}", "points", 1, scale=100.0)
BITS = Metric(
    "bits per character",
    "lower",
    0.0,
    "{} bits per character",
    "bits",
    3,
    guess="guessing by frequency",
    of_loss=lambda nats: nats / math.log(2),
)
PERPLEXITY = Metric(
    "perplexity",
    "lower",
    1.0,
    "perplexity {}",
    "",
    1,
    guess="guessing by frequency",
    of_loss=_exp,
    logarithmic=True,
)
METRICS = {metric.name: metric for metric in (ACCURACY, BITS, PERPLEXITY)}


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric of {', '.join(METRICS)}")
    return name


def _utc(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an ISO-8601 time such as 2026-01-31T12:00:00+00:00"
        ) from None
    if moment.utcoffset() != timedelta(0):
        raise ValueError(f"{text!r} is not in UTC; end it with +00:00")
    return text


def _lists_for_tuples(value: object) -> object:
    # JSON has no tuples: written as lists, they would come back unequal to what was given.
    if isinstance(value, dict):
        return {key: _lists_for_tuples(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_lists_for_tuples(inner) for inner in value]
    return value


def utc_now() -> str:
    """The present moment as a record writes it, to the second: `2026-01-31T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Part(BaseModel):
    # A diverged run has a NaN loss. JSON cannot say NaN, and pydantic would write null, which no
    # float field reads back: the string "NaN" is read back as what it was.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class TaskInfo(_Part):
    """What was learnt."""

    name: str
    kind: Literal["generated", "dataset", "stream"]
    chance: NonNegativeFloat
    """Score of the best guess that does not look at the input; drawn in plots."""
    classes: PositiveInt
    """Answers at each position; of a stream, tokens of the vocabulary."""
    training_lengths: tuple[int, int] | None = None
    """Shortest and longest training sequence, both included; None for data that is given, unless it
    says how large its rows are."""
    size: str = "length"
    """What `training_lengths` and `Evaluation.by_length` count, such as operators."""
    labels: tuple[str, ...] = ()
    """Names of a data set's classes, in their order."""
    max_tokens: PositiveInt | None = None
    """Words kept of each text of a data set."""
    min_tokens: PositiveInt | None = None
    """Words up to which a shorter text is repeated; None: it is as it is."""
    separator: str | None = None
    """The word between the two sentences of each text; None: a text is one."""
    metric: Annotated[str, AfterValidator(_known_metric)] = "accuracy"
    """What all scores of the run measure: a name in METRICS."""

    @property
    def measure(self) -> Metric:
        """The metric itself."""
        return METRICS[self.metric]


class ModelInfo(_Part):
    """What learnt it."""

    layer: str
    """The layer's specification, e.g. `ql-lstm:block_size=8+tree-order`."""
    hidden_size: PositiveInt
    embedding_size: PositiveInt | None = None
    num_layers: PositiveInt = 1
    bidirectional: bool = False
    pooling: Literal["last", "max", "mean"] = "last"
    """How a classifier makes one vector of a text's outputs."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of a classifier's embeddings and of what its head reads; the layer's own is in `layer`."""
    parameters: NonNegativeInt
    """Of the whole model, with embedding and head."""
    layer_parameters: NonNegativeInt
    """Of the recurrent layers alone."""
    explain: str = ""
    """Which schedule and kernel ran, in words."""


class Environment(_Part):
    """Where it ran."""

    python: str
    torch: str
    treering: str
    platform: str
    processor: str
    threads: PositiveInt
    device: str
    dtype: str


class CurvePoint(_Part):
    """One point of the learning curve; `seconds` counts from the start of training."""

    step: NonNegativeInt
    epoch: NonNegativeInt | None = None
    loss: float
    train_score: NonNegativeFloat | None = None
    validation_score: NonNegativeFloat | None = None
    seconds: NonNegativeFloat


STEP_PARTS = ("data", "forward", "backward", "optimizer")
"""What an update consists of: a batch is made, loss and score, gradients, clipping and Adam."""
PARTS = (*STEP_PARTS, "evaluation", "checkpoint", "rest")
"""What a run's time goes to. `evaluation` is validation too, `rest` what no other part is: setting
up, the record, telling of progress."""


class LengthScore(NamedTuple):
    """Accuracy at one sequence length, or whatever else `TaskInfo.size` names; an array of three
    numbers in the file."""

    length: int
    accuracy: float
    samples: int


class Evaluation(_Part):
    """How well the trained model did."""

    by_length: list[LengthScore] = []
    score: NonNegativeFloat
    """The one number the run is compared by; what it measures and which way is better is
    `TaskInfo.metric`."""
    score_name: str
    """Names the number's grid: `mean accuracy, lengths 41..500 step 20, 512 samples each`."""
    test_score: NonNegativeFloat | None = None
    validation_score: NonNegativeFloat | None = None
    selected: str
    """Which weights were evaluated: `last step`, `best validation accuracy (epoch 12)`."""


class Cost(_Part):
    """What it took. All zero before the first step."""

    wall_seconds: NonNegativeFloat = 0.0
    train_tokens: NonNegativeInt = 0
    tokens_per_second: NonNegativeFloat = 0.0
    peak_memory_bytes: NonNegativeInt = 0
    where: dict[str, NonNegativeFloat] = {}
    """Seconds by part, all of PARTS together `wall_seconds`; without `checkpoint` and `rest` where
    an older version wrote them."""


class Record(BaseModel):
    """One run: one task, one layer, one seed.

    Assignable, because a run's record grows while it trains (`record.status = "finished"`);
    its parts are frozen and replaced whole. Unknown fields and impossible values are refused.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    schema_version: Literal[2] = SCHEMA_VERSION
    run_id: Annotated[str, Field(min_length=1)]
    created: Annotated[str, AfterValidator(_utc)] = Field(default_factory=utc_now)
    status: Status = "running"
    command: str
    """Typed as it stands, it produces this run again."""
    task: TaskInfo
    model: ModelInfo
    settings: Annotated[dict[str, JsonValue], BeforeValidator(_lists_for_tuples)]
    """The training settings as used; runs are averaged only if these agree."""
    seed: int
    environment: Environment
    learning: list[CurvePoint] = []
    evaluation: Evaluation | None = None
    cost: Cost = Cost()

    @model_validator(mode="after")
    def _accuracies_are_fractions(self) -> Self:
        scores = [self.task.chance]
        for point in self.learning:
            scores += [point.train_score or 0.0, point.validation_score or 0.0]
        if self.evaluation is not None:
            e = self.evaluation
            scores += [e.score, e.test_score or 0.0, e.validation_score or 0.0]
        if self.task.metric == ACCURACY.name and max(scores) > 1:
            raise ValueError(f"an accuracy of {max(scores):g} is above 1")
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a record file, or the `record.json` of a run's folder.

        Raises:
            UserError: the file is missing, unreadable, not JSON, not a record, of another schema
                version, or damaged; the message names the path and what is wrong.
        """
        path = Path(path)
        if path.is_dir():
            path = path / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(
                f"no record at {path}; give the folder of a run, which holds {FILE_NAME}"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is damaged or not a record: byte {error.start} is not UTF-8 text"
            ) from None
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path} is damaged or not a record: not JSON, {error.msg} "
                f"at line {error.lineno}, column {error.colno}"
            ) from None
        except RecursionError:
            raise UserError(
                f"{path} is damaged or not a record: brackets nested too deep"
            ) from None
        if not isinstance(content, dict) or "schema_version" not in content:
            raise UserError(
                f"{path} is JSON, but not a treering record: it has no schema_version; "
                "remove it from the folders given, or give the runs' folders alone"
            )
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has record schema {version!r}, this treering reads schema "
                f"{SCHEMA_VERSION}; use the version of treering that wrote it, or run it again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(f"{path} is a damaged record: {_first_problem(error)}") from None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `record.json` into `folder` (made if missing), whole or not at all.

        Returns:
            The path of the file.

        Raises:
            UserError: the folder cannot be made or written (read-only, disk full).
        """
        path = Path(folder) / FILE_NAME
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n")
        return path


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    where = ".".join(str(part) for part in problems[0]["loc"]) or "the record"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {problems[0]['msg']}{more}"


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it.

    The bytes go to a temporary file in the same folder, are forced to the disk, and take the
    file's place in one step. Missing folders are made.

    Raises:
        UserError: any failure of the file system, with the path and its reason; the temporary file
            is gone and an older file at `path` is untouched.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            # Also after Ctrl-C. After a successful replace there is nothing left to remove.
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space there or choose another folder"
        ) from error


def find_records(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
) -> list[Record]:
    """Load the records at the given paths, each once, in the order of their paths.

    Args:
        paths: Record files, run folders, or folders that hold runs at any depth.

    Raises:
        UserError: a path does not exist, no record lies under any of them, or one is damaged.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    given = [Path(path) for path in paths]
    found: set[Path] = set()
    for path in given:
        if path.is_dir():
            found.update(file.resolve() for file in path.rglob(FILE_NAME))
        elif path.exists():
            found.add(path.resolve())
        else:
            raise UserError(f"no such file or folder: {path}; give a folder that holds runs")
    if not found:
        raise UserError(
            f"no {FILE_NAME} under {', '.join(map(str, given)) or 'nothing'}; "
            "`treering train` and `treering compare` write one for each run"
        )
    return [Record.load(path) for path in sorted(found)]
