"""The arithmetic of measurements: medians with quartiles, ratios of pairs, exponents, crossings."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Distance of the quartiles in medians: 0 where every value is the same."""
        return (self.high - self.low) / self.median if self.median else 0.0


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, linear between values.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(median=3.0, low=2.0, high=4.0)

    Errors: ValueError without values.
    """
    if not values:
        raise ValueError("a median needs at least one value")
    low, median, high = np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Theirs over ours, pair by pair: how many times less ours takes.

    A ratio of two medians would hide that both sides were slow at the same moments.

    >>> ratios([1.0, 2.0], [3.0, 4.0])
    [3.0, 2.0]
    """
    return [theirs_ / ours_ for ours_, theirs_ in zip(ours, theirs, strict=True)]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Slope of log cost over log size by least squares: 1 where cost grows as size does.

    Over the upper half of the sizes, at least three: at small sizes a constant part hides the
    growth. None for fewer than three points, or where a cost is 0.

    >>> round(exponent([1, 10, 100, 1000], [500.0, 20.0, 400.0, 8000.0]), 3)
    1.301
    """
    points = sorted(zip(sizes, costs, strict=True))
    points = points[-max(3, (len(points) + 1) // 2) :]
    if len(points) < 3 or any(cost <= 0 for _, cost in points):
        return None
    x, y = np.log(np.asarray(points, dtype=np.float64)).T
    slope, _ = np.polyfit(x, y, 1)
    return float(slope)


def crossing(sizes: Sequence[float], advantage: Sequence[float]) -> float | None:
    """The size from which on the ratio is at least 1, between points on a log-log line.

    None where it is below 1 at the largest size. Where it is at least 1 everywhere, the smallest
    size: the crossing is there or below.

    >>> round(crossing([10, 100, 1000], [0.1, 10.0, 20.0]), 1)
    31.6
    """
    points = sorted(zip(sizes, advantage, strict=True))
    above = [ratio >= 1 for _, ratio in points]
    if not points or not above[-1]:
        return None
    first = len(above) - above[::-1].index(False) if False in above else 0
    if first == 0:
        return float(points[0][0])
    (x0, y0), (x1, y1) = np.log(np.asarray(points[first - 1 : first + 1], dtype=np.float64))
    return float(np.exp(x0 + (x1 - x0) * (0 - y0) / (y1 - y0)))
