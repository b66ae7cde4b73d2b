"""`treering list`: which layers, tasks and schedules there are."""

from typing import Any

from rich.table import Table
from rich.text import Text

from treering import layers, tasks
from treering._errors import UserError
from treering.cli.named_tasks import DATASETS, STREAMS, WHOLE
from treering.cli.options import Flag
from treering.cli.specs import COMMON, PARTS, SCHEDULES, SHARED, value_text
from treering.cli.streams import plain_table, print_json, standard_output
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
                "options": {k: v for k, v in layer.cell_options().items() if k not in SHARED},
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
    rows += [{"name": name, "level": "text classification"} for name in (*DATASETS, *WHOLE)]
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
        print_json({"layers": describe_layers(), "tasks": describe_tasks()})
        return
    with standard_output() as out:
        if markdown:
            out.print(markdown_layers(), markup=False, soft_wrap=True)
            return
        out.print(_layers())
        out.print(_additions(), markup=False)
        out.print(_tasks())
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
    return [f"{name}={value_text(value)}" for name, value in defaults.items()]


def _tasks() -> Table:
    table = plain_table("Tasks")
    table.add_column("name", no_wrap=True)
    # Wide enough for its longest word and two, so that none is cut.
    table.add_column("kind", min_width=len("text classification"))
    for heading in ("symbols", "classes", "outputs for 10"):
        table.add_column(heading, justify="right", width=len("symbols"))
    for row in describe_tasks():
        numbers = (row.get(k, "") for k in ("symbols", "classes", "output_length_at_10"))
        table.add_row(row["name"], row["level"], *map(str, numbers))
    return table
