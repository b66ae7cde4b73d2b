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
            Run(
                prepare(search.task, options),
                LayerSpec.parse(layer),
                SEED,
                told=f" trial {start + k}",
                may_diverge=True,
            )
            for k, (layer, options) in enumerate(drawn)
        ]
        for trial, run, record in zip(asked, runs, run_many(runs), strict=True):
            value = _validation(record)
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            study.tell(trial, value)
            if best is None or value > best[0]:
                best = value, run.protocol, run.spec
    if best is None:
        raise UserError(f"every one of {search.trials} trials of {search.name} diverged")
    return best[1], best[2]


def _validation(record: Record) -> float | None:
    """The validation score, signed so that more is better; None of a run that diverged.

    UserError if runs of the task are not validated.
    """
    if record.evaluation is None:
        return None
    score = record.evaluation.validation_score
    if score is None:
        raise UserError(
            f"{record.run_id} has no validation score to search by; give validate_every"
        )
    return record.task.measure.gain(score, 0.0)
