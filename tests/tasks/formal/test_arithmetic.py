"""Digit arithmetic at its corners, which random samples seldom reach."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treering import tasks
from treering.tasks.formal import binary, draws


def digits(number: int, width: int) -> list[int]:
    return [number >> place & 1 for place in range(width)]


def value(row: list[int]) -> int:
    return sum(digit << place for place, digit in enumerate(row))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=40, max_size=40), min_size=1, max_size=4))
def test_carries_through_any_run(rows: list[list[int]]):
    places = torch.tensor([[*row, 0] for row in rows])
    result = binary.carried(places).tolist()
    assert [value(row) for row in result] == [value(row) for row in rows]
    assert {digit for row in result for digit in row} <= {0, 1}


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 64, 250, 1000])
def test_product_of_all_ones_is_exact(width: int):
    ones = torch.ones(1, width, dtype=torch.int64)
    assert value(binary.product(ones, ones)[0].tolist()) == (2**width - 1) ** 2


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 300))
def test_product_is_exact(data: st.DataObject, width: int):
    number = st.integers(0, 2**width - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), min_size=1, max_size=3))
    first, second = (
        torch.tensor([digits(n, width) for n in side]) for side in zip(*pairs, strict=True)
    )
    result = binary.product(first, second).tolist()
    assert [value(row) for row in result] == [a * b for a, b in pairs]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 120))
def test_root_around_perfect_squares(data: st.DataObject, width: int):
    root = data.draw(st.integers(1, 2**width - 1))
    numbers = [root * root - 1, root * root, root * root + 1, root * root + 2 * root]
    rows = torch.tensor([digits(number, 2 * width)[::-1] for number in numbers])
    result = binary.root_big_endian(rows).tolist()
    assert [value(row[::-1]) for row in result] == [math.isqrt(number) for number in numbers]


def test_root_of_every_small_number():
    rows = torch.tensor([digits(number, 11)[::-1] for number in range(2**11)])
    result = binary.root_big_endian(rows).tolist()
    assert [value(row[::-1]) for row in result] == [math.isqrt(n) for n in range(2**11)]


def test_sums_and_products_with_zero():
    addition, multiplication = tasks.get("binary_addition"), tasks.get("binary_multiplication")
    assert addition.solve(addition.encode("00+0")).tolist() == [[0, 2, 0, 0, 0]]
    assert addition.solve(addition.encode("111+1")).tolist() == [[0, 0, 0, 1, 2, 0]]
    assert addition.solve(addition.encode("11")).tolist() == [[1, 1, 2]]
    assert multiplication.solve(multiplication.encode("00*11")).tolist() == [[0, 2, 0, 0, 0]]


@pytest.mark.parametrize("bound", [1, 2, 3, 500])
def test_draws_stay_below_their_bound(bound: int):
    generator = torch.Generator().manual_seed(0)
    values = draws.below(torch.full((5000,), bound), generator)
    assert int(values.min()) == 0
    assert bound // 2 <= int(values.max()) < bound


@pytest.mark.parametrize(
    "text",
    ["((1))", "-(1+2)", "(2--3)", "(2*-3)", "(-2*-3)", "(-2-3)", "((1+(2*3))-((4)*(0-1)))"],
)
def test_expressions(text: str):
    task = tasks.get("modular_arithmetic_brackets")
    assert task.solve(task.encode(text)).tolist() == [[eval(text) % 5]]


def test_brackets_as_deep_as_the_input():
    task = tasks.get("modular_arithmetic_brackets")
    left = "(" * 204 + "1" + "+1)" * 204
    right = "(1-" * 203 + "1" + ")" * 203  # 1 - (1 - (1 - ...)): 0 for an odd depth
    assert task.solve(task.encode(left)).tolist() == [[205 % 5]]
    assert task.solve(task.encode(right)).tolist() == [[0]]
