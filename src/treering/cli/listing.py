"""`treering list`: which layers, tasks and schedules there are."""

from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from treering import layers, tasks
from treering.cli.output import console, print_json
from treering.cli.runs import DATASETS
from treering.dispatch import default_schedule


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
                "options": {k: str(v) for k, v in layer.cell_options().items()},
                "summary": summary.rstrip(":"),
            }
        )
    return rows


def describe_tasks() -> list[dict[str, Any]]:
    """Name, kind and sizes of every generated task, then the data sets."""
    rows: list[dict[str, Any]] = []
    for name in tasks.names():
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
    rows += [{"name": name, "level": "text classification"} for name in DATASETS]
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
    markdown: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
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
    if markdown:
        print(markdown_layers())
        return
    if json:
        print_json({"layers": describe_layers(), "tasks": describe_tasks()})
        return
    out = console()
    table = Table(title="Layers", title_justify="left")
    for heading in ("name", "class", "along time", "options", "what it is"):
        table.add_column(heading, no_wrap=heading in ("name", "class"))
    for row in describe_layers():
        options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
        table.add_row(row["name"], row["class"], row["schedule"], options, row["summary"])
    out.print(table)
    table = Table(title="Tasks", title_justify="left")
    for heading in ("name", "kind", "symbols", "classes", "answers to 10 symbols"):
        table.add_column(heading, no_wrap=heading == "name")
    for row in describe_tasks():
        numbers = (row.get(k, "") for k in ("symbols", "classes", "output_length_at_10"))
        table.add_row(row["name"], row["level"], *map(str, numbers))
    out.print(table)
    out.print("and any CSV, TSV or JSONL file with a text and a label column")
