"""`treering reproduce`: a claim of a paper, trained, tested, compared and judged."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from treering import experiments, report
from treering.bench.machine import describe
from treering.bench.record import Measurement
from treering.bench.table import Session
from treering.bench.timing import BUDGETS
from treering.cli.bench import planned
from treering.cli.bench import run as measure
from treering.cli.estimates import estimate_seconds
from treering.cli.inspect import look_into
from treering.cli.named_tasks import (
    CLASSIFICATION,
    GENERATED,
    NESTED,
    SENTENCES,
    STREAM,
    kind_of,
)
from treering.cli.options import (
    Flag,
    ModelOptions,
    RunOptions,
    TaskOptions,
    TrainingOptions,
    command_line,
)
from treering.cli.queue import Run, run_all, run_many, runs_of
from treering.cli.runs import Loader, Protocol, folder_of, processor
from treering.cli.search import searched
from treering.cli.specs import LayerSpec
from treering.cli.streams import plain_table, print_json, standard_output
from treering.experiments import Budget, Experiment, Grid, Outcome, Row
from treering.experiments.results import judged, place
from treering.inspect.record import FILE_NAME as INSPECTION
from treering.inspect.record import Inspection
from treering.records import Record
from treering.report import benchmarks, wording

SAMPLES = 256
"""Sequences on which a run is inspected."""
TINY = {"hidden_size": 4, "batch_size": 8}
SMOKE: Mapping[str, Mapping[str, Any]] = {
    GENERATED.name: TINY
    | {"steps": 2, "train_length": 6, "test_length": 12, "test_every": 3, "test_samples": 8},
    **dict.fromkeys(
        (CLASSIFICATION.name, NESTED.name),
        TINY | {"steps": 2, "embedding_size": 4, "max_tokens": 12},
    ),
    SENTENCES.name: TINY | {"steps": 2, "embedding_size": 4},
    STREAM.name: TINY | {"steps": 2, "embedding_size": 4, "truncate": 8},
}
"""What the budget `smoke` puts in place of an experiment's own options: seconds, no result."""

BENCH = {"smoke": "smoke", "cpu": "quick", "paper": "full"}
"""Which budget of `treering bench` an experiment's is."""
DURATION = ("steps", "epochs", "warmup_steps")


def reproduce_(
    *names: str,
    budget: Budget = "cpu",
    estimate: Flag = False,
    results: Path | None = None,
    run_options: RunOptions | None = None,
) -> None:
    """Run the experiments that decide claims of the papers, and say which claims hold.

    Example: treering reproduce pr-lstm/regular --budget smoke

    Without a name: the list of experiments. Every run is saved as it goes: after Ctrl-C the same
    command goes on, and finished runs are not run again. A verdict is about the budget it was had
    on; `smoke` decides nothing.

    Parameters
    ----------
    names
        Experiments, such as pr-lstm/table-2; a paper's name alone means all of its experiments.
    budget
        smoke: seconds, to see that it runs; cpu: two cores, at most two hours for a table; paper:
        the published settings.
    estimate
        Say how long it would take, and run nothing. The budget paper says so before it begins.
    results
        Also write each outcome into this folder, from which docs/generate.py writes results.md.
    """
    run = run_options or RunOptions()
    if not names:
        _list(run.json)
        return
    chosen = _chosen(names)
    loader = Loader(run)
    plans = [(experiment, _protocols(experiment, budget, loader)) for experiment in chosen]
    if estimate or budget == "paper":
        _tell_estimates(plans, budget, run, alone=estimate)
        if estimate:
            return
    told = []
    for experiment, plan in plans:
        records, outcome = _run(experiment, budget, plan, loader, run)
        outcome.save(place(run.out, experiment.name, budget))
        if results is not None:
            outcome.save(place(results, experiment.name, budget))
        page = run.out / experiment.name / f"{budget}.html"
        findings = judged(experiment, outcome)
        title = f"{experiment.name}: {experiment.title} (budget {budget})"
        if records:
            report.write_html(records, page, title=title, claims=findings)
        else:
            benchmarks.write_html(outcome.measurements, page, title, findings)
        told.append((experiment, outcome, findings, page))
    if run.json:
        print_json([_plain(*one) for one in told])
        return
    with standard_output() as out:
        for experiment, _, findings, page in told:
            table = plain_table(f"{experiment.name}: {experiment.title} (budget {budget})")
            for heading in report.CLAIM_HEADINGS:
                table.add_column(heading, overflow="fold")
            for finding in findings:
                table.add_row(*(Text(cell) for cell in finding.cells))
            out.print(table)
            out.print(f"Report: {page}\n", markup=False, soft_wrap=True)


def _tell_estimates(
    plans: Sequence[tuple[Experiment, list[tuple[Grid, Protocol, list[LayerSpec]]]]],
    budget: Budget,
    run: RunOptions,
    *,
    alone: bool,
) -> None:
    """How long each experiment would take; as JSON where nothing else follows it."""
    seconds = {e.name: estimate_seconds(plan, run) for e, plan in plans}
    if run.json:
        # What follows is one JSON document, before which nothing may stand.
        if alone:
            print_json(seconds)
        return
    with standard_output() as out:
        for experiment, _ in plans:
            expected = wording.seconds(seconds[experiment.name])
            trials = sum(s.trials + s.seeds for s in experiment.searches_of(budget))
            more = f", and {trials:,} runs of searches" if trials else ""
            more += ", and measurements" if experiment.benches else ""
            out.print(f"{experiment.name}: about {expected}{more}", markup=False)


def _chosen(names: Sequence[str]) -> list[Experiment]:
    chosen: dict[str, Experiment] = {}
    for name in names:
        of_paper = [known for known in experiments.names() if known.startswith(f"{name}/")]
        for known in of_paper or [name]:
            chosen[known] = experiments.get(known)
    return list(chosen.values())


def _protocols(
    experiment: Experiment, budget: Budget, loader: Loader
) -> list[tuple[Grid, Protocol, list[LayerSpec]]]:
    """What will run, all of it checked before anything starts."""
    return [
        (
            grid,
            _prepared(grid.task, grid.options, budget, loader),
            [LayerSpec.parse(layer) for layer in grid.layers],
        )
        for grid in experiment.grids(budget)
    ]


def _prepared(task: str, options: Mapping[str, Any], budget: Budget, loader: Loader) -> Protocol:
    """The task with an experiment's options, or with those of `smoke` in their place."""
    if budget == "smoke":
        kept = {k: v for k, v in options.items() if k not in DURATION}
        options = {**kept, **_meaningful(SMOKE[kind_of(task)[0].name], kept)}
    return loader.prepare(task, *_grouped(options))


def _meaningful(smoke: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Smoke's options; a text that is lengthened is lengthened to what is kept of it."""
    if "min_tokens" in options:
        return {**smoke, "min_tokens": smoke["max_tokens"]}
    return dict(smoke)


def _grouped(
    options: Mapping[str, Any],
) -> tuple[TaskOptions, ModelOptions, TrainingOptions]:
    """Options by name, sorted into the groups of the command line; KeyError for an unknown one."""
    of_task, of_model, of_training = (
        {name: value for name, value in options.items() if name in group.__dataclass_fields__}
        for group in (TaskOptions, ModelOptions, TrainingOptions)
    )
    unknown = options.keys() - of_task.keys() - of_model.keys() - of_training.keys()
    if unknown:
        raise KeyError(f"options of no command: {', '.join(sorted(unknown))}")
    return TaskOptions(**of_task), ModelOptions(**of_model), TrainingOptions(**of_training)


def _run(
    experiment: Experiment,
    budget: Budget,
    plan: list[tuple[Grid, Protocol, list[LayerSpec]]],
    loader: Loader,
    run: RunOptions,
) -> tuple[list[Record], Outcome]:
    # All grids as one list: no core waits for the end of another grid.
    runs = [_runs(*planned) for planned in plan]
    every = list(chain.from_iterable(runs))
    records = run_many(every) if every else []
    in_order = iter(records)
    rows: list[Row] = []
    for (grid, protocol, specs), of_grid in zip(plan, runs, strict=True):
        made = list(islice(in_order, len(of_grid)))
        inspections = _inspected(protocol, specs, made) if experiment.measures else {}
        for k, layer in enumerate(grid.layers):
            mine = made[k :: len(specs)]
            found = [inspections[one.run_id] for one in mine if one.run_id in inspections]
            measures = {
                name: [measure(one) for one in found]
                for name, measure in experiment.measures.items()
            }
            rows.append(Row.of(layer, grid.variant, mine, measures))
    for search in experiment.searches_of(budget):
        protocol, spec = searched(
            search, lambda task, given: _prepared(task, given, budget, loader)
        )
        made = run_all(protocol, [spec], range(search.seeds), may_diverge=True)
        records = [*records, *made]
        rows.append(Row.of(search.name, search.variant, made, trials=search.trials))
    measured = _measured(experiment, budget, run)
    return records, Outcome.of(experiment.name, budget, records, rows, measured)


def _runs(grid: Grid, protocol: Protocol, specs: Sequence[LayerSpec]) -> list[Run]:
    told = f" on {grid.task}" + (f", {grid.variant}" if grid.variant else "")
    return runs_of(protocol, specs, range(grid.seeds), told, may_diverge=True)


def _measured(experiment: Experiment, budget: Budget, run: RunOptions) -> list[Measurement]:
    """What an earlier call measured, if it came to its end; otherwise all of it, now."""
    if not experiment.benches:
        return []
    path = place(run.out, experiment.name, budget)
    if path.exists():
        return Outcome.load(path).measurements
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    words = ["bench", *experiment.benches, "--budget", BENCH[budget]]
    session = Session(BUDGETS[BENCH[budget]], describe(processor()), command_line(words))
    return measure(planned(experiment.benches, session), run.out / "bench", quiet=run.json)


def _inspected(
    protocol: Protocol, specs: Sequence[LayerSpec], made: Sequence[Record]
) -> dict[str, Inspection]:
    """Inspections of a grid's finished runs, all layers of a seed together, by the runs' ids."""
    found: dict[str, Inspection] = {}
    for start in range(0, len(made), len(specs)):
        finished = {
            record.run_id: folder_of(protocol, spec, record.seed)
            for spec, record in zip(specs, made[start : start + len(specs)], strict=True)
            if record.evaluation is not None
        }
        folders = list(finished.values())
        if folders:
            inspections = _known(folders) or look_into(folders, samples=SAMPLES, task=protocol.task)
            found |= dict(zip(finished, inspections, strict=True))
    return found


def _known(folders: Sequence[Path]) -> list[Inspection]:
    """What an earlier call found; nothing unless all of it is there and of these runs together."""
    if not all((folder / INSPECTION).exists() for folder in folders):
        return []
    found = [Inspection.load(folder) for folder in folders]
    alike = {one.command for one in found}
    same = len(alike) == 1 and all(
        str(folder) in shlex.split(found[0].command) for folder in folders
    )
    return found if same else []


def _list(as_json: bool) -> None:
    found = [experiments.get(name) for name in experiments.names()]
    if as_json:
        print_json([{"name": e.name, "title": e.title, "source": e.source} for e in found])
        return
    table = plain_table("Experiments")
    for heading in ("name", "what it asks", "claims", "runs on the budget cpu"):
        table.add_column(heading, overflow="fold")
    for experiment in found:
        runs = sum(len(grid.layers) * grid.seeds for grid in experiment.cpu)
        runs += sum(search.trials + search.seeds for search in experiment.searches_of("cpu"))
        table.add_row(
            experiment.name, Text(experiment.title), str(len(experiment.claims)), f"{runs:,}"
        )
    with standard_output() as out:
        out.print(table)
        command = command_line(["reproduce", found[0].name, "--budget", "smoke"])
        out.print(f"For instance: {command}", markup=False)


def _plain(
    experiment: Experiment, outcome: Outcome, findings: Sequence[Any], page: Path
) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "budget": outcome.budget,
        "report": str(page),
        "claims": [finding.plain for finding in findings],
        "rows": [row.model_dump(mode="json") for row in outcome.rows],
    }
