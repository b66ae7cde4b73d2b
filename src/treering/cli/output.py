"""Results of several runs: a table, a report page, or JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from treering import report
from treering.cli.streams import print_json, standard_output
from treering.records import Record
from treering.report.sections import Row, Section, sections


def show(records: Sequence[Record], page: Path, title: str, as_json: bool) -> None:
    """The table of the records, and the report page at `page`."""
    report.write_html(records, page, title=title)
    if as_json:
        print_json({"report": str(page), "results": results(records)})
        return
    with standard_output() as out:
        out.print(report.terminal_table(records, out.width))
        out.print(f"Report: {page}", markup=False, soft_wrap=True)


def results(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of the table, in its order, as plain data."""
    return [_plain(section, row) for section in sections(records) for row in section.rows]


def _plain(section: Section, row: Row) -> dict[str, Any]:
    summary = row.summary
    return {
        "task": section.task.name,
        "layer": summary.layer,
        "label": row.label,
        "score": summary.score.mean if summary.score else None,
        "interval": summary.score.interval if summary.score else None,
        "score_name": summary.score_name,
        "better": section.metric.better,
        "chance": section.task.chance,
        "minus_lstm": row.difference.mean if row.difference else None,
        "seeds": list(summary.seeds),
        "unfinished_seeds": [run.seed for run in summary.unfinished],
        "parameters": summary.model.parameters,
        "tokens_per_second": summary.tokens_per_second.mean if summary.tokens_per_second else None,
        "commands": list(dict.fromkeys(run.command for run, _ in row.records)),
    }
