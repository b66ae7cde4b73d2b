"""One look per label: colour, line and marker, the same on every plot of a page.

Colours are named by number here; the page's style sheet says what number 3 is on a light and on a
dark ground. Line and marker differ too, so that nothing hangs on colour.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

COLOURS = 7
"""Series colours 0 to 6 of the style sheet; 0 is the ink of the baseline."""

_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 1.5), (1.5, 1.2), (5, 1.5, 1.5, 1.5))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# The layers met most often have the same colour in every report, whoever stands beside them.
_RESERVED = {
    "lstm": 0,
    "pr-lstm": 1,
    "ql-lstm": 2,
    "gru": 3,
    "nonlinear-gate-lstm": 4,
    "lstm+tree-order": 5,
    "lstm+lp": 6,
}


@dataclass(frozen=True)
class Style:
    colour: int
    dashes: tuple[float, ...]
    """Lengths of dash and gap in line widths; empty for a solid line."""
    marker: str
    """A matplotlib marker."""


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Give each label its own look.

    A label's hash picks its colour and the next free one is taken if two meet, so that the same
    set of labels always looks the same and a label mostly keeps its colour in another set. Beyond
    seven labels colours come again with another line and marker.
    """
    names = sorted(set(labels), key=lambda name: (name not in _RESERVED, name))
    taken: set[tuple[int, int]] = set()
    result = {}
    for name in names:
        wanted = _RESERVED.get(name, 1 + crc32(name.encode()) % (COLOURS - 1))
        lap = 0
        while True:
            # Ink is the baseline's: others come to it last of all.
            free = [
                colour
                for shift in range(COLOURS)
                if ((colour := (wanted + shift) % COLOURS), lap) not in taken
                and (colour != 0 or name in _RESERVED or lap > 0)
            ]
            if free:
                break
            lap += 1
        taken.add((free[0], lap))
        result[name] = Style(
            colour=free[0],
            dashes=_DASHES[(free[0] + lap) % len(_DASHES)],
            marker=_MARKERS[(free[0] + 3 * lap) % len(_MARKERS)],
        )
    return result
