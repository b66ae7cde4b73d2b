"""Which inputs are drawn, and how often."""

import math
from collections import Counter

import pytest
import torch

from treering import tasks


def drawn(name: str, batch: int, length: int) -> list[list[int]]:
    return tasks.get(name).sample(batch, length, torch.Generator().manual_seed(17)).inputs.tolist()


def assert_uniform(values: list, kinds: int):
    """Every kind occurs, with a frequency within five standard deviations of 1/kinds."""
    counts = Counter(values)
    share = 1 / kinds
    tolerance = 5 * math.sqrt(share * (1 - share) / len(values))
    assert len(counts) == kinds
    assert all(abs(count / len(values) - share) < tolerance for count in counts.values())


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("even_pairs", 2),
        ("parity_check", 2),
        ("cycle_navigation", 3),
        ("reverse_string", 2),
        ("duplicate_string", 2),
        ("odds_first", 2),
        ("bucket_sort", 5),
    ],
)
def test_uniform_strings(name: str, kinds: int):
    rows = drawn(name, 400, 20)
    for position in (0, 9, 19):
        assert_uniform([row[position] for row in rows], kinds)


def test_modular_arithmetic_uses_every_operator_and_never_the_blank():
    rows = drawn("modular_arithmetic", 300, 21)
    assert_uniform([symbol for row in rows for symbol in row[::2]], 5)
    assert_uniform([symbol for row in rows for symbol in row[1::2]], 3)


@pytest.mark.parametrize("name", ["binary_addition", "binary_multiplication"])
def test_binary_operands(name: str):
    rows = drawn(name, 600, 9)
    assert_uniform([row.index(2) for row in rows], 7)
    text = ["".join(map(str, row)).split("2") for row in rows]
    assert all("1" in first and "1" in second for first, second in text)
    # Three-digit numbers are uniform over 1..7.
    assert_uniform([first for first, _ in text if len(first) == 3], 7)
    assert_uniform([second for _, second in text if len(second) == 3], 7)
    # Below length 3 a single number that is never all ones.
    assert {tuple(row) for row in drawn(name, 50, 1)} == {(0,)}
    assert_uniform([tuple(row) for row in drawn(name, 400, 2)], 3)
    assert [1, 1] not in drawn(name, 400, 2)


def test_square_root_of_every_number_but_zero():
    assert_uniform([tuple(row) for row in drawn("compute_sqrt", 1500, 4)], 15)
    assert [0] * 4 not in drawn("compute_sqrt", 1500, 4)
    assert {tuple(row) for row in drawn("compute_sqrt", 50, 1)} == {(1,)}


def test_stack_height_and_actions():
    rows = drawn("stack_manipulation", 800, 11)
    assert_uniform([sum(symbol < 2 for symbol in row) for row in rows], 10)
    assert_uniform([symbol for row in rows for symbol in row if symbol >= 2], 3)
    assert_uniform([row[0] for row in rows], 2)
    assert_uniform([row[0] for row in drawn("stack_manipulation", 200, 1)], 2)


def test_missing_place_is_anywhere():
    assert_uniform([row.index(2) for row in drawn("missing_duplicate_string", 800, 8)], 8)
    odd = drawn("missing_duplicate_string", 800, 9)
    assert_uniform([row.index(2) for row in odd], 8)
    assert all(row[-1] == 3 and 3 not in row[:-1] for row in odd)
    assert drawn("missing_duplicate_string", 3, 1) == [[1]] * 3


@pytest.mark.parametrize(
    ("length", "form"), [(1, "d"), (2, "-d"), (3, "(d)"), (4, "(-d)"), (5, "(dod)")]
)
def test_short_expressions(length: int, form: str):
    task = tasks.get("modular_arithmetic_brackets")
    rows = drawn(task.name, 400, length)
    forms = {
        "".join("d" if s < 5 else "o" if length == 5 and s < 8 else task.symbols[s] for s in row)
        for row in rows
    }
    assert forms == {form}
    assert_uniform([row[form.index("d")] for row in rows], 5)
    if length == 5:
        assert_uniform([row[2] for row in rows], 3)


def test_left_part_of_an_expression_has_uniform_length():
    def left(row: list[int]) -> int:
        depth = 0
        for position, symbol in enumerate(row):
            depth += (symbol == 8) - (symbol == 9)
            after_operand = position > 0 and (row[position - 1] < 5 or row[position - 1] == 9)
            if depth == 1 and symbol in (5, 6, 7) and after_operand:
                return position - 1
        raise AssertionError(row)

    assert_uniform([left(row) for row in drawn("modular_arithmetic_brackets", 600, 12)], 8)


def test_equations():
    rows = drawn("solve_equation", 600, 12)
    assert all(row[-2] == 10 and row.count(9) == 1 and row.count(10) == 1 for row in rows)
    assert {symbol for row in rows for symbol in row} == set(range(11))
    assert drawn("solve_equation", 4, 2) == [[0, 0]] * 4
    # (doe)=v: positions 0, 1 and 4 lead to the first digit, 2 and 3 to the second.
    first = sum(row[1] == 9 for row in drawn("solve_equation", 2000, 7)) / 2000
    assert abs(first - 3 / 5) < 5 * math.sqrt(0.24 / 2000)


def test_blanks_stand_for_zero_and_plus():
    task = tasks.get("modular_arithmetic")
    assert task.solve(task.encode("3_4*_")).tolist() == [[3]]
    assert task.solve(task.encode("3_4")).tolist() == [[2]]
