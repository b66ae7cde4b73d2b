"""From records to means with honest intervals: runs that differ only in seed belong together."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import JsonValue

from treering.records import ModelInfo, Record, TaskInfo


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
    def negated(self) -> "Estimate":
        """The same of the values with the opposite sign."""
        return Estimate(self.n, -self.mean, self.half_width, -self.maximum, -self.minimum)

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
