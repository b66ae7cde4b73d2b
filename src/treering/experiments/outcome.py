"""What an experiment's runs came to: the small JSON file from which results are told.

Beside the runs' own records, which hold curves and timings, it keeps what claims are decided by.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, ValidationError

from treering._errors import UserError
from treering.bench.record import AnyMeasurement, Measurement
from treering.records import METRICS, LengthScore, Metric, Record, write_atomically
from treering.report.statistics import Estimate, estimate

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Part):
    """One layer on one task under one variant: its runs, in the order of their seeds."""

    task: str
    variant: str
    layer: str
    hidden_size: PositiveInt
    parameters: int
    layer_parameters: int
    metric: str
    score_name: str
    chance: float
    seeds: list[int]
    """Of the runs that came to their end."""
    diverged: list[int] = []
    """Seeds whose loss or gradient became infinite or no number: these have no score."""
    scores: list[float]
    validation: list[float | None]
    steps: list[int]
    seconds: list[float]
    by_length: list[LengthScore] = []
    """Means over the seeds."""
    measures: dict[str, list[float | None]] = {}
    """What inspections of the runs came to, seed by seed."""
    trials: int = 0
    """How many settings were tried on the validation split before these; 0: none."""
    command: str
    """Of the first seed's run."""

    @property
    def measure(self) -> Metric:
        """What the scores are."""
        return METRICS[self.metric]

    @property
    def score(self) -> Estimate | None:
        """Mean over seeds and its interval; None if every run diverged."""
        return estimate(self.scores) if self.scores else None

    def minus(self, other: "Row", measure: str | None = None) -> Estimate | None:
        """This row's scores minus the other's, seed by seed; None without a seed in common.

        measure: not of scores but of what inspections found.
        """
        ours, theirs = (
            dict(
                zip(
                    row.seeds, row.scores if measure is None else row.measured(measure), strict=True
                )
            )
            for row in (self, other)
        )
        differences = [
            mine - their
            for seed, mine in ours.items()
            if mine is not None and (their := theirs.get(seed)) is not None
        ]
        return estimate(differences) if differences else None

    def measured(self, name: str) -> list[float | None]:
        """What inspections found, by seed; None where there is nothing."""
        return self.measures.get(name, [None] * len(self.seeds))

    @classmethod
    def of(
        cls,
        layer: str,
        variant: str,
        records: Sequence[Record],
        measures: Mapping[str, list[float | None]] | None = None,
        trials: int = 0,
    ) -> "Row":
        """The row of one layer's runs, and what inspections of the finished ones found."""
        ended = [(r, r.evaluation) for r in records if r.evaluation is not None]
        finished = [record for record, _ in ended]
        evaluations = [evaluation for _, evaluation in ended]
        first = (finished or records)[0]
        entries = evaluations[0].by_length if evaluations else []
        return cls(
            task=first.task.name,
            variant=variant,
            layer=layer,
            hidden_size=first.model.hidden_size,
            parameters=first.model.parameters,
            layer_parameters=first.model.layer_parameters,
            metric=first.task.metric,
            score_name=evaluations[0].score_name if evaluations else "",
            chance=first.task.chance,
            seeds=[record.seed for record in finished],
            diverged=[record.seed for record in records if record.evaluation is None],
            scores=[one.score for one in evaluations],
            validation=[one.validation_score for one in evaluations],
            steps=[record.learning[-1].step for record in finished],
            seconds=[round(record.cost.wall_seconds, 1) for record in finished],
            by_length=[
                LengthScore(
                    entry.length,
                    round(estimate([one.by_length[k].accuracy for one in evaluations]).mean, 4),
                    entry.samples,
                )
                for k, entry in enumerate(entries)
            ],
            measures={
                name: values
                for name, values in (measures or {}).items()
                if any(value is not None for value in values)
            },
            trials=trials,
            command=first.command,
        )


class Machine(_Part):
    """Where runs were made."""

    processor: str
    torch: str
    treering: str
    device: str


class Outcome(_Part):
    """All rows of an experiment on one budget."""

    schema_version: Literal[1] = SCHEMA_VERSION
    experiment: str
    budget: str
    created: Annotated[str, Field(min_length=1)]
    """When the last of its runs began."""
    machines: list[Machine]
    settings: list[dict[str, JsonValue]]
    """Each set of training settings that occurs, once."""
    rows: list[Row]
    measurements: list[AnyMeasurement] = []
    """Of `treering bench`, where an experiment is about time or memory."""

    @classmethod
    def of(
        cls,
        name: str,
        budget: str,
        records: Sequence[Record],
        rows: Sequence[Row],
        measurements: Sequence[Measurement] = (),
    ) -> Self:
        """The outcome of an experiment's finished runs and measurements."""
        machines = [
            Machine(
                processor=record.environment.processor,
                torch=record.environment.torch,
                treering=record.environment.treering,
                device=record.environment.device,
            )
            for record in records
        ]
        machines += [
            Machine(
                processor=one.machine.processor,
                torch=one.machine.torch,
                treering=one.machine.treering,
                device="cpu",
            )
            for one in measurements
        ]
        settings = {
            json.dumps(record.settings, sort_keys=True): record.settings for record in records
        }
        return cls(
            experiment=name,
            budget=budget,
            created=max(one.created for one in (*records, *measurements)),
            machines=list(dict.fromkeys(machines)),
            settings=list(settings.values()),
            rows=list(rows),
            measurements=list(measurements),
        )

    def find(self, task: str, layer: str, variant: str = "") -> Row | None:
        """The row of a layer on a task, if it is there."""
        wanted = (task, layer, variant)
        return next((r for r in self.rows if (r.task, r.layer, r.variant) == wanted), None)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an outcome; UserError if the file is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate(content)
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} is not the outcome of an experiment ({reason}); run `treering reproduce`"
                " again to write it"
            ) from None

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n")
