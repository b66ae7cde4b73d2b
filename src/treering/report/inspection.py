"""The page of `treering inspect`: what one or several trained recurrences do.

Reads `treering.inspect.record` alone.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from treering.inspect.record import PARTS, Alignment, Gate, Inspection, Probe, Spectrum
from treering.records import write_atomically
from treering.report import inspection_plots as plots
from treering.report import wording
from treering.report.document import Swatch, swatch, template
from treering.report.inspection_readings import reading_plots
from treering.report.plots import Plot
from treering.report.styles import Style, styles

EXPLANATIONS = {
    "gradients": "Of each sequence's own loss; median and quartiles over sequences. A straight"
    " line down is a gradient that vanishes with every token, and what lies where it has vanished"
    " cannot be learnt. Compare slopes, not heights: a sure answer has a small loss.",
    "gates": "Over all tokens and channels. Gates run from 0, closed, to 1, open; candidates,"
    " which gates let in, from \N{MINUS SIGN}1 to 1.",
    "similarity": "Median and quartiles over all pairs of tokens, in the order of reading. Near 1:"
    " the state is kept, or has stopped to move.",
    "spectra": "Rows of each gate. The spectral radius is the modulus of the largest eigenvalue:"
    " what one more step multiplies a state with in the long run, gates aside.",
    "readings": "Short examples from the test data.",
    "probes": "A linear classifier on frozen states, fitted to some sequences, asked on others: can"
    " the state of the automaton that solves the task be read off the layer's state?",
}
GATE_HEADINGS = ("layer", "gate", "mean", "below 0.05", "above 0.95", "beyond its range")
SPECTRUM_HEADINGS = (
    "layer", "matrix", "gate", "operand", "size", "largest", "median", "smallest", "radius",
)  # fmt: skip
PROBE_HEADINGS = ("automaton's state", "from", "fitted lengths", "longer", "chance", "l2", "states")


@dataclass(frozen=True)
class Part:
    """A part of a run's section."""

    anchor: str
    title: str
    explanation: str
    figures: list[Plot]
    swatches: dict[str, Swatch] = field(default_factory=dict)
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    reasons: Sequence[str] = ()
    """Why some of it, or all, is not there."""


@dataclass(frozen=True)
class Matrix:
    """Linear CKA of two runs, layer by layer."""

    rows_of: str
    columns_of: str
    columns: list[str]
    rows: list[tuple[str, list[float]]]
    tokens: int


def render_html(inspections: Sequence[Inspection], title: str = "treering inspect") -> str:
    """One HTML page that needs nothing else: no scripts, no addresses to fetch.

    Raises:
        ValueError: no inspections, or two with the same label.
    """
    labels = [run.label for run in inspections]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"a page needs inspections with labels of their own, got {labels}")
    looks = styles(labels)
    several = len(inspections) > 1
    return template("inspection.html").render(
        title=title,
        inspections=inspections,
        several=several,
        beside=plots.beside_plots(inspections, looks) if several else [],
        swatches={label: swatch(look) for label, look in looks.items()},
        matrices=list(matrices(inspections)),
        unaligned=[f"{run.label}: {r}" for run in inspections for r in _reasons(run, "alignments")],
        parts={run.label: parts(run, f"run{n}") for n, run in enumerate(inspections)},
        facts=facts,
        wording=wording,
    )


def write_html(
    inspections: Sequence[Inspection], path: str | os.PathLike[str], title: str = "treering inspect"
) -> Path:
    """Write the page of `render_html` to a file, whole or not at all, and return its path.

    Raises:
        UserError: the file cannot be written.
        ValueError: no inspections, or two with the same label.
    """
    write_atomically(path, render_html(inspections, title).encode())
    return Path(path)


def facts(run: Inspection) -> str:
    """What was looked into, in a line."""
    state = "finished" if run.status == "finished" else f"not finished ({run.status})"
    return (
        f"{run.task} \N{MIDDLE DOT} hidden {run.hidden_size} \N{MIDDLE DOT} seed {run.seed}"
        f" \N{MIDDLE DOT} {run.step:,} steps, {state} \N{MIDDLE DOT} measured on {run.data}"
    )


def parts(run: Inspection, salt: str) -> list[Part]:
    """The parts of a run's section, in their order; of what is not there, the reason."""
    gradients = styles(plots.gradient_label(one) for one in run.gradients)
    gates = styles(one.name for one in run.gates)
    similarity = styles(one.layer for one in run.similarity)
    spectra = styles(one.gate for one in run.spectra)
    probed: dict[str, list[Probe]] = {}
    for one in run.probes:
        probed.setdefault(one.layer, []).append(one)
    probes = styles(probed)
    drawn = {
        "gradients": plots.gradient_plots(run.gradients, gradients, f"{salt}-gradients"),
        "gates": plots.gate_plots(run.gates, gates, f"{salt}-gates"),
        "similarity": plots.similarities(run.similarity, similarity, f"{salt}-similarity"),
        "spectra": plots.spectrum_plots(run.spectra, spectra, f"{salt}-spectra"),
        "readings": reading_plots(run.readings, f"{salt}-readings"),
        "probes": plots.probe_plots(probed, probes, f"{salt}-probes"),
    }
    looks: dict[str, dict[str, Style]] = {
        "gradients": gradients,
        "gates": gates,
        "similarity": similarity,
        "spectra": spectra,
        "probes": probes,
    }
    tables = {
        "gates": (GATE_HEADINGS, gate_rows(run.gates)),
        "spectra": (SPECTRUM_HEADINGS, spectrum_rows(run.spectra)),
        "probes": (PROBE_HEADINGS, probe_rows(run)),
    }
    found = []
    for name, figures in drawn.items():
        headings, rows = tables.get(name, ((), []))
        swatches = {label: swatch(look) for label, look in looks.get(name, {}).items() if label}
        found.append(
            Part(
                anchor=f"{salt}-{name}",
                title=PARTS.get(name, "Gradients"),
                explanation=EXPLANATIONS[name] if figures else "",
                figures=figures,
                swatches=swatches,
                headings=headings,
                rows=rows,
                reasons=_reasons(run, name),
            )
        )
    return found


def _reasons(run: Inspection, part: str) -> list[str]:
    """Why measures of a part are missing; gradients are two of them."""
    names = ("input gradients", "state gradients") if part == "gradients" else (part,)
    return [
        f"{PARTS[name]}: not available, {run.unavailable[name]}."
        for name in names
        if name in run.unavailable
    ]


def gate_rows(found: Iterable[Gate]) -> list[tuple[str, ...]]:
    """Rows as GATE_HEADINGS say; of a candidate, closed is below -0.95."""
    return [
        (
            one.layer,
            one.name if one.range[0] == 0 else f"{one.name} (candidate)",
            f"{one.mean:.3f}",
            wording.percent(one.closed),
            wording.percent(one.opened),
            wording.percent(one.outside),
        )
        for one in found
    ]


def spectrum_rows(found: Iterable[Spectrum]) -> list[tuple[str, ...]]:
    """Rows as SPECTRUM_HEADINGS say."""
    return [
        (
            one.layer,
            one.matrix,
            one.gate or wording.NONE,
            one.operand or wording.NONE,
            f"{one.rows} x {one.columns}",
            f"{one.singular_values[0]:.3g}",
            f"{one.singular_values[len(one.singular_values) // 2]:.3g}",
            f"{one.singular_values[-1]:.3g}",
            wording.NONE if one.radius is None else f"{one.radius:.3g}",
        )
        for one in found
    ]


def percent(share: float | None) -> str:
    """A share as a table shows it; of nothing, no number."""
    return wording.NONE if share is None else wording.percent(share)


def probe_rows(run: Inspection) -> list[tuple[str, ...]]:
    """Rows as PROBE_HEADINGS say."""
    return [
        (
            one.target,
            one.layer,
            percent(one.within),
            percent(one.beyond),
            wording.percent(one.chance),
            f"{one.l2:g}",
            f"{one.states:,}",
        )
        for one in run.probes
    ]


def matrices(inspections: Sequence[Inspection]) -> Iterable[Matrix]:
    """Each pair of runs once."""
    labels = [run.label for run in inspections]
    for place, run in enumerate(inspections):
        later = [one for one in run.alignments if one.other in labels[place + 1 :]]
        for other, group in groupby(later, key=lambda one: one.other):
            yield _matrix(run.label, other, list(group))


def _matrix(label: str, other: str, found: list[Alignment]) -> Matrix:
    columns = list(dict.fromkeys(one.other_layer for one in found))
    values = {(one.layer, one.other_layer): one.cka for one in found}
    rows = list(dict.fromkeys(one.layer for one in found))
    return Matrix(
        label,
        other,
        columns,
        [(row, [values[row, column] for column in columns]) for row in rows],
        found[0].tokens,
    )
