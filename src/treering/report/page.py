"""The page: one HTML file that needs nothing else, not even a network."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from pydantic import JsonValue

from treering.records import ACCURACY, PARTS, STEP_PARTS, Record, write_atomically
from treering.report import tables, wording
from treering.report.claims import CLAIM_HEADINGS, JudgedClaim
from treering.report.document import swatch, template
from treering.report.sections import (
    NEAR_CHANCE,
    Row,
    Section,
    last_train_score,
    sections,
)
from treering.report.styles import Style, styles

if TYPE_CHECKING:
    from treering.report.plots import Plot


@dataclass(frozen=True)
class _Segment:
    part: str
    width: float
    """In percent of the longest bar."""
    text: str


@dataclass(frozen=True)
class _Bar:
    label: str
    segments: list[_Segment]
    total: str
    per_step: str
    description: str


@dataclass(frozen=True)
class _Cell:
    """A task and a layer in the overview."""

    text: str
    note: str
    tint: float
    """How far from chance to perfect, 0 to 1."""
    best: bool
    anchor: str


def render_html(
    records: Iterable[Record],
    title: str = "treering report",
    claims: Sequence[JudgedClaim] = (),
) -> str:
    """The report on the records as one HTML page, claims that they decide first.

    Everything is inside: styles, plots, no scripts, no addresses to fetch. The same records give
    the same text, whatever their order. Costs about a fifth of a second per task.

    Raises:
        ValueError: no records.
    """
    shown = sections(records)
    if not shown:
        raise ValueError(
            "a report needs at least one record; find_records(folder) reads those of a folder"
        )
    looks = styles(row.label for section in shown for row in section.rows)
    runs = [run for section in shown for run in section.records]
    return template("page.html").render(
        title=title,
        lead=_lead(shown, runs),
        claims=claims,
        claim_headings=CLAIM_HEADINGS,
        sections=shown,
        columns=list(looks),
        overview=_overview(shown, list(looks)) if len(shown) > 1 else [],
        swatches={label: swatch(look) for label, look in looks.items()},
        figures={section.anchor: _figures(section, looks) for section in shown},
        bars={section.anchor: _bars(section) for section in shown},
        environments=_environments(runs),
        settings={section.anchor: _settings(section) for section in shown},
        commands=_commands,
        parts=PARTS,
        strip=_strip,
        strip_scale=_strip_scale,
        tables=tables,
        wording=wording,
        last_train_score=last_train_score,
    )


def write_html(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    title: str = "treering report",
    claims: Sequence[JudgedClaim] = (),
) -> Path:
    """Write the page of `render_html` to a file, whole or not at all, and return its path.

    Raises:
        UserError: the file cannot be written.
        ValueError: no records.
    """
    write_atomically(path, render_html(records, title, claims).encode())
    return Path(path)


def _lead(shown: list[Section], runs: list[Record]) -> str:
    tasks = {section.task.name for section in shown}
    layers = {run.model.layer for run in runs}
    days = sorted({run.created[:10] for run in runs})
    parts = [
        wording.plural(len(runs), "run"),
        wording.plural(len(tasks), "task"),
        wording.plural(len(layers), "layer"),
        days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    ]
    return " · ".join(parts)


def _figures(section: Section, looks: dict[str, Style]) -> "list[Plot]":
    # matplotlib takes a second to import; tables and words are made without it.
    from treering.report import plots

    salt = section.anchor
    validation = plots.learning_curve(section, looks, f"{salt}-validation", of="validation")
    drawn = [
        plots.accuracy_against_length(section, looks, f"{salt}-lengths"),
        # A score that is a form of the loss says all that the loss says.
        None
        if section.metric.of_loss
        else plots.learning_curve(section, looks, f"{salt}-loss", of="loss"),
        plots.learning_curve(section, looks, f"{salt}-training", of="training"),
        validation,
        plots.learning_curve(
            section,
            looks,
            f"{salt}-time",
            of="validation" if validation else "training",
            in_time=True,
        ),
    ]
    return [plot for plot in drawn if plot is not None]


def _bars(section: Section) -> list[_Bar]:
    """Where the time went, by row: means over the runs of the row, finished ones if there are."""
    spent: list[tuple[str, dict[str, float], float]] = []
    for row in section.rows:
        runs = [
            run
            for run in row.summary.runs or row.summary.unfinished
            if sum(run.cost.where.values())
        ]
        if not runs:
            continue
        names = [*PARTS, *sorted({name for run in runs for name in run.cost.where} - {*PARTS})]
        where = {
            name: sum(run.cost.where.get(name, 0.0) for run in runs) / len(runs) for name in names
        }
        steps = sum(wording.last_step(run) for run in runs) / len(runs)
        spent.append((row.label, {name: t for name, t in where.items() if t > 0}, steps))
    longest = max((sum(where.values()) for _, where, _ in spent), default=0.0)
    bars = []
    for label, where, steps in spent:
        total = sum(where.values())
        training = sum(where.get(part, 0.0) for part in STEP_PARTS)
        segments = []
        for part, time in where.items():
            width = 100 * time / longest
            share = f"{100 * time / total:.0f}%"
            # Narrower than this the number has no room on a phone.
            segments.append(_Segment(part, round(width, 3), share if width >= 10 else ""))
        bars.append(
            _Bar(
                label=label,
                segments=segments,
                total=wording.seconds(total),
                per_step=f"{1000 * training / steps:.3g} ms a step" if steps else "",
                description=f"{label}: {wording.seconds(total)}, of which " + wording.shares(where),
            )
        )
    return bars


def _ends(section: Section) -> tuple[float, float]:
    """Where the strips of a section begin and end: 0 and 1, or around the scores there are."""
    if section.metric is ACCURACY:
        return 0.0, 1.0
    scores = [s for row in section.scored for s in row.summary.scores.values()] or [1.0]
    margin = max((max(scores) - min(scores)) / 20, max(scores) / 200)
    return min(scores) - margin, max(scores) + margin


def _strip(row: Row, section: Section) -> Markup:
    """Every seed's score as a dot, a tick at chance if it is near; text for the blind."""
    width, height = 96, 14
    low, high = _ends(section)

    def place(score: float) -> str:
        return f"{5 + (score - low) / (high - low) * (width - 10):.1f}"

    dots = "".join(
        f'<circle cx="{place(score)}" cy="{height / 2:g}" r="3.2"/>'
        for score in row.summary.scores.values()
    )
    chance = section.task.chance
    tick = (
        f'<path class="tick" d="M{place(chance)} 1V{height - 1}"/>' if low <= chance <= high else ""
    )
    spoken = ", ".join(
        f"seed {seed} {wording.number(score, section.metric)}"
        for seed, score in row.summary.scores.items()
    )
    # Only numbers are set into the markup here; names go through the template.
    return Markup(
        f'<svg class="strip" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{spoken or "no finished run"}">'
        f'<path class="axis" d="M5 {height / 2:g}H{width - 5}"/>{tick}{dots}</svg>'
    )


def _strip_scale(section: Section) -> str:
    """What the strips show, in a sentence."""
    low, high = _ends(section)
    if section.metric is ACCURACY:
        return "Each seed: a dot from 0 to 100%, chance as a tick."
    left, right = (wording.number(end, section.metric) for end in (low, high))
    tick = ", chance as a tick" if low <= section.task.chance <= high else ""
    return f"Each seed: a dot from {left} to {right}{tick}."


def _overview(shown: list[Section], columns: list[str]) -> list[tuple[Section, list[_Cell]]]:
    lines = []
    for section in shown:
        by_label = {row.label: row for row in section.rows}
        metric = section.metric
        top = next((row.summary.score.mean for row in section.scored if row.summary.score), None)
        line = []
        for label in columns:
            row = by_label.get(label)
            if row is None:
                line.append(_Cell("", "", 0.0, False, section.anchor))
                continue
            score = row.summary.score
            if score is None:
                line.append(_Cell("unfinished", "", 0.0, False, section.anchor))
                continue
            way = max(0.0, section.way(score.mean))
            notes = (
                [f"± {wording.half_width(score.half_width, metric)}"] if score.half_width else []
            )
            if way < NEAR_CHANCE:
                notes = ["near chance"]
            if row.summary.unfinished:
                notes.append(f"{wording.seeds(row)} seeds")
            line.append(
                _Cell(
                    text=wording.number(score.mean, metric),
                    note=", ".join(notes),
                    tint=round(way, 2),
                    best=score.mean == top and way >= NEAR_CHANCE,
                    anchor=section.anchor,
                )
            )
        lines.append((section, line))
    return lines


def _commands(row: Row) -> list[str]:
    """The commands of every run of the row, each once."""
    return list(dict.fromkeys(run.command for run, _ in row.records))


def _settings(section: Section) -> list[tuple[str, list[tuple[str, str]]]]:
    """Setting, and its values with the rows that have them; one unnamed value if all agree."""
    flat = {row.label: _flat(row.summary.settings) for row in section.rows}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    result = []
    for name in names:
        by_value: dict[str, list[str]] = {}
        for label, settings in flat.items():
            by_value.setdefault(settings.get(name, wording.NONE), []).append(label)
        alike = len(by_value) == 1
        result.append(
            (
                name,
                [(value, "" if alike else ", ".join(who)) for value, who in by_value.items()],
            )
        )
    return result


def _flat(value: JsonValue, name: str = "") -> dict[str, str]:
    """Nested settings by dotted names: {"curriculum": {"longest": 40}} has `curriculum.longest`."""
    if isinstance(value, dict) and value:
        return {
            path: text
            for key, inner in value.items()
            for path, text in _flat(inner, f"{name}.{key}" if name else key).items()
        }
    if isinstance(value, list):
        return {name: ", ".join(str(inner) for inner in value) or "none"}
    return {name: "none" if value is None else str(value)} if name else {}


def _environments(runs: list[Record]) -> list[tuple[dict[str, str], int]]:
    """Each environment once, with the number of its runs."""

    def text(run: Record) -> str:
        return run.environment.model_dump_json()

    result = []
    for _, alike in groupby(sorted(runs, key=text), key=text):
        group = list(alike)
        fields = {name: str(value) for name, value in group[0].environment.model_dump().items()}
        result.append((fields, len(group)))
    return result
