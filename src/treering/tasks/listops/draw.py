"""Random expressions, many at a time: level by level from the roots, as tensors.

Dimensions: E expressions, N nodes of a level, K operators among them, A most arguments, S tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from treering.tasks.listops.language import CLOSE, OPERATORS
from treering.tasks.listops.vocabulary import ListOpsVocabulary

OPERATOR_SHARE = 0.25
FEWEST, MOST = 2, 5
DEEPEST = 20

_FIRST_OPERATOR = ListOpsVocabulary.ids[next(iter(OPERATORS))]
_ZERO = ListOpsVocabulary.ids["0"]
_CLOSE = ListOpsVocabulary.ids[CLOSE]
_MIN, _MAX, _MED, _SM = range(len(OPERATORS))


class Expressions(NamedTuple):
    """Expressions one after the other."""

    tokens: Tensor
    """(S,) uint8 ids"""
    lengths: Tensor
    """(E,) int64, tokens of each"""
    values: Tensor
    """(E,) int64, what each is worth"""


class _Level(NamedTuple):
    """All nodes of one depth. Arguments of a node are neighbours in the next level."""

    operator: Tensor
    """(N,) bool; the others are digits"""
    digits: Tensor
    """(N,) int64"""
    kinds: Tensor
    """(K,) int64, which operator"""
    arguments: Tensor
    """(K,) int64, how many"""


def draw(count: int, generator: torch.Generator) -> Expressions:
    """`count` independent expressions whose roots are operators, repetitions included.

    A node below the root is an operator with probability 1/4 and a digit otherwise; at depth 20,
    where the root has depth 1, it is a digit. An operator is one of the four with equal
    probability, and has 2 to 5 arguments, each number as likely: 8 operators to an expression on
    average if there were no limit of depth, 7.4 with it.
    """
    levels = _draw_levels(count, generator)
    values, sizes = _evaluate(levels)
    lengths = sizes[0]
    tokens = torch.empty(int(lengths.sum()), dtype=torch.uint8)
    starts = lengths.cumsum(0) - lengths
    for depth, level in enumerate(levels):
        operator = level.operator
        tokens[starts] = (_ZERO + level.digits).to(torch.uint8)
        heads = starts[operator]
        tokens[heads] = (_FIRST_OPERATOR + level.kinds).to(torch.uint8)
        tokens[heads + sizes[depth][operator] - 1] = _CLOSE
        if depth + 1 < len(levels):
            # An argument starts behind the operator and the arguments before it.
            below = sizes[depth + 1]
            before = below.cumsum(0) - below
            first = level.arguments.cumsum(0) - level.arguments
            offset = heads + 1 - before[first]
            starts = before + offset.repeat_interleave(level.arguments)
    return Expressions(tokens, lengths, values[0])


def _draw_levels(count: int, generator: torch.Generator) -> list[_Level]:
    levels: list[_Level] = []
    nodes = count
    while nodes:
        depth = len(levels) + 1
        operator = torch.rand(nodes, generator=generator) < OPERATOR_SHARE
        operator |= torch.tensor(depth == 1)
        operator &= torch.tensor(depth < DEEPEST)
        operators = int(operator.sum())
        levels.append(
            _Level(
                operator,
                torch.randint(10, (nodes,), generator=generator),
                torch.randint(len(OPERATORS), (operators,), generator=generator),
                torch.randint(FEWEST, MOST + 1, (operators,), generator=generator),
            )
        )
        nodes = int(levels[-1].arguments.sum())
    return levels


def _evaluate(levels: list[_Level]) -> tuple[list[Tensor], list[Tensor]]:
    """Value and number of tokens of every node, by level."""
    values, sizes = [], []
    for level in reversed(levels):
        value, size = level.digits, torch.ones_like(level.digits)
        if len(level.arguments):
            places = torch.arange(MOST)
            there = places < level.arguments[:, None]
            first = level.arguments.cumsum(0) - level.arguments
            index = torch.where(there, first[:, None] + places, 0)
            results = _apply(level.kinds, level.arguments, values[-1][index], there)
            value = value.masked_scatter(level.operator, results)
            inside = torch.where(there, sizes[-1][index], 0).sum(1)
            size = size.masked_scatter(level.operator, inside + 2)
        values.append(value)
        sizes.append(size)
    return values[::-1], sizes[::-1]


def _apply(kinds: Tensor, count: Tensor, arguments: Tensor, there: Tensor) -> Tensor:
    """(K,) results of operators on (K, A) arguments, of which only those `there` are any."""
    last = count[:, None] - 1
    ordered = torch.where(there, arguments, 10).sort(1).values
    middle = (ordered.gather(1, last // 2) + ordered.gather(1, (last + 1) // 2)) // 2
    results = torch.empty(len(kinds), len(OPERATORS), dtype=torch.int64)
    results[:, _MIN] = ordered[:, 0]
    results[:, _MAX] = ordered.gather(1, last).squeeze(1)
    results[:, _MED] = middle.squeeze(1)
    results[:, _SM] = torch.where(there, arguments, 0).sum(1) % 10
    return results.gather(1, kinds[:, None]).squeeze(1)
