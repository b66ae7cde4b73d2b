"""The page of `treering bench`: a table with targets, curves over lengths, fractions of a rate.

Reads `treering.bench.record` alone.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from treering.bench.record import (
    Comparison,
    Crossover,
    Growth,
    Machine,
    Measurement,
    Middle,
)
from treering.records import write_atomically
from treering.report import wording
from treering.report.claims import CLAIM_HEADINGS, JudgedClaim
from treering.report.document import swatch, template
from treering.report.plots import _CARD, _QUIET, _SERIES, EDGE, LETTERS, Plot, _svg
from treering.report.styles import Style, styles

TITLE = "treering bench"
HEADINGS = ("row", "ratio", "target", "verdict", "quartiles", "ours", "peer")
CROSSOVER_HEADINGS = ("curve", "beside", "crosses", "ratio at the ends", "lengths")
GROWTH_HEADINGS = ("curve", "reaches", "time", "memory", "time exponent", "memory exponent")
SPAN = 8.0
"""A strip reaches from the target divided by this to the target times this."""


@dataclass(frozen=True)
class _Rate:
    """A bar of the fractions."""

    label: str
    percent: float
    text: str
    reached: bool


def write_html(
    measurements: Sequence[Measurement],
    path: str | os.PathLike[str],
    title: str = TITLE,
    claims: Sequence[JudgedClaim] = (),
) -> Path:
    """Write the page of `render_html`, whole or not at all; return its path.

    Errors: UserError if the file cannot be written.
    """
    write_atomically(path, render_html(measurements, title, claims).encode())
    return Path(path)


def render_html(
    measurements: Sequence[Measurement], title: str = TITLE, claims: Sequence[JudgedClaim] = ()
) -> str:
    """One HTML page that needs nothing else, from any measurements; also from none.

    Claims that the measurements decide come first.
    """
    compared = sorted(
        (one for one in measurements if isinstance(one, Comparison)), key=lambda one: one.place
    )
    crossed = [one for one in measurements if isinstance(one, Crossover)]
    grown = [one for one in measurements if isinstance(one, Growth)]
    sizes = styles(_size(one) for one in crossed)
    names = styles(one.case.layer for one in grown)
    return template("benchmarks.html").render(
        title=title,
        lead=_lead(measurements),
        claims=claims,
        claim_headings=CLAIM_HEADINGS,
        findings=_findings(compared),
        groups=[(name, list(rows)) for name, rows in groupby(compared, key=lambda c: c.group)],
        rates=_rates(compared),
        crossed=crossed,
        crossover_plots=_crossover_plots(crossed, sizes),
        sizes={label: swatch(look) for label, look in sizes.items()},
        grown=grown,
        growth_plots=_growth_plots(grown, names),
        names={label: swatch(look) for label, look in names.items()},
        machines=_machines(measurements),
        measurements=measurements,
        cells=cells,
        crossover_cells=crossover_cells,
        growth_cells=growth_cells,
        headings=HEADINGS,
        crossover_headings=CROSSOVER_HEADINGS,
        growth_headings=GROWTH_HEADINGS,
        strip=_strip,
        wording=wording,
    )


def summary(one: Measurement) -> str:
    """A line on what came out."""
    if isinstance(one, Comparison):
        if one.ratio is None:
            return f"{one.status}: {one.reason}"
        return f"{_ratio(one)} of {_target(one)}, {one.verdict}"
    if isinstance(one, Crossover):
        return one.reason or f"crosses: {crossover_cells(one)[2]}"
    _, reaches, _, _, time, memory = growth_cells(one)
    return f"T to {reaches}, exponents {time} of time, {memory} of memory; {one.reason}".rstrip(
        "; "
    )


def cells(one: Comparison) -> tuple[str, ...]:
    """A row as HEADINGS say."""
    if one.ours is None or one.theirs is None or one.ratio is None:
        none = wording.NONE
        return (one.name, none, _target(one), one.verdict, none, none, none)
    low, high = _share(one, one.ratio.low), _share(one, one.ratio.high)
    return (
        one.name,
        _ratio(one),
        _target(one),
        one.verdict,
        f"{low} to {high}",
        _amount(one.ours, one.quantity),
        _amount(one.theirs, one.quantity),
    )


def crossover_cells(one: Crossover) -> tuple[str, ...]:
    """A row as CROSSOVER_HEADINGS say."""
    lengths = [point.time for point in one.points]
    ends, crosses = wording.NONE, one.status
    if one.points:
        first, last = one.points[0], one.points[-1]
        ends = f"{first.ratio.median:.2f} to {last.ratio.median:.2f}"
        crosses = f"not up to T = {last.time:,}"
    if one.crossing is not None:
        below = " or below" if one.crossing <= lengths[0] else ""
        crosses = f"T = {one.crossing:,.0f}{below}"
    extent = f"{lengths[0]:,} to {lengths[-1]:,}" if lengths else wording.NONE
    return (one.name, one.peer, crosses, ends, extent)


def growth_cells(one: Growth) -> tuple[str, ...]:
    """A row as GROWTH_HEADINGS say; time and memory are those at the largest length reached."""
    if not one.points:
        return (one.name, *(wording.NONE,) * 5)
    last = one.points[-1]
    return (
        one.name,
        f"{last.time:,}",
        _time(last.seconds.median),
        _bytes(last.peak_bytes),
        _exponent(one.time_exponent),
        _exponent(one.memory_exponent),
    )


def _exponent(value: float | None) -> str:
    return wording.NONE if value is None else f"{value:.2f}"


def _share(one: Comparison, ratio: float) -> str:
    return f"{100 * ratio:.0f}%" if one.quantity == "rate" else f"{ratio:.2f}"


def _ratio(one: Comparison) -> str:
    assert one.ratio is not None
    text = _share(one, one.ratio.median)
    return text if one.quantity == "rate" else f"{text}x"


def _target(one: Comparison) -> str:
    return f"{100 * one.target:.0f}%" if one.quantity == "rate" else f"{one.target:g}x"


def _amount(middle: Middle, quantity: str) -> str:
    return _bytes(middle.median) if quantity == "memory" else _time(middle.median)


def _time(seconds: float) -> str:
    """Three digits with the unit that fits: `1.23 ms`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 1000 else f"{seconds:,.0f} s"
    return f"{seconds * 1e6:.3g} us"


def _bytes(count: float) -> str:
    return f"{count / 2**20:,.3g} MiB" if count < 1000 * 2**20 else f"{count / 2**30:,.3g} GiB"


def _lead(measurements: Sequence[Measurement]) -> str:
    days = sorted({one.created[:10] for one in measurements})
    threads = sorted({one.machine.threads for one in measurements})
    budgets = sorted({one.budget for one in measurements})
    parts = [wording.plural(len(measurements), "measurement")]
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
        parts += [wording.plural(n, "thread") for n in threads]
        parts += [f"budget {budget}" for budget in budgets]
    return " · ".join(parts)


def _findings(compared: Sequence[Comparison]) -> list[str]:
    """How many reached their target, and what was not measured and why."""
    measured = [one for one in compared if one.ratio is not None]
    reached = sum(one.verdict.startswith("reached") for one in measured)
    noisy = sum(one.ratio is not None and one.ratio.noisy for one in measured)
    found = [f"{reached} of {wording.plural(len(measured), 'measured row')} reach their target."]
    bare = sum(one.machine.native.startswith("none") for one in measured)
    if bare:
        found.append(f"Measured without native kernels: {bare} of them; the reason is at the end.")
    if noisy:
        found.append(f"Quartiles are far apart in {noisy}: measure again on a quieter machine.")
    for one in compared:
        if one.status == "disagrees":
            found.append(f"{one.name} is not timed, its numbers disagree: {one.reason}.")
    reasons = Counter(one.reason for one in compared if one.status == "skipped")
    found += [f"Skipped {wording.plural(n, 'row')}: {reason}." for reason, n in reasons.items()]
    return found


def _strip(one: Comparison) -> Markup:
    """The ratio on a logarithmic line with the target in the middle; right of it is reached."""
    if one.ratio is None:
        return Markup("")
    width, height, edge = 96, 14, 5

    def place(ratio: float) -> str:
        way = np.log(max(ratio, 1e-9) / one.target) / np.log(SPAN)
        return f"{width / 2 + float(np.clip(way, -1, 1)) * (width / 2 - edge):.1f}"

    low, middle, high = (place(v) for v in (one.ratio.low, one.ratio.median, one.ratio.high))
    spoken = f"{_ratio(one)}, target {_target(one)}"
    # Only numbers are set into the markup.
    return Markup(
        f'<svg class="strip" viewBox="0 0 {width} {height}" role="img" aria-label="{spoken}">'
        f'<path class="axis" d="M{edge} {height / 2:g}H{width - edge}"/>'
        f'<path class="tick" d="M{width / 2:g} 1V{height - 1}"/>'
        f'<path class="range" d="M{low} {height / 2:g}H{high}"/>'
        f'<circle cx="{middle}" cy="{height / 2:g}" r="3.2"/></svg>'
    )


def _rates(compared: Sequence[Comparison]) -> list[_Rate]:
    found = []
    for one in compared:
        if one.quantity != "rate" or one.ratio is None:
            continue
        rate = f", {one.rate / 1e9:,.0f} GFLOP/s" if one.rate else ""
        percent = 100 * one.ratio.median
        reached = one.verdict.startswith("reached")
        label = one.name.removeprefix("gemm-")
        found.append(_Rate(label, min(100.0, round(percent, 1)), f"{percent:.0f}%{rate}", reached))
    return found


def _size(one: Crossover) -> str:
    return f"B{one.case.batch} H{one.case.hidden_size}"


def _crossover_plots(crossed: Sequence[Crossover], looks: dict[str, Style]) -> list[Plot]:
    """For each loop and mode: how many times longer the loop takes, over length."""
    plots = []

    def key(one: Crossover) -> tuple[str, str]:
        return one.peer, one.case.mode

    for (peer, mode), group in groupby(sorted(crossed, key=key), key=key):
        lines = [one for one in group if one.points]
        if not lines:
            continue

        def draw(axes: Axes, lines: list[Crossover] = lines) -> None:
            _logarithmic(axes, "sequence length", subs=(1, 2, 5))
            axes.axhline(1, color=_QUIET, lw=1.2, ls=(0, (2, 2)), gid="tr-even", zorder=1)
            for one in lines:
                look = looks[_size(one)]
                x = [point.time for point in one.points]
                axes.fill_between(
                    x,
                    [point.ratio.low for point in one.points],
                    [point.ratio.high for point in one.points],
                    color=_SERIES[look.colour],
                    alpha=0.12,
                    lw=0,
                )
                _line(axes, x, [point.ratio.median for point in one.points], look)
                if one.crossing is not None and one.crossing > x[0]:
                    axes.plot(
                        [one.crossing],
                        [1],
                        marker="o",
                        ms=9,
                        mfc="none",
                        mec=_SERIES[look.colour],
                        mew=1.6,
                        gid="tr-crossing",
                        zorder=4,
                    )

        ends = "; ".join(f"{_size(one)}: {crossover_cells(one)[2]}" for one in lines)
        word = "Training" if mode == "train" else "Inference"
        plots.append(
            Plot(
                title=f"{word}, beside {peer}",
                note="Time of the loop over that of the tree. Above 1 the tree is faster;"
                " circles: where it becomes so.",
                svg=_svg(
                    draw, f"crossover-{mode}-{peer}", f"{word}, ratio over length. {ends}.", 14
                ),
            )
        )
    return plots


def _growth_plots(grown: Sequence[Growth], looks: dict[str, Style]) -> list[Plot]:
    plots = []
    for quantity, unit in (("time", "seconds"), ("memory", "MiB")):
        for mode in ("infer", "train"):
            lines = [one for one in grown if one.case.mode == mode and one.points]
            if not lines:
                continue
            plots.append(_growth_plot(lines, looks, quantity, unit, mode))
    return plots


def _growth_plot(
    lines: Sequence[Growth], looks: dict[str, Style], quantity: str, unit: str, mode: str
) -> Plot:
    def draw(axes: Axes) -> None:
        _logarithmic(axes, "sequence length")
        for one in lines:
            x = [point.time for point in one.points]
            y = [
                point.seconds.median if quantity == "time" else point.peak_bytes / 2**20
                for point in one.points
            ]
            # A logarithmic axis has no place for 0.
            kept = [(a, b) for a, b in zip(x, y, strict=True) if b > 0]
            _line(axes, [a for a, _ in kept], [b for _, b in kept], looks[one.case.layer])

    def slope(one: Growth) -> str:
        return _exponent(one.time_exponent if quantity == "time" else one.memory_exponent)

    word = "training" if mode == "train" else "inference"
    ends = "; ".join(f"{one.case.layer} exponent {slope(one)}" for one in lines)
    return Plot(
        title=f"{quantity.capitalize()} in {word}",
        note=f"In {unit}, of one call.",
        svg=_svg(
            draw, f"growth-{quantity}-{mode}", f"{quantity} over length, {word}. {ends}.", EDGE
        ),
    )


def _logarithmic(axes: Axes, label: str, subs: tuple[int, ...] = (1,)) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(label)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(LogLocator(base=4, numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    # A ratio may stay within a decade, where powers of ten alone would leave one number.
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=LETTERS - 1)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], look: Style) -> None:
    axes.plot(
        x,
        y,
        color=_SERIES[look.colour],
        lw=1.7,
        ls=(0, look.dashes) if look.dashes else "-",
        marker=look.marker,
        ms=5,
        mec=_CARD,
        mew=0.7,
        gid="tr-series",
        zorder=3,
    )


def _machines(measurements: Sequence[Measurement]) -> list[tuple[dict[str, str], int]]:
    """Each machine once, with the number of its measurements; the load is each one's own."""

    def text(one: Measurement) -> str:
        return one.machine.model_dump_json(exclude={"load"})

    found = []
    for _, alike in groupby(sorted(measurements, key=text), key=text):
        group = list(alike)
        found.append((_facts(group[0].machine, [one.machine.load for one in group]), len(group)))
    return found


def _facts(machine: Machine, loads: Sequence[float]) -> dict[str, str]:
    facts = {name: str(value) for name, value in machine.model_dump(exclude={"load"}).items()}
    return facts | {"busy processes before": f"{min(loads):g} to {max(loads):g}"}
