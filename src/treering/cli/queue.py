"""Many runs: which are left to do, how many at a time, and where."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil
import torch
from pydantic import JsonValue

from treering.cli.options import RunOptions
from treering.cli.progress import Bars
from treering.cli.runs import Protocol, build, enough_memory, folder_of, run_one
from treering.cli.specs import LayerSpec
from treering.cli.workers import Call, run_in_processes
from treering.records import FILE_NAME, METRICS, Metric, Record
from treering.training import DivergenceError, Interrupted, Progress, checkpoint
from treering.training.settings import completed


@dataclass(frozen=True, eq=False)
class Run:
    """One model to be trained: a task with its options, a layer, a seed."""

    protocol: Protocol
    spec: LayerSpec
    seed: int
    told: str = ""
    """What else tells it from other runs of the command."""
    may_diverge: bool = False
    """Whether a loss that is no finite number ends this run alone; else it ends the command."""

    @cached_property
    def folder(self) -> Path:
        """Where it lives."""
        return folder_of(self.protocol, self.spec, self.seed)

    @property
    def metric(self) -> Metric:
        """What its scores are."""
        return METRICS[self.protocol.task.metric]

    @property
    def title(self) -> str:
        """What a progress bar calls it."""
        return f"{self.spec.text} seed {self.seed}{self.told}"

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do: it is finished, or may diverge and has."""
        return self._status() in (("finished", "diverged") if self.may_diverge else ("finished",))

    def has_diverged(self) -> bool:
        """Whether its loss became no finite number."""
        return self._status() == "diverged"

    def _status(self) -> str | None:
        """As its record has it now; None before there is one."""
        return Record.load(self.folder).status if (self.folder / FILE_NAME).exists() else None

    @property
    def arguments(self) -> tuple[Protocol, LayerSpec, int, bool]:
        """What a process needs to know of it."""
        return self.protocol, self.spec, self.seed, self.may_diverge


Elsewhere = Callable[[Sequence[Run], Bars], None]
"""Has runs done on other machines and their folders brought here."""


def run_all(
    protocol: Protocol,
    specs: Sequence[LayerSpec],
    seeds: Sequence[int],
    *,
    may_diverge: bool = False,
) -> list[Record]:
    """Every layer with every seed, as `run_many`."""
    return run_many(runs_of(protocol, specs, seeds, may_diverge=may_diverge))


def runs_of(
    protocol: Protocol,
    specs: Sequence[LayerSpec],
    seeds: Sequence[int],
    told: str = "",
    *,
    may_diverge: bool = False,
) -> list[Run]:
    """Every layer with every seed, all layers of the first seed first."""
    return [Run(protocol, spec, seed, told, may_diverge) for seed in seeds for spec in specs]


def run_many(runs: Sequence[Run], elsewhere: Elsewhere | None = None) -> list[Record]:
    """Runs that share their RunOptions, several at a time; their records in the order given.

    What is finished is not run again, and what is given twice is run once. KeyboardInterrupt after
    Ctrl-C, with all runs saved.
    """
    distinct = list({run.folder: run for run in runs}.values())
    left = [run for run in distinct if not run.is_over]
    open_ = set(left)
    for run in distinct:
        if run not in open_:
            _verify(run)
    # Other machines may have a device that is not here.
    check(left, "cpu" if elsewhere else None)
    options = runs[0].protocol.run
    jobs, threads = share(options, len(left))
    shared = replace(options, threads=threads)
    with Bars(len(distinct), quiet=options.json) as bars:
        if elsewhere is None and jobs == 1:
            for run in distinct:
                if run in open_:
                    _run_here(replace(run, protocol=replace(run.protocol, run=shared)), bars)
                else:
                    bars.add(run.title).finish(diverged=run.has_diverged())
        else:
            for run in distinct:
                if run not in open_:
                    bars.add(run.title).finish(diverged=run.has_diverged())
            if elsewhere is not None:
                elsewhere(left, bars)
            else:
                here = [replace(run, protocol=replace(run.protocol, run=shared)) for run in left]
                calls = [
                    Call(run.title, run.metric, run.arguments, run.has_diverged) for run in here
                ]
                run_in_processes(_run_alone, calls, jobs, bars)
    return [Record.load(run.folder) for run in runs]


def check(runs: Sequence[Run], device: str | None = None) -> None:
    """Build every model once: a mistake in the last must not show after an hour.

    On the runs' own device, or on another one.
    """
    for run in {(id(run.protocol), run.spec): run for run in runs}.values():
        options = run.protocol.run
        options = replace(options, device=device or options.device)
        with enough_memory():
            build(replace(run.protocol, run=options), run.spec, run.seed)


def _verify(run: Run) -> None:
    """UserError if the folder of a run that is over is damaged, or holds another run."""
    saved = checkpoint.load(run.folder).header.identity
    settings = completed(run.protocol.settings, run.protocol.task).model_dump(mode="json")
    wanted: dict[str, JsonValue] = {"settings": settings, "seed": run.seed}
    checkpoint.check_identity({k: saved.get(k) for k in wanted}, wanted, run.folder)


def is_finished(folder: Path) -> bool:
    """Whether the run in the folder has its result."""
    return (folder / FILE_NAME).exists() and Record.load(folder).status == "finished"


def share(options: RunOptions, runs: int) -> tuple[int, int | None]:
    """How many runs at a time, and how many threads for each (None: PyTorch's choice)."""
    if options.device != "cpu" or runs <= 1:
        # On an accelerator runs would share its memory: only as many as asked for.
        return min(options.jobs or 1, max(runs, 1)), options.threads
    cores = psutil.cpu_count(logical=True) or 1
    jobs = options.jobs or max(1, cores // (options.threads or 1))
    jobs = min(jobs, runs)
    return jobs, options.threads or (max(1, cores // jobs) if jobs > 1 else None)


def _run_here(run: Run, bars: Bars) -> None:
    bar = bars.add(run.title, run.metric)
    try:
        run_to_the_end(*run.arguments, bar)
    except Interrupted as stop:
        raise KeyboardInterrupt(str(stop)) from None
    bar.finish(diverged=run.has_diverged())


def _run_alone(
    protocol: Protocol, spec: LayerSpec, seed: int, may_diverge: bool, progress: Progress
) -> None:
    """One run in a process of its own; its record is in its folder."""
    if protocol.run.threads is not None:
        torch.set_num_threads(protocol.run.threads)
    run_to_the_end(protocol, spec, seed, may_diverge, progress)


def run_to_the_end(
    protocol: Protocol, spec: LayerSpec, seed: int, may_diverge: bool, progress: Progress
) -> None:
    """One run, until it is finished or, if it may, diverges."""
    with suppress(DivergenceError) if may_diverge else nullcontext():
        run_one(protocol, spec, seed, progress)
