"""Drawn expressions: well formed, worth what they are said to be, of the stated distribution."""

import math
from collections import Counter
from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treering.tasks.listops.draw import DEEPEST, draw
from treering.tasks.listops.language import OPERATORS, TOKENS, evaluate


def drawn(count: int, seed: int) -> tuple[list[list[str]], list[int]]:
    tokens, lengths, values = draw(count, torch.Generator().manual_seed(seed))
    parts = tokens.split(lengths.tolist())
    return [[TOKENS[i - 1] for i in part.tolist()] for part in parts], values.tolist()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_values_are_those_of_a_stack_machine(count: int, seed: int):
    expressions, values = drawn(count, seed)
    assert len(expressions) == len(values) == count
    assert [evaluate(expression) for expression in expressions] == values


EXPRESSIONS, _ = drawn(4000, 1)


def nodes() -> tuple[list[tuple[int, bool]], list[int]]:
    """Depth of every node and whether it is an operator; the numbers of arguments."""
    found, counts = [], []
    for expression in EXPRESSIONS:
        arguments: list[int] = []
        for token in expression:
            if token == "]":
                counts.append(arguments.pop())
                continue
            found.append((len(arguments) + 1, token in OPERATORS))
            if arguments:
                arguments[-1] += 1
            if token in OPERATORS:
                arguments.append(0)
    return found, counts


FOUND, ARGUMENTS = nodes()


def assert_share(count: int, total: int, share: float):
    """Within five standard deviations."""
    assert abs(count / total - share) < 5 * math.sqrt(share * (1 - share) / total)


def test_roots_are_operators_and_a_quarter_of_the_nodes_below():
    by_depth = Counter(depth for depth, _ in FOUND)
    operators = Counter(depth for depth, operator in FOUND if operator)
    assert operators[1] == by_depth[1] == len(EXPRESSIONS)
    assert max(by_depth) == DEEPEST
    assert operators[DEEPEST] == 0
    assert operators[DEEPEST - 1] > 0
    for depth in (2, 3, 8):
        assert_share(operators[depth], by_depth[depth], 0.25)


def test_arguments_operators_and_digits_are_uniform():
    counts = Counter(ARGUMENTS)
    assert set(counts) == {2, 3, 4, 5}
    tokens = Counter(token for expression in EXPRESSIONS for token in expression)
    for count in counts.values():
        assert_share(count, len(ARGUMENTS), 1 / 4)
    for operator in OPERATORS:
        assert_share(tokens[operator], len(ARGUMENTS), 1 / 4)
    digits = sum(tokens[digit] for digit in "0123456789")
    for digit in "0123456789":
        assert_share(tokens[digit], digits, 1 / 10)


def test_lengths_are_what_the_branching_says():
    """7.37 operators an expression on average: 1 + 7/8 + (7/8)^2 + ..., 19 levels of them."""
    expected = sum((7 / 8) ** level for level in range(DEEPEST - 1))
    mean = len(ARGUMENTS) / len(EXPRESSIONS)
    per_expression = torch.tensor([sum(t in OPERATORS for t in e) for e in EXPRESSIONS]).double()
    assert abs(mean - expected) < 5 * per_expression.std().item() / math.sqrt(len(EXPRESSIONS))


def test_the_seed_decides():
    assert drawn(50, 3) == drawn(50, 3)
    assert drawn(50, 3) != drawn(50, 4)
    assert all(one != other for one, other in pairwise(drawn(20, 3)[0]))
