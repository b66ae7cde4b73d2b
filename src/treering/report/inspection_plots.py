"""Plots of an inspection, as SVG text.

Lines are medians, bands reach from the lower to the upper quartile.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from treering.inspect.record import (
    Curve,
    Gate,
    Gradient,
    Inspection,
    Probe,
    Similarity,
    Spectrum,
)
from treering.report import wording
from treering.report.plots import _CARD, _QUIET, _SERIES, _SHADE, EDGE, LETTERS, Plot, _svg
from treering.report.styles import COLOURS, Style

Looks = Mapping[str, Style]
Curves = Mapping[str, Curve]

ORDERS = {"text": "tokens as they stand", "reading": "tokens as they are read"}


def gradient_label(one: Gradient) -> str:
    """`layer 1, h`; of inputs the order that counts."""
    return ORDERS[one.order] if one.of == "input" else f"{one.layer}, {one.of}"


def gradient_plots(found: Sequence[Gradient], looks: Looks, salt: str) -> list[Plot]:
    """One of the inputs, one of the states."""
    plots = []
    for title, chosen in (
        ("At the inputs", [one for one in found if one.of == "input"]),
        ("At the states", [one for one in found if one.of != "input"]),
    ):
        if chosen:
            lines = {gradient_label(one): one.curve for one in chosen}
            plots.append(gradient_plot(title, lines, looks, f"{salt}-{title}"))
    return plots


def gradient_plot(title: str, lines: Curves, looks: Looks, salt: str) -> Plot:
    """Norms over the distance to the last token, on a logarithmic axis."""

    def draw(axes: Axes) -> None:
        _logarithmic(axes)
        axes.set_xlabel("distance to the last token")
        for label, one in lines.items():
            _draw(axes, one, looks[label], len(lines), positive=True)

    return Plot(title, "Norm of the gradient.", _svg(draw, salt, _spoken(title, lines), EDGE))


def similarity_plot(title: str, lines: Curves, looks: Looks, salt: str) -> Plot:
    """Cosines over distance, which doubles from point to point."""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log", base=2)
        _powers_of_two(axes)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_xlabel("distance in tokens")
        for label, one in lines.items():
            _draw(axes, one, looks[label], len(lines))

    note = "Cosine of two states so far apart."
    return Plot(title, note, _svg(draw, salt, _spoken(title, lines), EDGE))


def similarities(found: Sequence[Similarity], looks: Looks, salt: str) -> list[Plot]:
    lines = {one.layer: one.curve for one in found}
    return [similarity_plot("Cosine over distance", lines, looks, salt)] if lines else []


def gate_plots(found: Sequence[Gate], looks: Looks, salt: str) -> list[Plot]:
    """For each layer the histograms, of gates and of candidates, and the means by position."""
    plots = []
    for layer, group in groupby(found, key=lambda one: one.layer):
        # A number with which the old state is added has no distribution of interest.
        here = [one for one in group if one.name != "alpha"]
        for low, name in ((0.0, "gates"), (-1.0, "candidates")):
            chosen = [one for one in here if one.range[0] == low]
            if chosen:
                plots.append(
                    _histogram(f"{layer}, {name}", chosen, looks, f"{salt}-{layer}-{name}")
                )
        chosen = [one for one in here if one.range[0] == 0] or here
        if len(chosen[0].at) > 1:
            plots.append(_by_position(layer, chosen, looks, f"{salt}-{layer}-positions"))
    return plots


def _histogram(title: str, chosen: Sequence[Gate], looks: Looks, salt: str) -> Plot:
    def draw(axes: Axes) -> None:
        low, high = chosen[0].range
        edges = np.linspace(low, high, len(chosen[0].shares) + 1)
        for one in chosen:
            look = looks[one.name]
            axes.stairs(
                [100 * share for share in one.shares],
                edges,
                color=_SERIES[look.colour],
                lw=1.7,
                ls=(0, look.dashes) if look.dashes else "-",
                gid="tr-series",
            )
        axes.set_xlim(low, high)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("value")

    means = "; ".join(f"{one.name} mean {one.mean:.3g}" for one in chosen)
    note = f"Share of all values in each of {len(chosen[0].shares)} bins."
    return Plot(title[0].upper() + title[1:], note, _svg(draw, salt, f"{title}. {means}.", EDGE))


def _by_position(layer: str, chosen: Sequence[Gate], looks: Looks, salt: str) -> Plot:
    def draw(axes: Axes) -> None:
        for one in chosen:
            _line(axes, one.at, one.by_position, looks[one.name])
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("tokens read before")

    ends = "; ".join(
        f"{one.name} {one.by_position[0]:.3g} to {one.by_position[-1]:.3g}" for one in chosen
    )
    title = f"{layer}, means by position"
    return Plot(title[0].upper() + title[1:], "", _svg(draw, salt, f"{title}: {ends}.", EDGE))


def spectrum_plots(found: Sequence[Spectrum], looks: Looks, salt: str) -> list[Plot]:
    """For each matrix, and each operand of a merge, the singular values of every gate's rows."""
    plots = []

    def key(one: Spectrum) -> tuple[str, str, str]:
        return one.layer, one.matrix, one.operand

    for (layer, matrix, operand), group in groupby(sorted(found, key=key), key=key):
        lines = list(group)

        def draw(axes: Axes, lines: list[Spectrum] = lines) -> None:
            for one in lines:
                _line(axes, one.at, one.singular_values, looks[one.gate])
            axes.set_ylim(bottom=0)
            axes.set_xlabel("singular value, largest first")

        title = f"{layer}, {matrix}" + (f", {operand} operand" if operand else "")
        largest = "; ".join(f"{one.gate} largest {one.singular_values[0]:.3g}" for one in lines)
        drawn = _svg(draw, f"{salt}-{title}", f"{title}. {largest}.", EDGE)
        plots.append(Plot(title[0].upper() + title[1:], "", drawn))
    return plots


def probe_plots(found: Mapping[str, Sequence[Probe]], looks: Looks, salt: str) -> list[Plot]:
    """For each target the accuracy by prefix length; probes by the label of their line."""
    targets = dict.fromkeys(one.target for several in found.values() for one in several)
    plots = []
    for target in targets:
        lines = {
            label: one
            for label, several in found.items()
            for one in several
            if one.target == target
        }
        plots.append(_probe_plot(target, lines, looks, f"{salt}-{target}"))
    return plots


def _probe_plot(target: str, lines: Mapping[str, Probe], looks: Looks, salt: str) -> Plot:
    first = next(iter(lines.values()))

    def draw(axes: Axes) -> None:
        axes.axvspan(1, first.longest, color=_SHADE, lw=0, gid="tr-trained", zorder=0)
        axes.axhline(first.chance, color=_QUIET, lw=1.2, ls=(0, (2, 2)), gid="tr-chance", zorder=1)
        axes.text(
            1.02,
            first.chance,
            "chance",
            transform=axes.get_yaxis_transform(),
            va="center",
            color=_QUIET,
            fontsize=LETTERS - 1,
        )
        for label, one in lines.items():
            _line(axes, one.at, one.accuracy, looks[label])
        lowest = min(first.chance, *(min(one.accuracy) for one in lines.values()))
        axes.set_ylim(max(0.0, lowest - 0.06), 1.03)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.set_xlim(left=0)
        axes.set_xlabel("prefix length")

    ends = "; ".join(
        f"{label} {wording.percent(one.accuracy[0])} at {one.at[0]},"
        f" {wording.percent(one.accuracy[-1])} at {one.at[-1]}"
        for label, one in lines.items()
    )
    note = f"Accuracy of the probe. Shaded: the prefixes it was fitted to, up to {first.longest}."
    return Plot(target[0].upper() + target[1:], note, _svg(draw, salt, f"{target}: {ends}.", 46))


def beside_plots(inspections: Sequence[Inspection], looks: Looks) -> list[Plot]:
    """What several runs can be laid side by side on: inputs' gradients, last layers, probes."""
    plots = []
    inputs = {
        run.label: one.curve
        for run in inspections
        for one in run.gradients
        if one.of == "input" and one.order == "text"
    }
    if inputs:
        plots.append(gradient_plot("Gradient at the inputs", inputs, looks, "beside-inputs"))
    last = {run.label: run.similarity[-1].curve for run in inspections if run.similarity}
    if last:
        title = "Cosine of states over distance"
        plots.append(similarity_plot(title, last, looks, "beside-similarity"))
    asked = {
        run.label: [one for one in run.probes if one.layer == run.probes[-1].layer]
        for run in inspections
        if run.probes
    }
    return plots + (probe_plots(asked, looks, "beside-probes") if asked else [])


def _draw(axes: Axes, one: Curve, look: Style, lines: int, *, positive: bool = False) -> None:
    """A median with its band; on a logarithmic axis without what it has no place for."""
    rows = np.array([one.at, one.low, one.median, one.high], dtype=np.float64)
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    if positive:
        rows = rows[:, rows[2] > 0]
        rows[1] = np.maximum(rows[1], np.finfo(np.float64).tiny)
    at, low, median, high = rows
    if not len(at):
        return
    if positive:
        # Where the lower quartile is next to nothing, the band must not set the axis.
        low = np.maximum(low, median.min() / 10)
    axes.fill_between(at, low, high, color=_SERIES[look.colour], alpha=min(0.15, 0.5 / lines), lw=0)
    _line(axes, at, median, look)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], look: Style) -> None:
    every = max(1, len(x) // 6)
    axes.plot(
        x,
        y,
        color=_SERIES[look.colour],
        lw=1.7,
        ls=(0, look.dashes) if look.dashes else "-",
        marker=look.marker,
        # Lines that lie on each other have their markers at different places.
        markevery=(look.colour * every // COLOURS, every),
        ms=5,
        mec=_CARD,
        mew=0.7,
        gid="tr-series",
        zorder=3,
    )


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _powers_of_two(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _spoken(title: str, lines: Curves) -> str:
    ends = "; ".join(
        f"{label} {one.median[0]:.3g} at {one.at[0]}, {one.median[-1]:.3g} at {one.at[-1]}"
        for label, one in lines.items()
        if one.at
    )
    return f"{title}, medians: {ends}."
