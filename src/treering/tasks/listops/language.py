"""Expressions of ListOps: their tokens, and what they are worth.

An expression is a digit, or an operator, its arguments and a closing bracket:

    [MAX 2 9 [MIN 4 7 ] 0 ]

The published files also have round brackets, which spell a binary tree; they are no tokens.
"""

from collections.abc import Callable, Sequence
from statistics import median

OPERATORS: dict[str, Callable[[Sequence[int]], int]] = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda arguments: int(median(arguments)),
    "[SM": lambda arguments: sum(arguments) % 10,
}
"""By the token that opens them. A median between two digits is rounded down."""
CLOSE = "]"
TOKENS = (*"0123456789", *OPERATORS, CLOSE)


def tokens_of(text: str) -> list[str]:
    """The parts of a text between blanks, without round brackets."""
    return [part for part in text.split() if part not in ("(", ")")]


def evaluate(tokens: Sequence[str]) -> int:
    """The digit that an expression is worth; ValueError, with the reason, if it is none.

    >>> evaluate(tokens_of("[MAX 2 9 [MIN 4 7 ] 0 ]")), evaluate(tokens_of("[MED 1 8 6 3 ]"))
    (9, 4)
    """
    open_ones: list[tuple[str, list[int]]] = []
    for place, token in enumerate(tokens):
        if token in OPERATORS:
            open_ones.append((token, []))
            continue
        if token == CLOSE:
            if not open_ones:
                raise ValueError(f"{CLOSE!r} closes nothing")
            operator, arguments = open_ones.pop()
            if not arguments:
                raise ValueError(f"{operator!r} has no arguments")
            value = OPERATORS[operator](arguments)
        elif token in TOKENS:
            value = int(token)
        else:
            raise ValueError(f"{token!r} is none of {' '.join(TOKENS)}")
        if not open_ones:
            if place + 1 < len(tokens):
                raise ValueError(f"{tokens[place + 1]!r} follows the end of the expression")
            return value
        open_ones[-1][1].append(value)
    raise ValueError(f"{open_ones[-1][0]!r} is not closed" if open_ones else "it is empty")
