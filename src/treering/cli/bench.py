"""`treering bench`: time and memory beside peers, correctness first."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from treering._errors import UserError, nearest
from treering.bench import crossover, growth, machine, table
from treering.bench.record import Comparison, Crossover, Growth, Measurement, read
from treering.bench.rows import Row, rows
from treering.bench.timing import BUDGETS
from treering.cli.options import Flag, Whole, command_line
from treering.cli.runs import processor
from treering.cli.streams import plain_table, print_json, standard_output
from treering.report import benchmarks

PAGE = "report.html"


@dataclass(frozen=True)
class Work:
    """One file to be written, and how its content comes about."""

    name: str
    measure: Callable[[], Iterator[Measurement]]


def bench_(
    *what: str,
    budget: Literal["smoke", "quick", "full"] = "quick",
    threads: Whole | None = None,
    out: Path = Path("runs") / "bench",
    json: Flag = False,
) -> None:
    """Measure time and memory beside peers, correctness first: a table and a page.

    Example: treering bench table --budget quick --threads 2

    Numbers are compared before anything is timed; a row whose numbers disagree is not timed. Ours
    and a peer's are called in turn; a ratio is the median over pairs. Peers that are not installed
    are skipped by name. Ctrl-C keeps what is measured.

    Parameters
    ----------
    what
        `table` (which is measured without a word), `crossover`, `growth`, or single rows and curves
        by name or pattern, such as lstm-train, 'step-*' or 'growth-pr-lstm-*'.
    budget
        How long: `smoke` takes seconds at sizes that say nothing, `quick` some minutes, `full`
        is for figures to be shown.
    threads
        Of PyTorch and of peers; as many as PyTorch takes without it.
    out
        Folder of the records, one file for each measurement, and of the page.
    json
        Print what was measured as JSON.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    words = ["bench", *what, "--budget", budget, "--threads", str(torch.get_num_threads())]
    session = table.Session(BUDGETS[budget], machine.describe(processor()), command_line(words))
    work = planned(what, session)
    if session.machine.native.startswith("none") and not json:
        print(f"treering: native kernels are missing: {session.machine.native}", file=sys.stderr)
    done = run(work, out, quiet=json)
    page = out / PAGE
    everything = read(out)
    benchmarks.write_html(everything, page)
    if json:
        print_json([one.model_dump(mode="json") for one in done])
        return
    with standard_output() as console:
        for shown in tables(done):
            console.print(shown, "", sep="\n")
        console.print(f"Page: {page}", markup=False, soft_wrap=True)


def planned(what: Sequence[str], session: table.Session) -> list[Work]:
    """All measurements asked for, in order. Errors: UserError for a name that nothing has."""
    budget = session.budget.name
    parts = {
        "table": [Work(row.name, partial(_row, row, session)) for row in rows()],
        "crossover": [
            Work(curve.name, partial(crossover.measure, curve, session))
            for curve in crossover.curves(budget)
        ],
        "growth": [
            Work(curve.name, partial(growth.measure_curve, curve, session))
            for curve in growth.curves(budget)
        ],
    }
    every = [work for part in parts.values() for work in part]
    wanted: set[str] = set()
    for word in what or ("table",):
        found = parts.get(word) or [work for work in every if fnmatchcase(work.name, word)]
        if not found:
            raise UserError(nearest(word, [*parts, *(work.name for work in every)], "measurement"))
        wanted |= {work.name for work in found}
    return [work for work in every if work.name in wanted]


def _row(row: Row, session: table.Session) -> Iterator[Comparison]:
    yield table.compare(row, session)


def run(work: Sequence[Work], out: Path, *, quiet: bool) -> list[Measurement]:
    """Measure, saving each record as it comes."""
    done: dict[str, Measurement] = {}
    console = Console(file=sys.stderr)
    shown = sys.stderr.isatty() and not quiet
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not shown,
        transient=True,
    )
    with bars:
        bar = bars.add_task("", total=len(work))
        try:
            for one in work:
                bars.update(bar, description=one.name)
                for measured in one.measure():
                    measured.save(out)
                    done[one.name] = measured
                bars.advance(bar)
                if not quiet:
                    line = f"{one.name}: {benchmarks.summary(done[one.name])}"
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            benchmarks.write_html(read(out), out / PAGE)
            raise KeyboardInterrupt(
                f"stopped; {len(done)} of {len(work)} measurements are kept in {out}; for the rest"
            ) from None
    return list(done.values())


def tables(done: Sequence[Measurement]) -> Iterator[Table]:
    """What was measured, for the terminal."""
    compared = [one for one in done if isinstance(one, Comparison)]
    if compared:
        yield _filled("Beside peers", benchmarks.HEADINGS, map(benchmarks.cells, compared))
    crossed = [one for one in done if isinstance(one, Crossover)]
    if crossed:
        yield _filled(
            "The tree beside a loop",
            benchmarks.CROSSOVER_HEADINGS,
            map(benchmarks.crossover_cells, crossed),
        )
    grown = [one for one in done if isinstance(one, Growth)]
    if grown:
        yield _filled(
            "Growth with length", benchmarks.GROWTH_HEADINGS, map(benchmarks.growth_cells, grown)
        )


def _filled(title: str, headings: Sequence[str], rows: Any) -> Table:
    shown = plain_table(title)
    for place, heading in enumerate(headings):
        left = heading in ("verdict", headings[0])
        shown.add_column(heading, justify="left" if left else "right", no_wrap=place == 0)
    for row in rows:
        shown.add_row(*row)
    return shown
