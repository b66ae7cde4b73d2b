"""Progress on a terminal: a bar for the run, a count of the runs; in a pipe a line per run."""

import sys
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from treering.records import ACCURACY, Metric


class Bars:
    """The runs of one command. Everything goes to standard error."""

    def __init__(self, runs: int, *, quiet: bool = False) -> None:
        self.runs = runs
        self.begun = 0
        self.quiet = quiet
        self.console = Console(file=sys.stderr)
        # Not the console's own word: with FORCE_COLOR, set in many a CI, a pipe is one to it.
        self.shown = sys.stderr.isatty() and not quiet
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.shown,
            transient=True,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def add(self, title: str, metric: Metric = ACCURACY) -> "RunBar":
        """One more run's bar; its scores are told as the metric says."""
        self.begun += 1
        number = f"[{self.begun}/{self.runs}] " if self.runs > 1 else ""
        return RunBar(self, f"{number}{title}", metric)


class RunBar:
    """What `treering.training` calls a Progress, as a bar."""

    def __init__(self, bars: Bars, title: str, metric: Metric) -> None:
        self.bars = bars
        self.title = title
        self.metric = metric
        self.began = perf_counter()
        self.trained = False
        self.bar = bars.bars.add_task(title.replace("[", r"\["), total=None, note="")

    def start(self, total: int) -> None:
        self.trained = True
        self.bars.bars.update(self.bar, total=total)

    def advance(self, step: int, loss: float, score: float) -> None:
        metric = self.metric
        note = f"loss {loss:.3f}  {metric.name} {score:.3f}"
        if metric.of_loss is not None:
            note = metric.phrase.format(f"{score:.{metric.decimals}f}")
        self.bars.bars.update(self.bar, completed=step, note=note)

    def message(self, text: str) -> None:
        self.bars.bars.update(self.bar, note=text)

    def stop(self) -> None:
        """The bar stays until the command is done with the run: see `finish`."""

    def finish(self, seconds: float | None = None, *, diverged: bool = False) -> None:
        """Take the bar away; a line says how long the run took, by its own clock if elsewhere.

        And that it diverged, which is a result where runs may.
        """
        self.bars.bars.remove_task(self.bar)
        if not self.bars.quiet:
            if seconds is None and self.trained:
                seconds = perf_counter() - self.began
            if seconds is None:
                took = "diverged before" if diverged else "finished before"
            else:
                took = f"{seconds:.1f} s, diverged" if diverged else f"{seconds:.1f} s"
            self.bars.console.print(f"{self.title}: {took}", highlight=False, markup=False)
