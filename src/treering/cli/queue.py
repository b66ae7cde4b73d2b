"""Many runs: which are left to do, how many at a time, and where."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil
import torch

from treering.cli.options import RunOptions
from treering.cli.progress import Bars
from treering.cli.runs import Protocol, build, enough_memory, folder_of, run_one
from treering.cli.specs import LayerSpec
from treering.cli.workers import Call, run_in_processes
from treering.records import FILE_NAME, METRICS, Metric, Record
from treering.training import Interrupted, Progress


@dataclass(frozen=True, eq=False)
class Run:
    """One model to be trained: a task with its options, a layer, a seed."""

    protocol: Protocol
    spec: LayerSpec
    seed: int
    told: str = ""
    """What else tells it from other runs of the command."""

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


def run_all(protocol: Protocol, specs: Sequence[LayerSpec], seeds: Sequence[int]) -> list[Record]:
    """Every layer with every seed, all layers of the first seed first, as `run_many`."""
    return run_many([Run(protocol, spec, seed) for seed in seeds for spec in specs])


def run_many(runs: Sequence[Run]) -> list[Record]:
    """Runs that share their RunOptions, several at a time; their records in the order given.

    What is finished is not run again. KeyboardInterrupt after Ctrl-C, with all runs saved.
    """
    left = [run for run in runs if not is_finished(run.folder)]
    check(left)
    options = runs[0].protocol.run
    jobs, threads = share(options, len(left))
    shared = replace(options, threads=threads)
    with Bars(len(runs), quiet=options.json) as bars:
        for run in runs:
            if run not in left:
                bars.add(run.title).finish()
        if jobs == 1:
            for run in left:
                _run_here(replace(run, protocol=replace(run.protocol, run=shared)), bars)
        else:
            calls = [
                Call(run.title, run.metric, (replace(run.protocol, run=shared), run.spec, run.seed))
                for run in left
            ]
            run_in_processes(_run_alone, calls, jobs, bars)
    return [Record.load(run.folder) for run in runs]


def check(runs: Sequence[Run]) -> None:
    """Build every model once: a mistake in the last must not show after an hour."""
    for run in {(id(run.protocol), run.spec): run for run in runs}.values():
        with enough_memory():
            build(run.protocol, run.spec, run.seed)


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
        run_one(run.protocol, run.spec, run.seed, bar)
    except Interrupted as stop:
        raise KeyboardInterrupt(str(stop)) from None
    bar.finish()


def _run_alone(protocol: Protocol, spec: LayerSpec, seed: int, progress: Progress) -> None:
    """One run in a process of its own; its record is in its folder."""
    if protocol.run.threads is not None:
        torch.set_num_threads(protocol.run.threads)
    run_one(protocol, spec, seed, progress)
