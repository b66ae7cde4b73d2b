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
REGULARISED: dict[str, Any] = {
    "layer_norm": True,
    "recurrent_dropout": 0.2,
    "zoneout": 0.3,
    "weight_dropout": 0.1,
    "forget_bias": 1.0,
    "orthogonal": True,
}
WITHOUT_FORGET_GATE = {k: v for k, v in REGULARISED.items() if k != "forget_bias"}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rnn": [{"nonlinearity": "relu"}, {"bias": False}, WITHOUT_FORGET_GATE],
    "gru": [{"bias": False}, REGULARISED],
    "lstm": [{"bias": False}, REGULARISED, {"proj_size": 1}, {"proj_size": 1, **REGULARISED}],
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
        {"block_size": 3, "skip": "input", **REGULARISED},
    ],
    "ql-gru": [
        {"shared_blocks": 1},
        {"shared_blocks": 3},
        {"skip": "none"},
        {"skip": "fixed", "alpha": -0.1},
        {"bounded": True},
        {"block_size": 3},
        {"bias": False},
        REGULARISED,
    ],
    "ql-rnn": [
        {"shared_blocks": 2},
        {"skip": "none"},
        {"skip": "input", "alpha": 0.3},
        {"bounded": True},
        {"block_size": 3},
        {"bias": False},
        REGULARISED,
    ],
    "pr-lstm": [
        {"refinements": 0},
        {"refinements": 2},
        {"schedule": tr.Tree("left")},
        # Not `Tree("given")`, whose calls bring a tree each: tests/schedules/test_given.py.
        {"schedule": tr.Tree("random", seed=3)},
        {"bias": False},
        {"merging": "sum", "refinements": 0},
        {"merging": "linear"},
        {"merging": "linear", "refinements": 0, "bias": False},
    ],
    "pr-rnn": [
        {"refinements": 0},
        {"refinements": 2},
        {"schedule": tr.Tree("left")},
        {"schedule": tr.Tree("random", seed=1)},
        {"bias": False},
    ],
    "nonlinear-gate-lstm": [{"gates": "f"}, {"gates": "og"}, {"bias": False}, REGULARISED],
    "min-gru": [{"schedule": tr.Sequential()}, {"bias": False}],
    "min-lstm": [{"schedule": tr.Sequential()}, {"bias": False}],
}


class Case(NamedTuple):
    """A layer and the options that it is built with."""

    name: str
    options: dict[str, Any]

    def __str__(self) -> str:
        regularised = self.options.keys() >= WITHOUT_FORGET_GATE.keys()
        words = ["regularised"] if regularised else []
        words += [f"{k}={v}" for k, v in self.options.items() if k not in REGULARISED]
        return "-".join([self.name, *words]).replace(" ", "")

    def build(self, input_size: int = 2, hidden_size: int = 3, **more: Any) -> Recurrent:
        """The layer in float64, with no parameter left at a round initial value.

        Where options draw noise in training, it is in evaluation, so that calls can be compared.
        """
        torch.manual_seed(1)
        layer = tr.layers.get(self.name)(
            input_size, hidden_size, dtype=torch.float64, **{**self.options, **more}
        )
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return layer.eval() if "recurrent_dropout" in self.options else layer


REGISTERED = [Case(name, {}) for name in tr.layers.names()]
CASES = REGISTERED + [Case(name, options) for name in OPTIONS for options in OPTIONS[name]]


CASES_IN_TIME = [
    pytest.param(
        case,
        T,
        id=f"{case}-{T}",
        # Of options, beside 64 tokens: what they change has no length of its own above 17, and
        # the layers themselves are held at every length.
        marks=[pytest.mark.slow] if case.options and T in (63, 65) else [],
    )
    for case in CASES
    for T in TIMES
]
