"""`treering list`: which layers, tasks and schedules there are."""

from typing import Any

from rich.table import Table

from treering import layers, tasks
from treering._errors import UserError
from treering.cli.options import Flag
from treering.cli.runs import DATASETS
from treering.cli.streams import print_json, standard_output
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
        print_json({"layers": describe_layers(), "tasks": describe_tasks()})
        return
    with standard_output() as out:
        if markdown:
            out.print(markdown_layers(), markup=False, soft_wrap=True)
            return
        out.print(_layers())
        out.print(_tasks())
        out.print("and any CSV, TSV or JSONL file with a text and a label column")


def _layers() -> Table:
    table = Table(title="Layers", title_justify="left")
    for heading in ("name", "class", "along time", "options", "what it is"):
        table.add_column(heading, no_wrap=heading in ("name", "class"))
    for row in describe_layers():
        options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
        table.add_row(row["name"], row["class"], row["schedule"], options, row["summary"])
    return table


def _tasks() -> Table:
    table = Table(title="Tasks", title_justify="left")
    for heading in ("name", "kind", "symbols", "classes", "answers to 10 symbols"):
        table.add_column(heading, no_wrap=heading == "name")
    for row in describe_tasks():
        numbers = (row.get(k, "") for k in ("symbols", "classes", "output_length_at_10"))
        table.add_row(row["name"], row["level"], *map(str, numbers))
    return table
