"""Each task's target computed for one input, symbol by symbol, in plain Python.

Written from the definitions and without the package: integers instead of digits, `eval`
instead of a stack machine, lists instead of tensors.
"""

import math
from collections.abc import Callable

Oracle = Callable[[list[int]], list[int]]


def even_pairs(symbols: list[int]) -> list[int]:
    text = "".join(map(str, symbols))
    pairs = [text[i : i + 2] for i in range(len(text) - 1)]
    return [(pairs.count("01") + pairs.count("10")) % 2]


def modular_arithmetic(symbols: list[int]) -> list[int]:
    text = ""
    for position, symbol in enumerate(symbols):
        blank = "0" if position % 2 == 0 else "+"
        text += blank if symbol == 8 else "01234+-*"[symbol]
    return [eval(text) % 5]


def parity_check(symbols: list[int]) -> list[int]:
    return [symbols.count(1) % 2]


def cycle_navigation(symbols: list[int]) -> list[int]:
    place = 0
    for symbol in symbols:
        place = (place + {0: 4, 1: 0, 2: 1}[symbol]) % 5
    return [place]


def modular_arithmetic_brackets(symbols: list[int]) -> list[int]:
    return [eval("".join("01234+-*()"[symbol] for symbol in symbols)) % 5]


def reverse_string(symbols: list[int]) -> list[int]:
    return list(reversed(symbols))


def stack_manipulation(symbols: list[int]) -> list[int]:
    stack: list[int] = []
    for symbol in symbols:
        if symbol in (0, 1):
            stack.append(symbol)
        elif symbol == 2:
            stack = stack[:-1]
        else:
            stack.append({3: 0, 4: 1}[symbol])
    return padded([*reversed(stack), 2], len(symbols) + 1)


def solve_equation(symbols: list[int]) -> list[int]:
    if len(symbols) < 3:
        return [0]
    left, right = "".join("01234+-()x="[symbol] for symbol in symbols).split("=")
    solutions = [x for x in range(5) if (eval(left.replace("x", str(x))) - int(right)) % 5 == 0]
    assert len(solutions) == 1
    return solutions


def missing_duplicate_string(symbols: list[int]) -> list[int]:
    if len(symbols) == 1:
        return [1]
    half = len(symbols) // 2
    place = symbols.index(2)
    return [symbols[place + half if place < half else place - half]]


def compute_sqrt(symbols: list[int]) -> list[int]:
    root = math.isqrt(int("".join(map(str, symbols)), 2))
    return [int(digit) for digit in f"{root:b}".zfill(math.ceil(len(symbols) / 2))]


def duplicate_string(symbols: list[int]) -> list[int]:
    return symbols * 2


def binary_addition(symbols: list[int]) -> list[int]:
    return padded([*little_endian(sum(numbers(symbols))), 2], len(symbols) + 1)


def binary_multiplication(symbols: list[int]) -> list[int]:
    if len(symbols) < 3:
        return [0] * (len(symbols) - 1) + [2]
    return padded([*little_endian(math.prod(numbers(symbols))), 2], len(symbols))


def odds_first(symbols: list[int]) -> list[int]:
    return [s for i, s in enumerate(symbols) if i % 2] + [
        s for i, s in enumerate(symbols) if i % 2 == 0
    ]


def bucket_sort(symbols: list[int]) -> list[int]:
    return [symbol for bucket in range(5) for symbol in symbols if symbol == bucket]


def numbers(symbols: list[int]) -> list[int]:
    """The little-endian numbers on both sides of symbol 2."""
    parts = "".join(map(str, symbols)).split("2")
    return [int(part[::-1], 2) for part in parts]


def little_endian(number: int) -> list[int]:
    return [int(digit) for digit in reversed(f"{number:b}")]


def padded(content: list[int], length: int) -> list[int]:
    assert len(content) <= length
    return content + [0] * (length - len(content))


ORACLES: dict[str, Oracle] = {
    oracle.__name__: oracle
    for oracle in (
        even_pairs,
        modular_arithmetic,
        parity_check,
        cycle_navigation,
        modular_arithmetic_brackets,
        reverse_string,
        stack_manipulation,
        solve_equation,
        missing_duplicate_string,
        compute_sqrt,
        duplicate_string,
        binary_addition,
        binary_multiplication,
        odds_first,
        bucket_sort,
    )
}
