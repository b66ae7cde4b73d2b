"""Printing results: tables for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from treering import report
from treering.records import Record, paired_difference, summarise

WIDE = 160
"""Columns in a pipe or a file, where nothing says how wide the reader is."""


def console() -> Console:
    """Standard output, wide enough in a pipe that tables are not cut."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDE)


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def show(records: Sequence[Record], page: Path, title: str, as_json: bool) -> None:
    """The table of the records, and the report page at `page`."""
    report.write_html(records, page, title=title)
    if as_json:
        print_json({"report": str(page), "results": results(records)})
        return
    out = console()
    out.print(report.terminal_table(records))
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)


def results(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of the table, as plain data."""
    summaries = summarise(records)
    rows = []
    for summary in summaries:
        baseline = next(
            (s for s in summaries if s.layer == "lstm" and s.task == summary.task), None
        )
        comparable = baseline is not None and baseline.score_name == summary.score_name
        difference = paired_difference(summary, baseline) if baseline and comparable else None
        rows.append(
            {
                "task": summary.task.name,
                "layer": summary.layer,
                "score": summary.score.mean if summary.score else None,
                "interval": summary.score.interval if summary.score else None,
                "score_name": summary.score_name,
                "minus_lstm": difference.mean if difference else None,
                "seeds": list(summary.seeds),
                "parameters": summary.model.parameters,
                "commands": [run.command for run in (*summary.runs, *summary.unfinished)],
            }
        )
    return rows
