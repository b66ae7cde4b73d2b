"""Medians, ratios, exponents and crossings on numbers worked out by hand."""

import math

import pytest

from treering.bench.statistics import crossing, exponent, ratios, spread


def test_a_median_and_its_quartiles():
    assert spread([4.0, 1.0, 3.0, 2.0]) == (2.5, 1.75, 3.25)
    assert spread([7.0]) == (7.0, 7.0, 7.0)
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]).relative == pytest.approx(2 / 3)


def test_no_median_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_ratios_are_of_pairs():
    """Ours twice as fast in each pair, though the machine was ten times slower in one."""
    assert ratios([1.0, 10.0], [2.0, 20.0]) == [2.0, 2.0]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_an_exponent_behind_a_constant_part(power: float):
    sizes = [2.0**k for k in range(10, 20, 2)]
    assert exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)
    with_start = [3 * n**power + (1e5 if n == sizes[0] else 0) for n in sizes]
    assert exponent(sizes, with_start) == pytest.approx(power)


def test_an_exponent_needs_three_points_that_cost_something():
    assert exponent([1, 2], [1.0, 2.0]) is None
    assert exponent([1, 2, 4], [1.0, 2.0, 0.0]) is None


def test_a_crossing_between_two_lengths():
    assert crossing([10, 1000], [0.1, 10.0]) == pytest.approx(100)
    assert crossing([16, 64, 256], [0.5, 2.0, 4.0]) == pytest.approx(32)


def test_the_last_crossing_counts():
    """Once above and below again: what holds from there on is asked."""
    assert crossing([1, 4, 16, 64], [2.0, 0.5, 0.25, 4.0]) == pytest.approx(math.sqrt(16 * 64))


def test_no_crossing_and_always_above():
    assert crossing([8, 16], [2.0, 0.9]) is None
    assert crossing([8, 16], [1.0, 3.0]) == 8
    assert crossing([], []) is None
