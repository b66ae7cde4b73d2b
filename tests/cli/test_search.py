"""Searches: the best on validation, the same trials again after a stop, what diverges."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from treering._errors import UserError
from treering.cli.options import ModelOptions, RunOptions, TaskOptions, TrainingOptions
from treering.cli.runs import Protocol, prepare
from treering.cli.search import searched
from treering.experiments import Search
from treering.experiments.abstract import Suggest
from treering.records import find_records

TINY = {"steps": 4, "validate_every": 2, "train_length": 6, "test_length": 8, "test_samples": 8}


def draw(trial: Suggest) -> tuple[str, Mapping[str, Any]]:
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    layer = trial.suggest_categorical("layer", ("rnn", "gru"))
    return layer, {"learning_rate": float(f"{rate:.2e}")}


def fixed(rate: float, trial: Suggest) -> tuple[str, Mapping[str, Any]]:
    trial.suggest_categorical("nothing", (1, 2))
    return "rnn", {"learning_rate": rate}


def protocol(task: str, options: Mapping[str, Any]) -> Protocol:
    training = TrainingOptions(batch_size=8, **{**TINY, **options})
    return prepare(
        task, TaskOptions(), ModelOptions(hidden_size=4), training, RunOptions(json=True)
    )


def test_the_best_on_validation_is_chosen():
    best, spec = searched(Search("parity_check", "searched", draw, trials=5, seeds=1), protocol)
    scores = {
        (record.model.layer, record.settings["learning_rate"]): record.evaluation.validation_score
        for record in find_records("runs")
        if record.evaluation is not None
    }
    assert len(scores) == 5
    chosen = scores[spec.text, best.settings.learning_rate]
    assert chosen == max(score for score in scores.values() if score is not None)


def test_the_same_trials_are_asked_for_again():
    """So that an interrupted search goes on: runs that are there are not run again."""
    search = Search("parity_check", "searched", draw, trials=3, seeds=1)
    first = searched(search, protocol)
    created = {record.run_id: record.created for record in find_records("runs")}
    longer = Search("parity_check", "searched", draw, trials=5, seeds=1)
    searched(longer, protocol)
    assert created.items() <= {r.run_id: r.created for r in find_records("runs")}.items()
    again = searched(search, protocol)
    assert (first[0].settings, first[1]) == (again[0].settings, again[1])


def test_diverged_trials_count_for_nothing():
    wild = partial(fixed, 1e38)
    with pytest.raises(UserError, match="every one of 2 trials of wild diverged"):
        searched(Search("parity_check", "wild", wild, trials=2, seeds=1), protocol)


def test_a_task_without_validation_cannot_be_searched():
    def unvalidated(task: str, options: Mapping[str, Any]) -> Protocol:
        return protocol(task, {**options, "validate_every": None})

    calm = partial(fixed, 1e-3)
    with pytest.raises(UserError, match="give validate_every"):
        searched(Search("parity_check", "calm", calm, trials=2, seeds=1), unvalidated)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"treering\[search\]"):
        searched(Search("parity_check", "searched", draw, trials=1, seeds=1), protocol)
