"""An inspection in short, for the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.markup import escape

from treering.cli.streams import plain_table, standard_output
from treering.inspect.record import PARTS, Curve, Inspection, Spectrum
from treering.report import inspection as page
from treering.report import wording
from treering.report.inspection_plots import gradient_label


def show(inspections: Sequence[Inspection], out_page: Path) -> None:
    """A table for each run, and where the page is."""
    with standard_output() as out:
        for run in inspections:
            out.print(f"{run.label}: {page.facts(run)}", markup=False, soft_wrap=True)
            table = plain_table("")
            for heading in ("measure", "of", ""):
                table.add_column(heading)
            for row in rows(run):
                table.add_row(*map(escape, row))
            out.print(table)
            for part, reason in run.unavailable.items():
                out.print(f"{PARTS[part]}: not available, {reason}", markup=False, soft_wrap=True)
            out.print()
        out.print(f"Report: {out_page}", markup=False, soft_wrap=True)


def rows(run: Inspection) -> Iterator[tuple[str, str, str]]:
    """An inspection in short: measure, of what, number."""

    def ends(curve: Curve) -> str:
        if not curve.at:
            return wording.NONE
        pairs = dict(zip(curve.at, curve.median, strict=True))
        shown = dict.fromkeys((curve.at[0], curve.at[-1]))
        return ", ".join(f"{pairs[at]:.3g} at distance {at}" for at in shown)

    for one in run.gradients:
        label = gradient_label(one)
        yield "gradient norm", f"input, {label}" if one.of == "input" else label, ends(one.curve)
    for one in run.gates:
        low, high = wording.percent(one.closed), wording.percent(one.opened)
        if one.range[0] == 0:
            kind, edges = "gate", f"{low} closed, {high} open"
        else:
            kind, edges = "candidate", f"{low} below {wording.MINUS}0.95, {high} above 0.95"
        yield kind, f"{one.layer}, {one.name}", f"mean {one.mean:.3f}, {edges}"
    for one in run.similarity:
        yield "cosine of states", one.layer, ends(one.curve)
    blocks: dict[str, list[Spectrum]] = {}
    for one in run.spectra:
        blocks.setdefault(f"{one.layer}, {one.matrix}", []).append(one)
    for what, several in blocks.items():
        radii = [one.radius for one in several if one.radius is not None]
        radius = f", spectral radius up to {max(radii):.3g}" if radii else ""
        largest = max(one.singular_values[0] for one in several)
        yield "singular values", what, f"up to {largest:.3g}{radius}"
    for one in run.probes:
        number = (
            f"{page.percent(one.within)} up to length {one.longest},"
            f" {page.percent(one.beyond)} beyond (chance {wording.percent(one.chance)})"
        )
        yield "probe", f"{one.target}, {one.layer}", number
    for one in run.alignments:
        yield "linear CKA", f"{one.layer} and {one.other}, {one.other_layer}", f"{one.cka:.3f}"
