"""How the value of an option is written in a layer's specification, read and spelled."""

import math
from contextlib import suppress
from typing import Any

from treering._errors import UserError
from treering.penalties import LETTERS


class ByMatrix(float):
    """Default of an option that takes one number for all matrices or one for each.

    `0.1`, or `U_i@0.1/W_f@2` where the matrices that are left out get what the penalty says.
    """


KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    ByMatrix: "a number, or one for each matrix such as U_i@0.1/W_f@2",
    tuple: "names of matrices such as U_i/W_f",
}


def value_of(key: str, value: str, default: Any, text: str) -> Any:
    """The value as the kind that the option's default has; None stands for a number left out.

    Names come as a sorted tuple, numbers by matrix as a sorted tuple of pairs. UserError, naming
    the whole specification `text`, for what is not of the kind.
    """
    kind = float if default is None else type(default)
    found = None
    if kind is bool:
        found = {"true": True, "false": False}.get(value.lower())
    elif kind is tuple:
        found = _names(value.split("/"))
    elif kind is ByMatrix and "@" in value:
        pairs = [part.rpartition("@") for part in value.split("/")]
        names = _names([name for name, _, _ in pairs])
        numbers = [_number(number, float) for _, _, number in pairs]
        if names is not None and None not in numbers:
            found = tuple(sorted(zip(map(_short, (p[0] for p in pairs)), numbers, strict=True)))
    elif kind in (int, float, ByMatrix):
        found = _number(value, int if kind is int else float)
    else:
        return value
    if found is None:
        raise UserError(f"{key} takes {KINDS[kind]}, got {value!r} (in {text!r})")
    return found


def _number(value: str, kind: type[int] | type[float]) -> float | None:
    with suppress(ValueError):
        number = kind(value)
        if math.isfinite(number):
            return number
    return None


def _names(given: list[str]) -> tuple[str, ...] | None:
    """Matrices in their one spelling and order; None if one has no name or is there twice."""
    names = tuple(sorted({_short(name) for name in given}))
    return names if all(names) and len(names) == len(given) else None


def _short(name: str) -> str:
    """`weight_ih.i` as `U_i`: equal matrices have equal names."""
    for letter, parameter in LETTERS.items():
        if name.startswith(f"{parameter}."):
            return f"{letter}_{name.removeprefix(f'{parameter}.')}"
    return name


def value_text(value: Any) -> str:
    """An option's value as a specification writes it."""
    if isinstance(value, tuple):
        return "/".join(
            part if isinstance(part, str) else f"{part[0]}@{value_text(part[1])}" for part in value
        )
    if isinstance(value, bool):
        return str(value).lower()
    # A plus sign, as in 1e+16, would begin an addition.
    return str(value).replace("+", "") if isinstance(value, float) else str(value)
