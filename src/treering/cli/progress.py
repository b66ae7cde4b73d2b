"""Progress on a terminal: a bar for the run, a count of the runs; in a pipe a line per run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bars:
    """The runs of one command. Everything goes to standard error."""

    def __init__(self, runs: int, *, quiet: bool = False) -> None:
        self.runs = runs
        self.done = 0
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

    @contextmanager
    def run(self, title: str) -> Iterator["RunBar"]:
        """One run's bar; a line saying how long it took when it is done."""
        began = perf_counter()
        self.done += 1
        number = f"[{self.done}/{self.runs}] " if self.runs > 1 else ""
        bar = RunBar(self.bars, f"{number}{title}")
        yield bar
        bar.remove()
        if not self.quiet:
            how = f"{perf_counter() - began:.1f} s" if bar.trained else "finished before"
            self.console.print(f"{number}{title}: {how}", highlight=False, markup=False)


class RunBar:
    """What `treering.training` calls a Progress, as a bar."""

    def __init__(self, bars: Progress, title: str) -> None:
        self.bars = bars
        self.trained = False
        self.task = bars.add_task(title.replace("[", r"\["), total=None, note="")

    def start(self, total: int) -> None:
        self.trained = True
        self.bars.update(self.task, total=total)

    def advance(self, step: int, loss: float, accuracy: float) -> None:
        self.bars.update(
            self.task, completed=step, note=f"loss {loss:.3f}  accuracy {accuracy:.3f}"
        )

    def message(self, text: str) -> None:
        self.bars.update(self.task, note=text)

    def stop(self) -> None:
        """The bar stays until the command is done with the run."""

    def remove(self) -> None:
        self.bars.remove_task(self.task)
