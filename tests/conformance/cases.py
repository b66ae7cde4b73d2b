"""What is held against the contract: every registered layer, and its options away from default.

A layer registered tomorrow is in `CASES` the same day; `test_cases.py` fails until each of its
options also has a line in `OPTIONS`.
"""

from typing import Any, NamedTuple

import pytest
import torch

import treering as tr
from treering.layers import Recurrent

TIMES = (1, 2, 3, 7, 8, 17, 63, 64, 65)
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rnn": [{"nonlinearity": "relu"}, {"bias": False}],
    "gru": [{"bias": False}],
    "lstm": [{"bias": False}],
    "ql-lstm": [
        {"shared_blocks": 1},
        {"shared_blocks": 4},
        {"skip": "fixed", "alpha": 0.2},
        {"skip": "channel"},
        {"skip": "input"},
        {"skip": "none"},
        {"bounded": True},
        {"skip": "fixed", "bounded": True},
        {"skip": "channel", "bounded": True},
        {"skip": "input", "bounded": True},
        {"block_size": 1},
        {"block_size": 3},
        {"block_size": 4, "skip": "input", "shared_blocks": 1, "bounded": True},
        {"bias": False},
    ],
    "ql-gru": [
        {"shared_blocks": 1},
        {"shared_blocks": 3},
        {"skip": "none"},
        {"skip": "fixed", "alpha": -0.1},
        {"bounded": True},
        {"block_size": 3},
        {"bias": False},
    ],
    "ql-rnn": [
        {"shared_blocks": 2},
        {"skip": "none"},
        {"skip": "input", "alpha": 0.3},
        {"bounded": True},
        {"block_size": 3},
        {"bias": False},
    ],
    "pr-lstm": [
        {"refinements": 0},
        {"refinements": 2},
        {"schedule": tr.Tree("left")},
        {"schedule": tr.Tree("random", seed=3)},
        {"bias": False},
    ],
    "pr-rnn": [
        {"refinements": 0},
        {"refinements": 2},
        {"schedule": tr.Tree("left")},
        {"schedule": tr.Tree("random", seed=1)},
        {"bias": False},
    ],
    "nonlinear-gate-lstm": [{"gates": "f"}, {"gates": "og"}, {"bias": False}],
    "min-gru": [{"schedule": tr.Sequential()}, {"bias": False}],
    "min-lstm": [{"schedule": tr.Sequential()}, {"bias": False}],
}


class Case(NamedTuple):
    """A layer and the options that it is built with."""

    name: str
    options: dict[str, Any]

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.options.items()]
        return "-".join([self.name, *words]).replace(" ", "")

    def build(self, input_size: int = 2, hidden_size: int = 3, **more: Any) -> Recurrent:
        """The layer in float64, with no parameter left at a round initial value."""
        torch.manual_seed(1)
        layer = tr.layers.get(self.name)(
            input_size, hidden_size, dtype=torch.float64, **{**self.options, **more}
        )
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return layer


REGISTERED = [Case(name, {}) for name in tr.layers.names()]
CASES = REGISTERED + [Case(name, options) for name in OPTIONS for options in OPTIONS[name]]


CASES_IN_TIME = [pytest.param(case, T, id=f"{case}-{T}") for case in CASES for T in TIMES]
