"""`treering list`: which layers, tasks and schedules there are."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from treering import layers, tasks
from treering._errors import UserError
from treering.cli.named_tasks import DATASETS, EXPRESSIONS, STREAMS, WHOLE
from treering.cli.options import Flag
from treering.cli.specs import COMMON, PARTS, SCHEDULES, SHARED
from treering.cli.streams import plain_table, print_json, standard_output
from treering.cli.values import value_text
from treering.dispatch import default_schedule
from treering.models import baselines


def describe_layers() -> list[dict[str, Any]]:
    """Name, class, schedule, options and first sentence of every registered layer."""
    rows = []
    for name in layers.names():
        layer = layers.get(name)
        cell = layer.cell_type(1)
        summary = (layer.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        rows.append(
            {
                "name": name,
                "class": f"tr.{layer.__name__}",
                "schedule": type(default_schedule(cell)).__name__,
                "options": {k: v for k, v in layer.cell_options().items() if k not in SHARED},
                "summary": summary.rstrip(":"),
            }
        )
    return rows


def describe_baselines() -> list[dict[str, Any]]:
    """Name, class, options and first sentence of every baseline."""
    rows = []
    for name in baselines.names():
        kind = baselines.get(name)
        summary = (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        rows.append(
            {
                "name": name,
                "class": f"tr.models.baselines.{kind.__name__}",
                "options": kind.options(),
                "summary": summary.rstrip(":"),
            }
        )
    return rows


def describe_tasks() -> list[dict[str, Any]]:
    """Name, kind and sizes of every generated task, then the data sets."""
    rows: list[dict[str, Any]] = []
    for name in tasks.all_names():
        task = tasks.get(name)
        rows.append(
            {
                "name": name,
                "level": task.level,
                "symbols": task.input_size,
                "classes": task.output_size,
                "output_length_at_10": task.output_length(10),
            }
        )
    rows += [{"name": name, "level": "text classification"} for name in (*DATASETS, *WHOLE)]
    rows += [{"name": name, "level": "nested expressions"} for name in EXPRESSIONS]
    rows += [{"name": name, "level": "language model"} for name in STREAMS]
    return rows


def markdown_layers() -> str:
    """The table of layers as Markdown, for the README."""
    lines = ["| layer | on the command line | along time | what it is |", "|---|---|---|---|"]
    lines += [
        f"| `{row['class']}` | `{row['name']}` | `{row['schedule']}` | {row['summary']} |"
        for row in describe_layers()
    ]
    return "\n".join(lines)


def list_(
    *,
    markdown: Flag = False,
    json: Flag = False,
) -> None:
    """List the layers and the tasks.

    Example: treering list

    Parameters
    ----------
    markdown
        Print the layers as a Markdown table.
    json
        Print JSON.
    """
    if markdown and json:
        raise UserError("give --markdown or --json, not both")
    if json:
        print_json(
            {
                "layers": describe_layers(),
                "baselines": describe_baselines(),
                "tasks": describe_tasks(),
            }
        )
        return
    with standard_output() as out:
        if markdown:
            out.print(markdown_layers(), markup=False, soft_wrap=True)
            return
        out.print(_layers())
        out.print(_additions(), markup=False)
        out.print(_baselines())
        for table in _tasks():
            out.print(table)
            out.print()
        out.print("and any CSV, TSV or JSONL file with a text and a label column, any .txt file")


def _layers() -> Table:
    table = plain_table("Layers")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is; its class, what runs it along time, its options")
    for row in describe_layers():
        about = [row["class"], row["schedule"], *_options(row["options"])]
        # A summary is written for Markdown.
        table.add_row(row["name"], Text(f"{row['summary'].replace('`', '')}\n{', '.join(about)}"))
    return table


def _baselines() -> Table:
    table = plain_table("Baselines of the formal-language benchmark")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is; its class, its options")
    for row in describe_baselines():
        about = [row["class"], *_options(row["options"])]
        table.add_row(row["name"], Text(f"{row['summary']}\n{', '.join(about)}"))
    return table


def _additions() -> str:
    lines = [
        f"every layer: {', '.join(_options(COMMON))}, schedule={'|'.join(SCHEDULES)}",
        f"every layer that runs as a loop of gates: {', '.join(_options(_shared()))}",
        *(f"around it: {', '.join([f'+{part}', *_options(PARTS[part])])}" for part in PARTS),
        "for instance: ql-lstm:num_layers=2:shared_blocks=1+tree-order+lp:exponents=0.5",
    ]
    return "\n".join(lines) + "\n"


def _shared() -> dict[str, Any]:
    """The options that all layers made of gates have."""
    return {name: layers.LSTM.cell_options()[name] for name in SHARED}


def _options(defaults: dict[str, Any]) -> list[str]:
    # An empty default: what may be named there is not limited unless it is given.
    return [
        name if value == () else f"{name}={value_text(value)}" for name, value in defaults.items()
    ]


def _tasks() -> Iterator[Table]:
    rows = describe_tasks()
    formal = set(tasks.names())
    along = set(tasks.all_names()) - formal
    yield _task_table("Formal languages", [row for row in rows if row["name"] in formal])
    yield _task_table(
        "State tracking and recall, an answer at every symbol",
        [row for row in rows if row["name"] in along],
    )
    given = [row for row in rows if row["name"] not in formal | along]
    yield _task_table("Data sets", given, numbers=False)


def _task_table(title: str, rows: list[dict[str, Any]], *, numbers: bool = True) -> Table:
    table = plain_table(title)
    table.add_column("name", no_wrap=True)
    # Wide enough for its longest word and two, so that none is cut.
    table.add_column("kind", min_width=len("text classification"))
    headings = {"symbols": "symbols", "classes": "classes", "outputs for 10": "output_length_at_10"}
    if numbers:
        for heading in headings:
            table.add_column(heading, justify="right", width=len("symbols"))
    for row in rows:
        counts = (str(row[key]) for key in headings.values()) if numbers else ()
        table.add_row(row["name"], row["level"], *counts)
    return table
