"""Outcomes as experiments would write them, for the tests of verdicts and of the page."""

from collections.abc import Mapping, Sequence

from bench.making import CASE, crossover, growth
from treering.bench.record import Measurement
from treering.experiments import Experiment, Grid, Outcome, Row
from treering.experiments.outcome import Machine

MACHINE = Machine(processor="x86_64, 2 cores", torch="2.10.0", treering="0.1.0", device="cpu")


def row(layer: str, scores: Sequence[float], *, task: str = "r8", **fields: object) -> Row:
    values = {
        "task": task,
        "variant": "",
        "layer": layer,
        "hidden_size": 50,
        "parameters": 1000,
        "layer_parameters": 100,
        "metric": "accuracy",
        "score_name": "test accuracy",
        "chance": 0.5,
        "seeds": list(range(len(scores))),
        "scores": list(scores),
        "validation": [None] * len(scores),
        "steps": [10] * len(scores),
        "seconds": [1.0] * len(scores),
        "command": f"treering train {task} --layer {layer}",
    }
    return Row.model_validate(values | fields)


def outcome(
    *rows: Row,
    experiment: str = "tree-order/order",
    budget: str = "cpu",
    measurements: Sequence[Measurement] = (),
) -> Outcome:
    return Outcome(
        experiment=experiment,
        budget=budget,
        created="2026-01-31T12:00:00+00:00",
        machines=[MACHINE],
        settings=[],
        rows=list(rows),
        measurements=list(measurements),
    )


def of_grids(experiment: Experiment, budget: str, scores: Mapping[str, float]) -> Outcome:
    """An outcome with every row of a budget: the layer's score, and a little noise by seed."""
    grids = experiment.paper if budget == "paper" else experiment.cpu
    return outcome(
        *(
            row(
                layer,
                [scores.get(layer, 0.5) + 0.001 * (seed % 2) for seed in range(grid.seeds)],
                task=grid.task,
                variant=grid.variant,
                measures={
                    name: [0.5 + 0.01 * s for s in range(grid.seeds)]
                    for name in experiment.measures
                },
                by_length=[(length, 0.5, 8) for length in _lengths(grid)],
            )
            for grid in grids
            for layer in grid.layers
        ),
        *(
            row(search.name, [0.5] * search.seeds, task=search.task, trials=search.trials)
            for search in experiment.searches.get(budget, ())
        ),
        experiment=experiment.name,
        budget=budget,
        measurements=measurements() if experiment.benches else (),
    )


def _lengths(grid: Grid) -> range:
    """Those that a generated task is tested at, by the options or their presets; or operators."""
    if grid.task == "logical-inference":
        return range(13)
    longest, every = (grid.options.get(name, 0) for name in ("test_length", "test_every"))
    return range(41, int(longest or 500) + 1, int(every or 17))


def measurements() -> list[Measurement]:
    """PR-LSTM beside nn.LSTM at batch 1, crossing at 16 tokens; its growth, and attention's."""
    made: list[Measurement] = []
    for mode in ("infer", "train"):
        case = CASE.model_copy(update={"layer": "pr-lstm", "mode": mode, "batch": 1})
        made.append(crossover({8: 0.5, 16: 1.0, 32: 2.0}, case=case))
        made.append(growth({8: 0.1, 16: 0.2, 32: 0.4}, case=case))
        attention = case.model_copy(update={"layer": "transformer"})
        made.append(growth({8: 0.1, 16: 0.4, 32: 1.6}, bytes_of=lambda T: T * T, case=attention))
    return made
