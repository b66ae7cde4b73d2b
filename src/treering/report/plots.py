"""Plots as SVG text to be set into an HTML page.

Colours are written as CSS variables of the page (`var(--series-1)`), so that a plot follows the
page into the dark. Text stays text, in the page's font. Figures are small, 380 units wide with
letters of 11, so that they can be read at the width of a phone.
"""

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)
from numpy.typing import NDArray

from treering.records import CurvePoint, Record
from treering.report import wording
from treering.report.sections import Section
from treering.report.styles import COLOURS, Style

WIDTH, HEIGHT = 380, 236
EDGE = 24
"""Room at the right for half of a number under the axes' end, where no letters stand beside it."""
LETTERS = 11
MOST_POINTS = 80
"""Longer curves are averaged in bins: more points than this cannot be seen on so small a plot."""

# Colours that occur nowhere else, each the stand-in for a variable of the page's style sheet.
_INK, _QUIET, _GRID, _CARD, _SHADE = (f"#0a0b0{i}" for i in range(5))
_SERIES = [f"#0a0c0{i}" for i in range(COLOURS)]
_VARIABLES = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _GRID: "var(--grid)",
    _CARD: "var(--card)",
    _SHADE: "var(--shade)",
} | {stand_in: f"var(--series-{i})" for i, stand_in in enumerate(_SERIES)}


@dataclass(frozen=True)
class Plot:
    title: str
    note: str
    """How to read it."""
    svg: str


class _Band(NamedTuple):
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def accuracy_against_length(section: Section, styles: dict[str, Style], salt: str) -> Plot | None:
    """Mean accuracy at each evaluated length, from the lowest to the highest seed; None if the
    task has no lengths."""
    bands = {
        row.label: band
        for row in section.scored
        if (band := _lengths(row.summary.runs)) is not None
    }
    if not bands:
        return None

    size = section.task.size
    axis, plural = ("sequence length", "lengths") if size == "length" else (size, size)

    def draw(axes: Axes) -> None:
        _percent_axis(axes, section, bands.values())
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(_whole())
        if section.task.training_lengths is not None:
            shortest, longest = section.task.training_lengths
            axes.axvspan(shortest, longest, color=_SHADE, lw=0, gid="tr-trained", zorder=0)
            axes.text(
                shortest,
                1.03,
                f"trained on {shortest} to {longest}",
                transform=axes.get_xaxis_transform(),
                color=_QUIET,
                fontsize=LETTERS - 1,
            )
        for label, band in bands.items():
            _draw_band(axes, band, styles[label], opacity=_opacity(len(bands)))
        axes.set_xlim(left=0)

    ends = "; ".join(
        f"{label} {wording.percent(band.mean[0])} at {size} {band.x[0]:.0f}, "
        f"{wording.percent(band.mean[-1])} at {band.x[-1]:.0f}"
        for label, band in bands.items()
    )
    shaded = section.task.training_lengths is not None
    return Plot(
        title=f"Accuracy against {size}",
        note=f"Shaded: the {plural} trained on." if shaded else "",
        svg=_svg(
            draw,
            salt,
            f"Accuracy against {axis} on {section.title}. {ends}.",
            46,
        ),
    )


def learning_curve(
    section: Section,
    styles: dict[str, Style],
    salt: str,
    *,
    of: Literal["loss", "training", "validation"],
    in_time: bool = False,
) -> Plot | None:
    """Loss or score while training, against steps (or epochs) or against time; None without data.

    Finished runs of a row are one mean with its band; unfinished ones are drawn singly and end in
    a cross.
    """
    points = [point for run in section.records for point in run.learning]
    metric = section.metric
    what = of if of == "loss" else f"{of} {metric.name}"

    def value(point: CurvePoint) -> float | None:
        if of == "loss":
            return point.loss
        return point.train_score if of == "training" else point.validation_score

    by_epoch = all(_one_point_an_epoch(run) for run in section.records)
    longest = max((point.seconds for point in points), default=0.0)
    unit, unit_name = _time_unit(longest)

    def place(point: CurvePoint) -> float:
        if in_time:
            return point.seconds / unit
        return float(point.epoch or 0) if by_epoch else float(point.step)

    finished = {
        row.label: band
        for row in section.rows
        if (band := _curve(row.summary.runs, place, value)) is not None
    }
    unfinished = [
        (row.label, band)
        for row in section.rows
        for run in row.summary.unfinished
        if (band := _curve([run], place, value)) is not None
    ]
    bands = [*finished.values(), *(band for _, band in unfinished)]
    if not bands:
        return None

    def draw(axes: Axes) -> None:
        if of == "loss":
            _loss_axis(axes, bands)
        elif metric.of_loss is None:
            _percent_axis(axes, section, bands)
        else:
            _score_axis(axes, section, bands)
        axes.set_xlabel(unit_name if in_time else "epoch" if by_epoch else "step")
        if not in_time:
            axes.xaxis.set_major_locator(_whole())
        for label, band in unfinished:
            _draw_unfinished(axes, band, styles[label])
        for label, band in finished.items():
            _draw_band(axes, band, styles[label], opacity=_opacity(len(finished)))

    against = "time" if in_time else "epochs" if by_epoch else "steps"
    title = f"{what} against {against}".capitalize()
    ends = "; ".join(
        f"{label} ends at "
        + (f"{band.mean[-1]:.3g}" if of == "loss" else wording.number(band.mean[-1], metric))
        for label, band in [*finished.items(), *unfinished]
    )
    lower = "Lower is better." if of != "loss" and metric.better == "lower" else ""
    cross = "A cross ends a run that is not finished." if unfinished else ""
    return Plot(
        title=title,
        note=f"{lower} {cross}".strip(),
        svg=_svg(draw, salt, f"{title} on {section.title}. {ends}.", EDGE if of == "loss" else 46),
    )


def _lengths(runs: Sequence[Record]) -> _Band | None:
    curves = [
        {at.length: at.accuracy for at in run.evaluation.by_length}
        for run in runs
        if run.evaluation
    ]
    lengths = sorted(set.intersection(*map(set, curves))) if curves else []
    if not lengths:
        return None
    values = np.array([[curve[length] for length in lengths] for curve in curves])
    return _band(np.array(lengths, dtype=np.float64), values)


def _curve(
    runs: Sequence[Record],
    place: Callable[[CurvePoint], float],
    value: Callable[[CurvePoint], float | None],
) -> _Band | None:
    curves: list[dict[int, tuple[float, float]]] = []
    for run in runs:
        curve = {}
        for point in run.learning:
            y = value(point)
            # Where the loss is not finite the line stops; the page says so in words.
            if y is not None and np.isfinite(y):
                curve[point.step] = (place(point), y)
        curves.append(curve)
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    if not steps:
        return None
    both = np.array([[curve[step] for step in steps] for curve in curves])
    return _band(both[:, :, 0].mean(axis=0), both[:, :, 1])


def _band(x: NDArray[np.float64], values: NDArray[np.float64]) -> _Band:
    mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    if len(x) <= MOST_POINTS:
        return _Band(x, mean, low, high)
    # The ends stay as they are: the last value of a curve is read off it.
    starts = np.unique(np.linspace(1, len(x) - 1, MOST_POINTS - 1).astype(int))
    starts = np.concatenate([[0], starts])
    counts = np.diff(np.append(starts, len(x)))
    return _Band(
        np.add.reduceat(x, starts) / counts,
        np.add.reduceat(mean, starts) / counts,
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
    )


def _one_point_an_epoch(run: Record) -> bool:
    epochs = [point.epoch for point in run.learning]
    return None not in epochs and len(set(epochs)) == len(epochs)


def _time_unit(longest: float) -> tuple[float, str]:
    if longest < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest < 3 * 3600 else (3600.0, "hours")


def _percent_axis(axes: Axes, section: Section, bands: Iterable[_Band]) -> None:
    chance = section.task.chance
    lowest = min(chance, 0.98, *(float(band.low.min()) for band in bands))
    axes.set_ylim(max(0.0, lowest - 0.06 * (1 - lowest)), 1.0 + 0.03 * (1 - lowest))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    _chance_line(axes, section)


def _chance_line(axes: Axes, section: Section) -> None:
    chance = section.task.chance
    axes.axhline(chance, color=_QUIET, lw=1.2, ls=(0, (2, 2)), gid="tr-chance", zorder=1)
    axes.text(
        1.02,
        chance,
        "chance",
        transform=axes.get_yaxis_transform(),
        va="center",
        color=_QUIET,
        fontsize=LETTERS - 1,
    )


def _score_axis(axes: Axes, section: Section, bands: Sequence[_Band]) -> None:
    """For a score that has no upper end: as much as the curves need, chance where they pass it."""
    low = min(float(band.low.min()) for band in bands)
    high = max(float(band.high.max()) for band in bands)
    if section.metric.logarithmic and low > 0 and high / low > 5:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    if low <= section.task.chance <= high:
        _chance_line(axes, section)


def _whole() -> MaxNLocator:
    """Marks at whole numbers, for what comes one by one."""
    return MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=True)


def _loss_axis(axes: Axes, bands: Sequence[_Band]) -> None:
    low = min(float(band.low.min()) for band in bands)
    high = max(float(band.high.max()) for band in bands)
    if low > 0 and high / low > 50:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 500 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        # Both ends: with one given, the other stays where it is while nothing is drawn, at 1.
        bottom = min(0.0, low)
        axes.set_ylim(bottom, high + 0.05 * ((high - bottom) or 1.0))
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _opacity(bands: int) -> float:
    """Many bands on top of each other must leave the lines to be seen."""
    return min(0.15, 0.5 / bands)


def _draw_band(axes: Axes, band: _Band, style: Style, *, opacity: float) -> None:
    colour = _SERIES[style.colour]
    axes.fill_between(band.x, band.low, band.high, color=colour, alpha=opacity, lw=0)
    every = max(1, len(band.x) // 6)
    axes.plot(
        band.x,
        band.mean,
        color=colour,
        lw=1.7,
        ls=(0, style.dashes) if style.dashes else "-",
        marker=style.marker,
        # Lines that lie on each other have their markers at different places.
        markevery=(style.colour * every // COLOURS, every),
        ms=5,
        mec=_CARD,
        mew=0.7,
        gid="tr-series",
        zorder=3,
    )


def _draw_unfinished(axes: Axes, band: _Band, style: Style) -> None:
    colour = _SERIES[style.colour]
    axes.plot(
        band.x,
        band.mean,
        color=colour,
        lw=1.0,
        ls=(0, style.dashes) if style.dashes else "-",
        gid="tr-unfinished",
        zorder=2,
    )
    axes.plot(band.x[-1:], band.mean[-1:], color=colour, marker="x", ms=7, mew=1.8, zorder=4)


def _svg(draw: Callable[[Axes], None], salt: str, description: str, right: int) -> str:
    """Draw on axes with room for letters at the left and `right` units at the right."""
    left, bottom, top = 44, 38, 20
    # The user's own matplotlib settings must not reach the page, nor ours the user.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "font.size": LETTERS,
                "axes.edgecolor": _QUIET,
                "axes.labelcolor": _INK,
                "axes.facecolor": "none",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.grid.axis": "y",
                "axes.axisbelow": True,
                "axes.linewidth": 0.8,
                "grid.color": _GRID,
                "grid.linewidth": 0.8,
                "xtick.color": _QUIET,
                "xtick.labelcolor": _INK,
                "ytick.color": _QUIET,
                "ytick.labelcolor": _INK,
                "ytick.major.size": 0,
                "text.color": _INK,
                "figure.facecolor": "none",
                "path.simplify": False,
                "svg.hashsalt": salt,
            }
        )
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        axes = figure.add_axes(
            (
                left / WIDTH,
                bottom / HEIGHT,
                (WIDTH - left - right) / WIDTH,
                (HEIGHT - bottom - top) / HEIGHT,
            )
        )
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        draw(axes)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return _for_page(buffer.getvalue(), description)


def _for_page(svg: str, description: str) -> str:
    """Turn a file of its own into a part of a page: no addresses, no names met twice."""
    body = svg[svg.index(">", svg.index("<svg ")) + 1 :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # This style sheet is meant for a file alone; in a page it would reach everything.
    body = re.sub(r"\s*<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="tr-([a-z]+)">', r'<g class="\1">', body)
    body = re.sub(r'\s*<g id="[^"]*"/>', "", body)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = body.replace("xlink:href", "href")
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, variable)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">{body}'
    ).rstrip()
