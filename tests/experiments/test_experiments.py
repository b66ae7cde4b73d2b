"""Every experiment: its claims can be decided by its runs, and its outcome is read as written."""

from pathlib import Path

import pytest

from treering import experiments
from treering._errors import UserError
from treering.experiments import Experiment, Outcome
from treering.experiments.results import judged, page, place
from treering.report.wording import NONE

from .made_outcomes import measurements, of_grids, outcome, row

ALL = [experiments.get(name) for name in experiments.names()]


@pytest.fixture(params=ALL, ids=lambda experiment: experiment.name)
def experiment(request) -> Experiment:
    return request.param


@pytest.mark.parametrize("budget", ["cpu", "paper"])
def test_its_runs_decide_every_claim(experiment: Experiment, budget: str):
    made = of_grids(experiment, budget, {})
    assert all(claim.verdict != "not run" for claim in judged(experiment, made))


def test_rows_can_be_told_apart(experiment: Experiment):
    for grids in (experiment.cpu, experiment.paper):
        rows = [(grid.task, layer, grid.variant) for grid in grids for layer in grid.layers]
        assert len(rows) == len(set(rows))


def test_smoke_has_every_row_of_cpu_once(experiment: Experiment):
    assert [grid.layers for grid in experiment.grids("smoke")] == [g.layers for g in experiment.cpu]
    small = (*experiment.grids("smoke"), *experiment.searches_of("smoke"))
    assert {one.seeds for one in small} <= {1}
    assert small or experiment.benches
    made = of_grids(experiment, "cpu", {}).model_copy(update={"budget": "smoke"})
    assert {claim.verdict for claim in judged(experiment, made)} == {"undecided"}


def test_nothing_is_claimed_without_runs(experiment: Experiment):
    assert {claim.verdict for claim in judged(experiment, None)} == {"not run"}
    assert {claim.ours for claim in judged(experiment, None)} == {NONE}


def test_published_scores_stand_beside_rows(experiment: Experiment):
    rows = {(grid.task, layer) for grid in experiment.paper for layer in grid.layers}
    assert experiment.published.keys() <= rows
    assert all(0 <= score <= 1 for score in experiment.published.values())


def test_an_unknown_experiment_is_named():
    with pytest.raises(UserError, match=r"unknown experiment 'pr-lstm/table-1'; did you mean"):
        experiments.get("pr-lstm/table-1")


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path):
    made = outcome(row("lstm", (0.5, 0.75)), row("gru", (1.0,)))
    path = place(tmp_path, made.experiment, made.budget)
    made.save(path)
    assert path == tmp_path / "tree-order" / "order.cpu.json"
    assert Outcome.load(path) == made


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', "[1]"])
def test_another_file_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"file\.json is not the outcome of an experiment"):
        Outcome.load(path)


def test_the_page_tells_claims_and_scores():
    order = experiments.get("tree-order/order")
    made = outcome(*(row(layer, (0.93, 0.932), task=task) for task in TASKS for layer in LAYERS))
    text = page([order, experiments.get("ql-lstm/alpha")], {order.name: made})
    screen, _, rest = text.partition("## tree-order/order")
    claims, _, questions = screen.partition("| open question |")
    assert claims.count("\n") < 40
    title = "Tree order, Lp, nonlinear gates (2509.00087)"
    assert f"| **{title}**: 1 reproduced, 1 not reproduced, 1 undecided |  |  |" in claims
    assert "QL-LSTM" not in claims, "an open question is no claim of a paper"
    assert "| [An LSTM reaches 84.1% on R8](#tree-orderorder) | reproduced | cpu |" in claims
    told = "not reproduced: r8; undecided: fine-foods-binary"
    assert f"| [The tree order improves an LSTM](#tree-orderorder) | {told} | cpu |" in claims
    question = "[A learned, bounded alpha is better than a constant](#ql-lstmalpha)"
    assert f"| {question} | not run | {NONE} |" in questions
    assert "| **QL-LSTM (2512.06582)**: 4 not run |  |  |" in questions
    assert "| An LSTM reaches 84.1% on R8 | reproduced | 93.1% ± 1.3 | 84.1% |" in rest
    assert "Not run. `treering reproduce ql-lstm/alpha`" in rest
    assert "| `lstm` | 1,000 | 93.1% ± 1.3 (published 84.1%) | 93.1% ± 1.3 |" in rest


def test_one_verdict_for_many_is_told_once():
    gates = experiments.get("tree-order/gates")
    layers = gates.cpu[0].layers
    made = outcome(
        *(row(layer, (0.93, 0.932), task=task) for task in TASKS for layer in layers),
        experiment=gates.name,
    )
    told = "[Four nonlinear gates improve an LSTM](#tree-ordergates) | undecided (both) | cpu |"
    assert told in page([gates], {gates.name: made})


def test_where_tasks_go_down_the_page_sizes_stand_below():
    tracking = experiments.get("pr-lstm/tracking")
    rows = [row(layer, (0.5,), task=g.task) for g in tracking.cpu for layer in g.layers]
    rows[0] = rows[0].model_copy(update={"parameters": 1_234})
    text = page([tracking], {tracking.name: outcome(*rows, experiment=tracking.name)})
    assert "| parameters | 1,000 to 1,234 | 1,000 | 1,000 | 1,000 |" in text


def test_runs_without_a_time_are_counted_apart():
    order = experiments.get("tree-order/order")
    best, lost = (row(layer, (0.93, 0.932)) for layer in LAYERS[:2])
    best = best.model_copy(update={"trials": 20, "seconds": [3600.0, 1800.0]})
    lost = lost.model_copy(update={"diverged": [2, 3, 4], "seconds": [0.0, 0.0]})
    told = "4 runs, 1.5 hours of one run at a time; besides, 3 that diverged and 20 trials"
    assert f": {told} of searches." in page([order], {order.name: outcome(best, lost)})
    plain = page([order], {order.name: outcome(best.model_copy(update={"trials": 0}))})
    assert ": 2 runs, 1.5 hours of one run at a time." in plain


def test_of_measurements_the_threads_are_told():
    time = experiments.get("pr-lstm/time")
    made = outcome(measurements=measurements(), experiment=time.name)
    assert "6 curves on 2 threads," in page([time], {time.name: made})


def test_what_inspections_found_is_told_layer_by_layer():
    retention = experiments.get("ql-lstm/retention")
    (name, other) = retention.measures
    lstm, gru = (row(layer, (0.8, 0.82), task="imdb") for layer in ("lstm", "gru"))
    looked_into = lstm.model_copy(update={"measures": {name: [-0.25, -0.75], other: [1.5, None]}})
    made = outcome(looked_into, gru, experiment=retention.name)
    text = page([retention], {retention.name: made})
    assert "| measured | task | `lstm` | `gru` |" in text
    assert f"| {name} | imdb | \N{MINUS SIGN}0.5 ± 3.2 | {NONE} |" in text
    assert f"| {other} | imdb | 1.5 | {NONE} |" in text
    bare = page([retention], {retention.name: outcome(lstm, gru, experiment=retention.name)})
    assert "measured |" not in bare


def test_what_has_learnt_nothing_is_named():
    gates = experiments.get("tree-order/gates")
    layers = gates.cpu[0].layers
    made = outcome(*(row(layer, (0.501, 0.5)) for layer in layers), experiment=gates.name)
    assert "| `lstm` | 1,000 | 50.0% ± 0.6 (guessing 50.0%) |" in page([gates], {gates.name: made})


GRIDS = experiments.get("tree-order/order").cpu
TASKS, LAYERS = [grid.task for grid in GRIDS], GRIDS[0].layers
