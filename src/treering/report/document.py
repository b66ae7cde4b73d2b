"""What all pages share: how templates are read, names that may break, the legend's swatches."""

import re
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from treering.report.styles import Style


def template(name: str) -> Template:
    """A template of this package, in which everything is escaped and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("treering.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(name)


def breakable(text: str) -> Markup:
    """Let a layer's specification or a task's name break where its parts end."""
    return Markup("").join(
        escape(part) + Markup("<wbr>") for part in re.split(r"(?<=[_+:,])", text)
    )


@dataclass(frozen=True)
class Swatch:
    """A short piece of a series' line with its marker, for the legend."""

    colour: int
    dashes: str
    marker: str
    """Path of the marker around (0, 0), about 8 units wide."""


def swatch(look: Style) -> Swatch:
    outlines = {
        "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
        "s": "M-3.6-3.6h7.2v7.2h-7.2z",
        "^": "M0-4.4l4.4 8h-8.8z",
        "D": "M0-5l5 5l-5 5l-5-5z",
        "v": "M0 4.4l4.4-8h-8.8z",
        "P": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
        "X": "M-2.4-4.5L0-2.1L2.4-4.5L4.5-2.4L2.1 0L4.5 2.4L2.4 4.5L0 2.1L-2.4 4.5L-4.5 2.4"
        "L-2.1 0L-4.5-2.4z",
    }
    # matplotlib counts dashes in line widths of 1.7; the swatch's line is 2 wide.
    dashes = " ".join(f"{2 * length:g}" for length in look.dashes)
    return Swatch(look.colour, dashes or "none", outlines[look.marker])
