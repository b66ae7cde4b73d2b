"""Grids of options: read as the command line reads each option, tried whole or drawn from."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering._errors import UserError
from treering.cli.grids import Axis, combinations, parse, size


def test_values_are_what_the_command_line_makes_of_them() -> None:
    axes = parse(["learning-rate=1e-3,3e-3", "--hidden_size=64", "unit=word, character"])
    assert [(axis.name, axis.flag, axis.values) for axis in axes] == [
        ("learning_rate", "learning-rate", (1e-3, 3e-3)),
        ("hidden_size", "hidden-size", (64,)),
        ("unit", "unit", ("word", "character")),
    ]
    labels = [combination.label for combination in combinations(axes, None, 0)]
    assert labels[:2] == [
        "learning-rate=1e-3 hidden-size=64 unit=word",
        "learning-rate=1e-3 hidden-size=64 unit=character",
    ]
    first = combinations(axes, None, 0)[0]
    assert first.group("task_options") == {"unit": "word"}
    assert first.group("model_options") == {"hidden_size": 64}
    assert first.group("training_options") == {"learning_rate": 1e-3}


axes_of_lengths = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
    lambda lengths: [
        Axis(f"option_{k}", tuple(map(str, range(length))), tuple(range(length)))
        for k, length in enumerate(lengths)
    ]
)


@given(axes_of_lengths)
def test_a_grid_is_the_product_of_its_options(axes: list[Axis]) -> None:
    found = [tuple(one.options.values()) for one in combinations(axes, None, 0)]
    assert found == list(product(*(axis.values for axis in axes)))
    assert len(found) == size(axes)


@given(axes_of_lengths, st.integers(0, 100), st.data())
def test_a_draw_has_no_repetition_and_holds_the_smaller_draws(
    axes: list[Axis], seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, size(axes)))
    drawn = [one.label for one in combinations(axes, count, seed)]
    assert len(set(drawn)) == count
    assert set(drawn) <= {one.label for one in combinations(axes, None, 0)}
    assert [one.label for one in combinations(axes, 1, seed)] == drawn[:1]
    assert [one.label for one in combinations(axes, count, seed)] == drawn


def test_a_draw_from_a_grid_too_large_to_list() -> None:
    axes = [Axis(f"option_{k}", tuple(map(str, range(100))), tuple(range(100))) for k in range(9)]
    drawn = {one.label for one in combinations(axes, 20, 1)}
    assert len(drawn) == 20
    assert drawn != {one.label for one in combinations(axes, 20, 2)}


def test_more_cannot_be_drawn_than_there_is() -> None:
    with pytest.raises(UserError, match=r"--random 3: the grid has 2 combinations; leave"):
        combinations(parse(["steps=1,2"]), 3, 0)
