"""How long runs would take, from a few updates and a little evaluation of each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from treering.cli.options import RunOptions
from treering.cli.queue import is_finished, share
from treering.cli.runs import Protocol, build, folder_of, run_one
from treering.cli.specs import LayerSpec
from treering.experiments import Grid
from treering.records import STEP_PARTS
from treering.tasks import DatasetTask, GeneratedTask, Split
from treering.training import LengthGrid, Settings
from treering.training.kinds import kind_of
from treering.training.progress import Silent

if TYPE_CHECKING:
    from treering.cli.named_tasks import NamedTask

UPDATES = 8
ROWS = 256
"""Of each split, or as many times 35 tokens of a stream, that are evaluated."""


def estimate_seconds(
    plan: Sequence[tuple[Grid, Protocol, list[LayerSpec]]], run: RunOptions
) -> float:
    """Wall seconds for all runs of a plan that are not finished yet, as many at a time as fit.

    Every layer makes UPDATES updates and evaluates a little; the rest is multiplication. Runs that
    stop early take less; a run that was interrupted counts whole.
    """
    total, left = 0.0, 0
    for grid, protocol, specs in plan:
        for spec in specs:
            seeds = [s for s in range(grid.seeds) if not is_finished(folder_of(protocol, spec, s))]
            if seeds:
                total += len(seeds) * _of_one(protocol, spec)
                left += len(seeds)
    jobs, _ = share(run, left)
    return total / jobs


def _of_one(protocol: Protocol, spec: LayerSpec) -> float:
    task, settings = protocol.task, protocol.settings
    model = build(protocol, spec, 0)[0]
    steps = kind_of(model, task, settings, 0, torch.device(protocol.run.device)).steps
    tried = settings.model_copy(
        update={"steps": UPDATES, "epochs": None, "validation_every": None, "stop_at": None}
        | {"select": "last", "warmup_steps": 0}
    )
    evaluations = _validations(settings, task, steps)
    if isinstance(task, GeneratedTask):
        grid = settings.evaluation
        tried = tried.model_copy(update={"evaluation": _three_lengths(grid)})
        # Validation is at the lengths trained on, which are short: not counted.
        parts = len(grid.lengths) / 3 * grid.samples / min(grid.samples, grid.batch)
    else:
        task, parts = _beginning(task)
        # Of the few rows both splits were evaluated once.
        parts *= (evaluations + 1) / 2
    with TemporaryDirectory() as folder:
        small = replace(
            protocol,
            task=task,
            settings=tried,
            run=replace(protocol.run, out=Path(folder), threads=protocol.run.threads),
        )
        where = run_one(small, spec, 0, Silent()).cost.where
    updating = sum(where.get(part, 0.0) for part in STEP_PARTS)
    return updating / UPDATES * steps + where.get("evaluation", 0.0) * parts


def _validations(settings: Settings, task: "NamedTask", steps: int) -> float:
    if settings.validation_every is not None:
        return steps / settings.validation_every
    return 0.0 if isinstance(task, GeneratedTask) else float(settings.epochs or 1)


def _three_lengths(grid: LengthGrid) -> LengthGrid:
    """Shortest, middle and longest, one batch each."""
    far = max((grid.stop - grid.start) // 2, 1)
    samples = min(grid.samples, grid.batch)
    return grid.model_copy(update={"step": far, "samples": samples, "training_points": 0})


def _first_rows(split: Split) -> Split:
    kept: Any = (None if tensor is None else tensor[:ROWS] for tensor in split)
    return Split(*kept)


def _beginning(task: "NamedTask") -> tuple["NamedTask", float]:
    """A task whose held-out parts are their beginning, and how much longer the whole is."""
    assert not isinstance(task, GeneratedTask)
    if isinstance(task, DatasetTask):
        whole = len(task.validation.labels) + len(task.test.labels)
        validation, test = map(_first_rows, (task.validation, task.test))
        kept = len(validation.labels) + len(test.labels)
        # Sizes are of the whole test, and scores by size take no time.
        return replace(task, validation=validation, test=test, sizes=None), whole / kept
    whole = len(task.validation) + len(task.test)
    validation, test = task.validation[: 35 * ROWS], task.test[: 35 * ROWS]
    kept = len(validation) + len(test)
    return replace(task, validation=validation, test=test), whole / kept
