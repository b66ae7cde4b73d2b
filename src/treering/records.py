"""One run, one record: the only thing the report reads.

A record is the JSON file `record.json` in the folder of one run (one task, one layer, one seed).
It holds everything a table or a plot needs, and the command that produces it again. This module
defines its fields, writes and reads it, and turns several runs into means with intervals. It never
imports torch: reading results must not need what made them.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
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
)

from treering._errors import UserError

SCHEMA_VERSION = 1
FILE_NAME = "record.json"

Status = Literal["running", "interrupted", "finished"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


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
    kind: Literal["generated", "dataset"]
    chance: Fraction
    """Accuracy of the best guess that does not look at the input; drawn in plots."""
    classes: PositiveInt
    training_lengths: tuple[int, int] | None = None
    """Shortest and longest training sequence, both included; None for a dataset."""
    metric: Literal["accuracy"] = "accuracy"


class ModelInfo(_Part):
    """What learnt it."""

    layer: str
    """The layer's specification, e.g. `ql-lstm:block_size=8+tree-order`."""
    hidden_size: PositiveInt
    embedding_size: PositiveInt | None = None
    num_layers: PositiveInt = 1
    bidirectional: bool = False
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
    train_accuracy: Fraction | None = None
    validation_accuracy: Fraction | None = None
    seconds: NonNegativeFloat


class LengthScore(NamedTuple):
    """Accuracy at one sequence length; an array of three numbers in the file."""

    length: int
    accuracy: float
    samples: int


class Evaluation(_Part):
    """How well the trained model did."""

    by_length: list[LengthScore] = []
    score: Fraction
    """The one number the run is compared by."""
    score_name: str
    """Names the number's grid: `mean accuracy, lengths 41..500 step 20, 512 samples each`."""
    test_accuracy: Fraction | None = None
    validation_accuracy: Fraction | None = None
    selected: str
    """Which weights were evaluated: `last step`, `best validation accuracy (epoch 12)`."""


class Cost(_Part):
    """What it took. All zero before the first step."""

    wall_seconds: NonNegativeFloat = 0.0
    train_tokens: NonNegativeInt = 0
    tokens_per_second: NonNegativeFloat = 0.0
    peak_memory_bytes: NonNegativeInt = 0
    where: dict[str, NonNegativeFloat] = {}
    """Seconds in `data`, `forward`, `backward`, `optimizer`, `evaluation`."""


class Record(BaseModel):
    """One run: one task, one layer, one seed.

    Assignable, because a run's record grows while it trains (`record.status = "finished"`);
    its parts are frozen and replaced whole. Unknown fields and impossible values are refused.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    schema_version: Literal[1] = SCHEMA_VERSION
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


@dataclass(frozen=True)
class Estimate:
    """Mean of n values and the 95% interval of that mean."""

    n: int
    mean: float
    half_width: float | None
    """The interval is mean ± half_width; None for a single value, which says nothing of spread."""
    minimum: float
    maximum: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval, not cut off at 0 or 1."""
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval exists and lies on one side of 0: a difference that can be told."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95% interval by Student's t: mean ± t(0.975, n-1) s / sqrt(n).

    s is the sample standard deviation (n - 1 in the denominator). The interval supposes that the
    values are independent and near normal; with few seeds, of which some learn and some do not,
    they are not, so minimum and maximum come with it.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("estimate of no values; give at least one")
    mean = math.fsum(values) / n
    half_width = None
    if n > 1:
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
        half_width = student_t(n - 1) * math.sqrt(variance / n)
    return Estimate(n, mean, half_width, min(values), max(values))


@lru_cache
def student_t(degrees: int) -> float:
    """The t with 95% of Student's distribution between -t and t.

    For whole degrees of freedom the distribution is a finite sum in theta = atan(t / sqrt(degrees))
    (Abramowitz and Stegun, 26.7.3 and 26.7.4), growing in theta; bisection finds its root.

    Raises:
        ValueError: fewer than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, got {degrees}")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _central_probability(middle, degrees) < 0.95:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(degrees)


def _central_probability(theta: float, degrees: int) -> float:
    cosine, odd = math.cos(theta), degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(odd, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    total *= math.sin(theta)
    return 2 / math.pi * (theta + total) if odd else total


@dataclass(frozen=True)
class Summary:
    """The runs of one model on one task under one protocol, over seeds."""

    task: TaskInfo
    model: ModelInfo
    settings: dict[str, JsonValue]
    score_name: str
    """Empty if no run is finished."""
    runs: tuple[Record, ...]
    """Finished and evaluated, one per seed, by seed."""
    unfinished: tuple[Record, ...]
    """Running or interrupted, by seed; in none of the means."""
    repeated: tuple[Record, ...]
    """Other runs of seeds that are in already: counting a seed twice would narrow the interval."""
    score: Estimate | None
    tokens_per_second: Estimate | None
    wall_seconds: Estimate | None
    peak_memory_bytes: int | None
    """The largest of the runs."""

    @property
    def layer(self) -> str:
        return self.model.layer

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def scores(self) -> dict[int, float]:
        """Score by seed."""
        return {run.seed: run.evaluation.score for run in self.runs if run.evaluation}


def summarise(records: Iterable[Record]) -> list[Summary]:
    """Group runs that differ only in seed, and average over the seeds.

    Runs belong together if task, model (layer, sizes, parameters), settings, device, number format
    and the name of the score agree; an unfinished run, whose score has no name yet, joins its
    siblings. Of several runs of one seed the newest finished one counts.

    Returns:
        One summary per group, in the order in which tasks and layers first appear.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(_protocol(record), []).append(record)
    summaries = []
    for group in groups.values():
        named: dict[str, list[Record]] = {}
        unfinished: list[Record] = []
        for record in group:
            if record.status == "finished" and record.evaluation is not None:
                named.setdefault(record.evaluation.score_name, []).append(record)
            else:
                unfinished.append(record)
        if not named:
            summaries.append(_summary("", [], unfinished))
        for position, (score_name, finished) in enumerate(named.items()):
            summaries.append(_summary(score_name, finished, [] if position else unfinished))
    tasks = list(dict.fromkeys(summary.task.name for summary in summaries))
    return sorted(summaries, key=lambda summary: tasks.index(summary.task.name))


def _protocol(record: Record) -> str:
    content = record.model_dump(mode="json", include={"task", "model", "settings"})
    content["model"].pop("explain")
    content["on"] = (record.environment.device, record.environment.dtype)
    return json.dumps(content, sort_keys=True)


def _summary(score_name: str, finished: list[Record], unfinished: list[Record]) -> Summary:
    newest: dict[int, Record] = {}
    repeated: list[Record] = []
    for record in sorted(finished, key=lambda record: (record.created, record.run_id)):
        if record.seed in newest:
            repeated.append(newest[record.seed])
        newest[record.seed] = record
    runs = tuple(newest[seed] for seed in sorted(newest))
    first = (runs or tuple(unfinished))[0]

    def over_seeds(values: list[float]) -> Estimate | None:
        return estimate(values) if values else None

    return Summary(
        task=first.task,
        model=first.model,
        settings=first.settings,
        score_name=score_name,
        runs=runs,
        unfinished=tuple(sorted(unfinished, key=lambda record: (record.seed, record.run_id))),
        repeated=tuple(repeated),
        score=over_seeds([run.evaluation.score for run in runs if run.evaluation]),
        tokens_per_second=over_seeds(
            [run.cost.tokens_per_second for run in runs if run.cost.tokens_per_second > 0]
        ),
        wall_seconds=over_seeds([run.cost.wall_seconds for run in runs]),
        peak_memory_bytes=max((run.cost.peak_memory_bytes for run in runs), default=None),
    )


def paired_difference(summary: Summary, baseline: Summary) -> Estimate | None:
    """Mean and interval of score minus the baseline's score, seed by seed.

    Runs of one seed see the same data in the same order, so what a seed makes hard or easy cancels
    in the difference; the interval is that of the differences, not of two separate means.

    Returns:
        None if no seed is finished in both.

    Raises:
        ValueError: the two are not comparable: another task or another score.
    """
    if (summary.task, summary.score_name) != (baseline.task, baseline.score_name):
        raise ValueError(
            f"cannot compare {summary.layer} on {summary.task.name} ({summary.score_name}) with "
            f"{baseline.layer} on {baseline.task.name} ({baseline.score_name}); "
            "compare runs of the same task and score"
        )
    ours, theirs = summary.scores, baseline.scores
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return estimate(differences) if differences else None


def baseline_for(
    summary: Summary, summaries: Iterable[Summary], layer: str = "lstm"
) -> Summary | None:
    """The summary of `layer` under the same task, settings and score, or None.

    With several sizes of the baseline, the one of the same hidden size; None if that leaves a
    choice, because a difference must not depend on which one happened to come first.
    """
    candidates = [
        other
        for other in summaries
        if other.layer == layer
        and other.runs
        and (other.task, other.settings, other.score_name)
        == (summary.task, summary.settings, summary.score_name)
    ]
    if len(candidates) > 1:
        size = summary.model.hidden_size
        candidates = [other for other in candidates if other.model.hidden_size == size]
    return candidates[0] if len(candidates) == 1 else None
