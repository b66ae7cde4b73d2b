"""What is shown together: one section per task and score, one row per model, best first."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from treering.records import Metric, Record, TaskInfo
from treering.report.statistics import (
    Estimate,
    Summary,
    baseline_for,
    paired_difference,
    summarise,
)

BASELINE = "lstm"

# A score this small a part of the way from chance to perfect counts as not learnt, one this large
# as learnt. Between them a number is just a number.
NEAR_CHANCE = 0.05
NEAR_PERFECT = 0.9


@dataclass(frozen=True)
class Row:
    """One model on one task."""

    label: str
    """The layer, and what tells it from other rows of the same layer."""
    summary: Summary
    difference: Estimate | None
    """Score minus the baseline's, seed by seed; None for the baseline and without one."""

    @property
    def is_baseline(self) -> bool:
        return self.summary.layer == BASELINE

    @property
    def records(self) -> list[tuple[Record, bool]]:
        """Every run by seed, and whether it is one of a seed that counts through another run."""
        summary = self.summary
        marked = [(run, False) for run in (*summary.runs, *summary.unfinished)]
        marked += [(run, True) for run in summary.repeated]
        return sorted(marked, key=lambda pair: (pair[0].seed, pair[0].created, pair[0].run_id))

    @property
    def final_train_score(self) -> float | None:
        """Mean over seeds of the last training accuracy; None if no run has one."""
        last = [
            accuracy for run in self.summary.runs if (accuracy := last_train_score(run)) is not None
        ]
        return sum(last) / len(last) if last else None


@dataclass(frozen=True)
class Section:
    """One task measured by one score."""

    anchor: str
    title: str
    task: TaskInfo
    score_name: str
    rows: tuple[Row, ...]

    @property
    def metric(self) -> Metric:
        """What the score measures."""
        return self.task.measure

    def way(self, score: float) -> float:
        """0 at chance, 1 at perfect."""
        return self.metric.way(score, self.task.chance)

    @property
    def scored(self) -> tuple[Row, ...]:
        """The rows with a finished run; they come first."""
        return tuple(row for row in self.rows if row.summary.score is not None)

    @property
    def records(self) -> list[Record]:
        """Every run, also unfinished and repeated ones."""
        return [run for row in self.rows for run, _ in row.records]


def last_train_score(run: Record) -> float | None:
    """Training score at the last point of the learning curve that has one."""
    known = [point.train_score for point in run.learning if point.train_score is not None]
    return known[-1] if known else None


def sections(records: Iterable[Record]) -> list[Section]:
    """Arrange records for display; the order of the records does not matter.

    Scores of different names are never put side by side. A model without a finished run has no
    name for its score and joins the first section of its task.
    """
    ordered = sorted(
        records,
        key=lambda run: (run.task.name, run.model.layer, run.seed, run.created, run.run_id),
    )
    grouped: dict[tuple[str, str], list[Summary]] = {}
    waiting: list[Summary] = []
    for summary in summarise(ordered):
        if summary.runs:
            key = (summary.task.model_dump_json(), summary.score_name)
            grouped.setdefault(key, []).append(summary)
        else:
            waiting.append(summary)
    for summary in waiting:
        task = summary.task.model_dump_json()
        key = next((key for key in grouped if key[0] == task), (task, ""))
        grouped.setdefault(key, []).append(summary)

    groups = [grouped[key] for key in sorted(grouped, key=lambda key: (_task_name(key[0]), key))]
    shown = _distinguishing(groups)
    names = [group[0].task.name for group in groups]
    result = []
    for number, group in enumerate(groups, start=1):
        task = group[0].task
        score_name = next((summary.score_name for summary in group if summary.score_name), "")
        title = task.name
        if names.count(title) > 1:
            lengths = f"trained on {_span(task)}" if task.training_lengths else ""
            title = ", ".join(part for part in (title, lengths, score_name) if part)
        result.append(
            Section(
                anchor=f"task-{number}-{re.sub(r'[^a-z0-9]+', '-', task.name.lower()).strip('-')}",
                title=title,
                task=task,
                score_name=score_name,
                rows=_rows(group, shown),
            )
        )
    return result


def _task_name(task_json: str) -> str:
    return json.loads(task_json)["name"]


def _span(task: TaskInfo) -> str:
    shortest, longest = task.training_lengths or (0, 0)
    what = "lengths" if task.size == "length" else task.size
    return f"{what} {shortest} to {longest}"


def _rows(group: list[Summary], shown: dict[str, list[str]]) -> tuple[Row, ...]:
    rows = []
    for summary in group:
        baseline = baseline_for(summary, group, BASELINE)
        compared = baseline if summary.layer != BASELINE and summary.runs else None
        features = _features(summary)
        extra = [f"{name}={_short(features.get(name))}" for name in shown[summary.layer]]
        rows.append(
            Row(
                label=" ".join([summary.layer, *extra]),
                summary=summary,
                difference=paired_difference(summary, compared) if compared else None,
            )
        )
    gain = group[0].task.measure.gain

    def place(row: Row) -> tuple[bool, float, str]:
        score = row.summary.score
        return score is None, gain(0.0, score.mean) if score else 0.0, row.label

    return tuple(sorted(rows, key=place))


def _features(summary: Summary) -> dict[str, JsonValue]:
    """Everything by which two summaries of one layer on one task can differ, by a short name."""
    model = summary.model.model_dump(mode="json", exclude={"layer", "explain", "layer_parameters"})
    environment = (summary.runs or summary.unfinished)[0].environment
    features: dict[str, JsonValue] = {
        **model,
        "device": environment.device,
        "dtype": environment.dtype,
    }
    for name, value in summary.settings.items():
        # A setting named like a size of the model must not hide it.
        features[f"settings.{name}" if name in features else name] = value
    return features


def _distinguishing(groups: list[list[Summary]]) -> dict[str, list[str]]:
    """By layer, the features that differ between its rows in any one section.

    Taken over the whole page, so that a model has the same label in every section.
    """
    shown: dict[str, list[str]] = {}
    for group in groups:
        for summary in group:
            differing = shown.setdefault(summary.layer, [])
            alike = [_features(other) for other in group if other.layer == summary.layer]
            names = dict.fromkeys(name for features in alike for name in features)
            for name in names:
                values = {json.dumps(features.get(name), sort_keys=True) for features in alike}
                if len(values) > 1 and name not in differing:
                    differing.append(name)
    for differing in shown.values():
        # The parameter count follows from the sizes, which say more.
        if len(differing) > 1 and "parameters" in differing:
            differing.remove("parameters")
    return shown


def _short(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
