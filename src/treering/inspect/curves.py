"""Values per sequence and place to a curve: median and quartiles at a few of the places.

Legend: B batch, T time.
"""

import torch
from torch import Tensor

from treering.inspect.record import POINTS, Curve, significant

QUARTILES = (0.25, 0.5, 0.75)


def thinned(count: int, most: int = POINTS) -> list[int]:
    """At most `most` of the numbers 0..count-1, evenly spread, both ends among them.

    >>> thinned(5, 3), thinned(3)
    ([0, 2, 4], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def curve_of(values: Tensor, places: Tensor, valid: Tensor) -> Curve:
    """Median and quartiles of `values` (B, T) at each place; places (B, T), valid (B, T)."""
    kept_places, kept = places[valid], values[valid]
    every = kept_places.unique().tolist()
    return curve([(at, kept[kept_places == at]) for at in (every[k] for k in thinned(len(every)))])


def curve(groups: list[tuple[int, Tensor]]) -> Curve:
    """A curve from what was measured at each place; places without any value are left out."""
    filled = [(at, values) for at, values in groups if values.numel()]
    rows = [_quartiles(values) for _, values in filled]
    low, median, high = (tuple(row[k] for row in rows) for k in range(3))
    return Curve(at=tuple(at for at, _ in filled), low=low, median=median, high=high)


def _quartiles(values: Tensor) -> tuple[float, ...]:
    # torch.quantile takes at most 16 million numbers; sorting and interpolating has no limit.
    ordered = values.double().flatten().sort().values
    places = torch.tensor(QUARTILES, dtype=torch.float64) * (len(ordered) - 1)
    below = places.floor().long()
    above = places.ceil().long()
    found = torch.lerp(ordered[below], ordered[above], places - below)
    return tuple(significant(number) for number in found.tolist())
