"""The combinations of options that a sweep tries: `--grid learning-rate=1e-3,3e-3`."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from treering._errors import UserError, nearest
from treering.cli.options import ModelOptions, TaskOptions, TrainingOptions

GROUPS = {
    "task_options": TaskOptions,
    "model_options": ModelOptions,
    "training_options": TrainingOptions,
}
GROUP_OF = {field.name: group for group, kind in GROUPS.items() for field in fields(kind)}
"""By an option's name, the parameter of a command that holds it."""


@dataclass(frozen=True)
class Axis:
    """One option and the values that it takes."""

    name: str
    """As a field: `learning_rate`."""
    texts: tuple[str, ...]
    """As the user wrote them."""
    values: tuple[Any, ...]

    @property
    def flag(self) -> str:
        """As on the command line, without the dashes: `learning-rate`."""
        return _flag(self.name)


@dataclass(frozen=True)
class Combination:
    """One value for each option of a grid."""

    options: dict[str, Any]
    """By the option's name as a field."""
    texts: tuple[str, ...]
    """The values as the user wrote them, in the order of the options."""

    @property
    def label(self) -> str:
        """`learning-rate=1e-3 hidden-size=64`."""
        pairs = zip(self.options, self.texts, strict=True)
        return " ".join(f"{_flag(name)}={text}" for name, text in pairs)

    def group(self, name: str) -> dict[str, Any]:
        """The options that belong to one group of the command line, such as `model_options`."""
        return {k: value for k, value in self.options.items() if GROUP_OF[k] == name}


def parse(grids: Sequence[str]) -> list[Axis]:
    """Read `NAME=VALUE,VALUE`; UserError or the parser's own error for what it would not take."""
    if not grids:
        raise UserError(
            "a sweep needs options to vary; write for instance --grid learning-rate=1e-3,3e-3, or"
            " `treering compare` for one value of each"
        )
    axes: dict[str, Axis] = {}
    for text in grids:
        flag, equals, values = text.partition("=")
        name = flag.strip().removeprefix("--").replace("-", "_")
        if name not in GROUP_OF:
            known = [_flag(option) for option in GROUP_OF]
            raise UserError(f"{nearest(_flag(name), known, 'option')} (in --grid {text})")
        if not equals or not values:
            raise UserError(f"--grid {text} has no values; write --grid {_flag(name)}=VALUE,VALUE")
        if name in axes:
            raise UserError(
                f"two --grid are about {_flag(name)}; write all its values in one, separated by"
                " commas"
            )
        texts = tuple(value.strip() for value in values.split(","))
        axes[name] = Axis(name, texts, tuple(_value(name, value) for value in texts))
        for place, value in enumerate(axes[name].values):
            if value in axes[name].values[:place]:
                raise UserError(f"{texts[place]} is given twice (in --grid {text})")
    return list(axes.values())


def _value(name: str, text: str) -> Any:
    """What the command line makes of the option with this text."""
    from treering.cli import application

    words = ["train", "task", f"--{_flag(name)}={text}"]
    _, bound, _ = application("train").parse_args(words, exit_on_error=False, print_error=False)
    return getattr(bound.arguments[GROUP_OF[name]], name)


def check_given_once(axes: Sequence[Axis], *given: Any) -> None:
    """UserError for an option of the grid that one of the groups of options has as well."""
    for axis in axes:
        if any(getattr(group, axis.name, None) is not None for group in given):
            raise UserError(
                f"--{axis.flag} is given plainly and in --grid {axis.flag}=...; leave one of"
                " them out"
            )


def size(axes: Sequence[Axis]) -> int:
    """How many combinations there are."""
    return math.prod(len(axis.values) for axis in axes)


def combinations(axes: Sequence[Axis], drawn: int | None, seed: int) -> list[Combination]:
    """All of them, the last option changing fastest; or as many, drawn without repetition.

    A larger draw of the same seed holds the smaller one, whose runs are not lost.

    UserError if more are to be drawn than there are.
    """
    count = size(axes)
    if drawn is None:
        return [_combination(axes, number) for number in range(count)]
    if drawn > count:
        raise UserError(
            f"--random {drawn}: the grid has {count:,} combinations; leave --random out to try"
            " them all"
        )
    source = random.Random(seed)
    numbers: dict[int, None] = {}
    while len(numbers) < drawn:
        numbers[source.randrange(count)] = None
    return [_combination(axes, number) for number in numbers]


def _combination(axes: Sequence[Axis], number: int) -> Combination:
    places = []
    for axis in reversed(axes):
        number, place = divmod(number, len(axis.values))
        places.insert(0, (axis, place))
    return Combination(
        {axis.name: axis.values[place] for axis, place in places},
        tuple(axis.texts[place] for axis, place in places),
    )


def _flag(name: str) -> str:
    return name.replace("_", "-")
