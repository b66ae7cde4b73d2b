"""What a sweep found: a table, a line for each layer, a report page, or JSON."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from treering import report
from treering.cli.grids import Axis
from treering.cli.named_tasks import NESTED, STREAM
from treering.cli.ranking import Entry, best_by_layer, verdict
from treering.cli.runs import Protocol
from treering.cli.streams import plain_table, print_json, standard_output
from treering.report import wording
from treering.report.statistics import Estimate

Shown = Literal["chosen", "all"]
"""What is on the page."""


def show(
    entries: Sequence[Entry],
    axes: Sequence[Axis],
    protocol: Protocol,
    page: Path,
    on_page: Shown,
    as_json: bool,
) -> None:
    """All entries in their order as a table or JSON, and the report page at `page`."""
    by_layer = best_by_layer(entries)
    chosen = [of_layer[0] for of_layer in by_layer.values()]
    count = wording.plural(len(entries) // len(by_layer), "combination")
    title = f"{protocol.task.name}: {count} of {wording.listed([axis.flag for axis in axes])}"
    # Two combinations may come to the same run, where a vocabulary is smaller than both allow.
    shown = chosen if on_page == "chosen" else entries
    records = {record.run_id: record for entry in shown for record in entry.records}
    report.write_html(list(records.values()), page, title=title)
    if as_json:
        results = [_plain(entry, entry in chosen) for entry in entries]
        print_json({"report": str(page), "results": results})
        return
    table = plain_table(title)
    for heading in ("layer", *(axis.flag for axis in axes)):
        table.add_column(heading, overflow="fold")
    for heading in ("validation", "score", "seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(*map(Text, _cells(entry)), style="bold" if entry in chosen else None)
    lines = [
        *_explanations(entries, axes, protocol),
        *(verdict(layer, of_layer) for layer, of_layer in by_layer.items()),
        f"Report: {page}",
    ]
    with standard_output() as out:
        out.print(table)
        for line in lines:
            out.print(line, markup=False, soft_wrap=True)


def _other_data(axes: Sequence[Axis], protocol: Protocol) -> list[str]:
    """Options of the grid that change what is validated on."""
    names = {"text", "label", "train_length"}
    names |= {STREAM: {"max_words"}, NESTED: {"max_tokens"}}.get(protocol.kind, set())
    return [axis.flag for axis in axes if axis.name in names]


def _explanations(entries: Sequence[Entry], axes: Sequence[Axis], protocol: Protocol) -> list[str]:
    metric = protocol.task.metric
    names = dict.fromkeys(
        r.evaluation.score_name for e in entries for r in e.finished if r.evaluation
    )
    lower = ", lower is better" if entries[0].metric.better == "lower" else ""
    lines = [
        f"Best validation ({metric}{lower}) first. Score: {'; '.join(names) or 'none'}."
        " Both: mean ± 95% interval over seeds (Student's t)."
    ]
    diverged = [entry for entry in entries if entry.diverged]
    if diverged:
        lines.append(
            "Fewer seeds than asked for: the others diverged, so that the combination comes after"
            " all that never did."
        )
    other = _other_data(axes, protocol)
    if other:
        lines.append(
            f"Combinations that differ in {wording.listed(other)} are validated on different data:"
            " their order is no verdict."
        )
    return lines


def _cells(entry: Entry) -> tuple[str, ...]:
    seeds, finished = len(entry.records), len(entry.finished)
    return (
        entry.spec.text,
        *entry.combination.texts,
        wording.score(entry.validation, entry.metric),
        wording.score(entry.score, entry.metric),
        str(seeds) if finished == seeds else f"{finished} of {seeds}",
    )


def _plain(entry: Entry, chosen: bool) -> dict[str, Any]:
    names = {r.evaluation.score_name for r in entry.finished if r.evaluation}
    return {
        "layer": entry.spec.text,
        "options": {
            name.replace("_", "-"): value if isinstance(value, int | float) else str(value)
            for name, value in entry.combination.options.items()
        },
        "chosen": chosen,
        "validation": _mean(entry.validation),
        "validation_interval": _interval(entry.validation),
        "score": _mean(entry.score),
        "interval": _interval(entry.score),
        "score_name": next(iter(names), ""),
        "better": entry.metric.better,
        "seeds": [record.seed for record in entry.finished],
        "diverged_seeds": list(entry.diverged),
        "commands": [record.command for record in entry.records],
    }


def _mean(value: Estimate | None) -> float | None:
    return _number(value.mean) if value else None


def _interval(value: Estimate | None) -> list[float | None] | None:
    return [_number(end) for end in value.interval] if value and value.interval else None


def _number(value: float) -> float | None:
    # A perplexity may be too large for a number, and JSON has no infinity.
    return value if math.isfinite(value) else None
