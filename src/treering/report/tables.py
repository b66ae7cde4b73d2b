"""The table of results, for Markdown and for the terminal."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from treering.records import Record
from treering.report import wording
from treering.report.sections import BASELINE, Row, Section, sections

COMPARISON = f"minus {BASELINE}"
HEADINGS = (
    "layer",
    "score",
    "seeds",
    COMPARISON,
    "parameters",
    "tokens/s",
    "wall time",
    "peak memory",
)

DISPENSABLE = ("peak memory", "wall time", "tokens/s", "parameters")
"""What a narrow terminal does without, in this order; the page and Markdown have it all."""


def headings(shown: Sequence[Section]) -> tuple[str, ...]:
    """HEADINGS, without the comparison where the baseline is not among the rows."""
    compared = any(row.is_baseline for section in shown for row in section.rows)
    return tuple(heading for heading in HEADINGS if compared or heading != COMPARISON)


def cells(row: Row) -> dict[str, str]:
    """The texts of one row, one for each of HEADINGS; the score is the mean ± its 95% interval."""
    summary, metric = row.summary, row.summary.task.measure
    texts = (
        row.label,
        wording.score(summary.score, metric),
        wording.seeds(row),
        "baseline" if row.is_baseline else wording.difference(row.difference, metric),
        f"{summary.model.parameters:,}",
        wording.whole(summary.tokens_per_second.mean if summary.tokens_per_second else None),
        wording.seconds(summary.wall_seconds.mean if summary.wall_seconds else None),
        wording.memory(summary.peak_memory_bytes),
    )
    return dict(zip(HEADINGS, texts, strict=True))


def explanation(section: Section) -> str:
    """What the columns of the table mean, in a sentence or two."""
    name, metric = section.score_name or "no run is finished", section.metric
    lower = metric.better == "lower"
    chance = f"Chance, {metric.guess}" if metric.guess else "Chance"
    unit = f"{metric.unit}, " if metric.unit else ""
    told = (
        f"Score: {name}{', lower is better' if lower else ''}; "
        "mean ± 95% interval over seeds (Student's t). "
    )
    if COMPARISON in headings([section]):
        told += f"Minus {BASELINE}: {unit}seed by seed{', below 0 is better' if lower else ''}. "
    return told + f"{chance}: {wording.number(section.task.chance, metric)}."


def markdown_table(records: Iterable[Record]) -> str:
    """One Markdown table per task, best layer first, each under its task's name.

    Unfinished runs are in the table, counted in `seeds` as `2 of 3`. Empty text for no records.
    """
    blocks = []
    for section in sections(records):
        columns = headings([section])
        rows = [cells(row) for row in section.rows]
        lines = [
            f"**{_markdown(section.title)}**",
            "",
            _line(columns),
            _line(["---", *["---:"] * (len(columns) - 1)]),
            *(_line([_markdown(row[heading]) for heading in columns]) for row in rows),
            "",
            _markdown(explanation(section)),
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _markdown(text: str) -> str:
    text = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


def terminal_table(records: Iterable[Record], width: int | None = None) -> Table:
    """All tasks in one table for `rich`, best layer of each task first and bold.

    The task has a column of its own if there are several. Numbers are never cut: where `width`
    columns of the terminal do not suffice, measurements of cost are left out, and the caption
    says which; names break.
    """
    shown = sections(records)
    several = len(shown) > 1
    lines = [
        {"task": section.title if several and row is section.rows[0] else ""} | cells(row)
        for section in shown
        for row in section.rows
    ]
    kept, left_out = ["task", *headings(shown)], []
    widths = {
        heading: max(len(word) for word in (*heading.split(), *(line[heading] for line in lines)))
        for heading in kept
    }
    # A name may take this much before anything is left out for it.
    widths["layer"] = min(widths["layer"], 24)
    widths["task"] = min(widths["task"], 24) if several else 0
    while width and len(left_out) < len(DISPENSABLE):
        if sum(widths[heading] + 2 for heading in kept if widths[heading]) - 2 <= width:
            break
        left_out.append(DISPENSABLE[len(left_out)])
        kept.remove(left_out[-1])

    caption = explanation(shown[0]) if len(shown) == 1 else ""
    if left_out:
        caption += f" A wider terminal shows {', '.join(left_out)} too."
    table = Table(
        title=Text(shown[0].title) if len(shown) == 1 else None,
        title_justify="left",
        caption=Text(caption.strip()) if caption else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    columns = [heading for heading in kept if widths[heading]]
    for heading in columns:
        name = heading in ("task", "layer")
        table.add_column(
            heading,
            justify="left" if name else "right",
            overflow="fold",
            min_width=None if name else widths[heading],
        )
    remaining = iter(lines)
    for section in shown:
        for position, row in enumerate(section.rows):
            line = next(remaining)
            best = position == 0 and row.summary.score is not None and len(section.rows) > 1
            table.add_row(
                # Text and not str: a name such as [red] is a name, not markup.
                *(Text(line[heading]) for heading in columns),
                style="bold" if best else None,
                end_section=position == len(section.rows) - 1,
            )
    return table
