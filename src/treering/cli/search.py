"""Settings searched on the validation split: every trial is a run like any other."""

from collections.abc import Callable, Mapping
from typing import Any

from treering._errors import UserError
from treering.cli.queue import Run, run_many
from treering.cli.runs import Protocol
from treering.cli.specs import LayerSpec
from treering.experiments import Search
from treering.records import Record

AT_A_TIME = 2
"""Trials between two looks at the results. A fixed number: with one for each core, another machine
would search elsewhere."""
SEED = 0

Prepare = Callable[[str, Mapping[str, Any]], Protocol]


def searched(search: Search, prepare: Prepare) -> tuple[Protocol, LayerSpec]:
    """The task's protocol and the layer with the best validation score of all trials.

    Optuna's tree-structured Parzen estimator, seeded: an interrupted search asks for the same
    trials again, finds their runs finished, and goes on. All trials have seed 0. Of trials that are
    equally good the first counts.

    UserError if optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError(
            "searching settings needs optuna; write pip install 'treering[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=SEED, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    best: tuple[float, Protocol, LayerSpec] | None = None
    for start in range(0, search.trials, AT_A_TIME):
        asked = [study.ask() for _ in range(min(AT_A_TIME, search.trials - start))]
        drawn = [search.draw(trial) for trial in asked]
        runs = [
            Run(prepare(search.task, options), LayerSpec.parse(layer), SEED, f" trial {start + k}")
            for k, (layer, options) in enumerate(drawn)
        ]
        for trial, run, record in zip(asked, runs, run_many(runs), strict=True):
            value = _validation(record)
            study.tell(trial, value)
            if best is None or value > best[0]:
                best = value, run.protocol, run.spec
    assert best is not None
    return best[1], best[2]


def _validation(record: Record) -> float:
    """The validation score, signed so that more is better."""
    evaluation, metric = record.evaluation, record.task.measure
    if evaluation is None or evaluation.validation_score is None:
        raise UserError(
            f"{record.run_id} has no validation score to search by; give validate_every"
        )
    return metric.gain(evaluation.validation_score, 0.0)
