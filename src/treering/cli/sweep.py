"""`treering sweep`: combinations of options, for several layers over several seeds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from treering._errors import UserError
from treering.cli import grids
from treering.cli.cluster import check_device, run_on_cluster
from treering.cli.compare import USUAL
from treering.cli.grids import Axis, Combination
from treering.cli.named_tasks import kind_of
from treering.cli.options import (
    Flag,
    ModelOptions,
    RunOptions,
    Seed,
    TaskOptions,
    TrainingOptions,
    Whole,
)
from treering.cli.queue import Run, run_many
from treering.cli.ranking import Entry, ranked
from treering.cli.runs import Loader, Protocol
from treering.cli.specs import parse_list
from treering.cli.sweep_results import Shown, show
from treering.report import wording
from treering.tasks import GeneratedTask

LARGE = 10_000
"""Runs above which the command wants to hear that so many are meant."""


def sweep_(
    task: str,
    /,
    *,
    grid: Annotated[list[str] | None, Parameter(alias="-g", negative="")] = None,
    layers: Annotated[str | None, Parameter(alias="-l")] = None,
    seeds: Whole = 3,
    random: Whole | None = None,
    random_seed: Seed = 0,
    large: Flag = False,
    page: Shown = "chosen",
    ray: str | None = None,
    task_options: TaskOptions | None = None,
    model_options: ModelOptions | None = None,
    training_options: TrainingOptions | None = None,
    run_options: RunOptions | None = None,
) -> None:
    """Try combinations of options for several layers, and say which is best for each.

    Example: treering sweep r8 --layers lstm,pr-lstm --grid learning-rate=3e-3,1e-2 --seeds 2

    The best is the one with the best mean score on validation; the test score is told and decides
    nothing. A run whose loss is no longer a number counts against its combination and stops
    nothing else. Finished runs are not run again; Ctrl-C saves, and the same command goes on.

    Parameters
    ----------
    task
        A generated task or a data set (`treering list`), or the path of a file: CSV, TSV or JSONL
        to classify texts, .txt for a language model.
    grid
        An option of the task, the model or the training, and its values, separated by commas;
        once for each option that varies.
    layers
        Layers separated by commas, each with options and additions of its own; without it those of
        `treering compare`.
    seeds
        Number of seeds, 0 to N-1, for every combination.
    random
        Draw so many combinations from the grid, none twice, instead of trying all.
    random_seed
        Of that draw. A larger draw of the same seed holds the smaller one.
    large
        Allow more than 10,000 runs.
    page
        What the report page shows: the chosen combination of each layer, or all.
    ray
        Run on a Ray cluster (extra `cluster`): its address, `auto` for the one that this machine
        belongs to, or `local` for one that is started here and ends with the command.
    """
    given = (
        task_options or TaskOptions(),
        model_options or ModelOptions(),
        training_options or TrainingOptions(),
    )
    run = run_options or RunOptions()
    kind = kind_of(task)[0]
    axes = grids.parse(grid or [])
    grids.check_given_once(axes, *given)
    specs = parse_list(USUAL[kind] if layers is None else layers)
    _check_count(min(random or grids.size(axes), grids.size(axes)), len(specs), seeds, large)
    points = grids.combinations(axes, random, random_seed)
    if ray is not None:
        check_device(run.device)
    # Device and threads are those of another machine.
    prepared = replace(run, device="cpu", threads=None) if ray is not None else run
    protocols = _protocols(task, points, given, prepared)
    protocols = [replace(protocol, run=run) for protocol in protocols]
    _check_validation(protocols, axes)

    runs = {
        (place, spec, seed): Run(protocols[place], spec, seed, f" {point.label}", may_diverge=True)
        for seed in range(seeds)
        for place, point in enumerate(points)
        for spec in specs
    }
    elsewhere = partial(run_on_cluster, address=ray) if ray is not None else None
    records = dict(zip(runs, run_many(list(runs.values()), elsewhere), strict=True))
    entries = ranked(
        [
            Entry(point, spec, tuple(records[place, spec, seed] for seed in range(seeds)))
            for place, point in enumerate(points)
            for spec in specs
        ]
    )
    out = run.out / protocols[0].task.name / "sweep.html"
    show(entries, axes, protocols[0], out, page, run.json)


def _check_count(points: int, layers: int, seeds: int, large: bool) -> None:
    runs = points * layers * seeds
    if runs > LARGE and not large:
        raise UserError(
            f"{points:,} combinations x {wording.plural(layers, 'layer')} x"
            f" {wording.plural(seeds, 'seed')} are {runs:,} runs; write --large if so many are"
            " meant, or --random N to draw N combinations"
        )


def _protocols(
    word: str,
    points: Sequence[Combination],
    given: tuple[TaskOptions, ModelOptions, TrainingOptions],
    run: RunOptions,
) -> list[Protocol]:
    """One for each combination; a task is loaded once for all that do not change it."""
    loader = Loader(run)
    return [
        loader.prepare(
            word,
            replace(given[0], **point.group("task_options")),
            replace(given[1], **point.group("model_options")),
            replace(given[2], **point.group("training_options")),
        )
        for point in points
    ]


def _check_validation(protocols: Sequence[Protocol], axes: Sequence[Axis]) -> None:
    """UserError where validation cannot choose."""
    for protocol in protocols:
        generated = isinstance(protocol.task, GeneratedTask)
        if generated and protocol.settings.validation_every is None:
            raise UserError(
                f"{protocol.word} is validated only if asked, and a sweep chooses by validation;"
                " write --validate-every N, for instance a tenth of --steps"
            )
    metrics = sorted({protocol.task.metric for protocol in protocols})
    if len(metrics) > 1:
        raise UserError(
            f"{wording.listed([axis.flag for axis in axes])}: the scores are"
            f" {wording.listed(metrics)}, which cannot be ranked together; sweep each alone"
        )
