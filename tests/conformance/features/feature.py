"""What a feature is: a check that runs on every registered layer, and the layers it is not for.

A mark in the table of docs/features.md is one run of a check: "yes" if the check must pass,
"refused" if it must end in a message for people that says why, "n/a" if there is nothing to check,
which is then checked itself.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pytest

import treering as tr
from conformance.cases import Case
from treering.cells.abstract import AffineCell, MergeCell
from treering.cells.regularised import RegularisedCell
from treering.layers import Recurrent

Check = Callable[[Case], None]
Which = Callable[[type[Recurrent]], bool]
Mark = Literal["yes", "refused", "n/a"]


@dataclass(frozen=True)
class Refused:
    """For layers in `which` the check ends in a ValueError or TypeError that matches `message`."""

    which: Which
    message: str
    why: str


@dataclass(frozen=True)
class Absent:
    """For layers in `which` there is no such thing; `instead` checks that there is none."""

    which: Which
    instead: Check
    why: str


@dataclass(frozen=True)
class Feature:
    """One row of the table.

    check: asserts numbers on one layer. tests: in place of a check, a test elsewhere that runs for
    every layer, as its node id without parameters. over_layers_in: where that is one test for all
    layers, the function beside it that goes over them. slow: layers for which the check takes
    seconds.
    """

    theme: str
    title: str
    place: str
    check: Check | None
    tests: str | None
    exceptions: tuple[Refused | Absent, ...]
    slow: Which
    over_layers_in: str | None = None

    def exception(self, name: str) -> Refused | Absent | None:
        """What is different for the layer called `name`, if anything is."""
        layer = tr.layers.get(name)
        found = [e for e in self.exceptions if e.which(layer)]
        assert len(found) <= 1, f"{self.title}: more than one exception for {name}"
        return found[0] if found else None

    def mark(self, name: str) -> Mark:
        exception = self.exception(name)
        if exception is None:
            return "yes"
        return "refused" if isinstance(exception, Refused) else "n/a"

    def run(self, case: Case) -> None:
        """Check this feature on one layer, as its mark says."""
        assert self.check is not None
        exception = self.exception(case.name)
        if exception is None:
            self.check(case)
        elif isinstance(exception, Absent):
            exception.instead(case)
        else:
            with pytest.raises((ValueError, TypeError)) as caught:
                self.check(case)
            text = str(caught.value)
            assert re.search(exception.message, text), text
            assert "\n" not in text


FEATURES: list[Feature] = []


def nowhere(_: type[Recurrent]) -> bool:
    return False


def every(_: type[Recurrent]) -> bool:
    return True


def feature(
    theme: str, title: str, *exceptions: Refused | Absent, slow: Which = nowhere
) -> Callable[[Check], Check]:
    """Register a check as a row of the table."""

    def register(check: Check) -> Check:
        place = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        FEATURES.append(Feature(theme, title, place, check, None, exceptions, slow))
        return check

    return register


def backed_by(theme: str, title: str, tests: str, over_layers_in: str | None = None) -> None:
    """Register a test elsewhere as a row of the table.

    `test_features.py` looks its node ids up: there must be one for every layer.
    """
    place = tests.removeprefix("tests/")
    FEATURES.append(Feature(theme, title, place, None, tests, (), nowhere, over_layers_in))


def merging(layer: type[Recurrent]) -> bool:
    return issubclass(layer.cell_type, MergeCell)


def without_step_options(layer: type[Recurrent]) -> bool:
    """Layers whose cell has none of the options for gates."""
    return not issubclass(layer.cell_type, RegularisedCell)


def affine(layer: type[Recurrent]) -> bool:
    return issubclass(layer.cell_type, AffineCell)


def without_counterpart(layer: type[Recurrent]) -> bool:
    """Layers that torch.nn does not have."""
    return layer.cell_type.torch_equivalent is None


def but(names: Iterable[str]) -> Which:
    """All layers but those of these names."""
    kept = set(names)
    return lambda layer: layer.name not in kept
