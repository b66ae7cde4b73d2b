"""The finite automata of the regular tasks: which state each is in after every prefix.

Legend: B batch, T time.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from treering.tasks import GeneratedTask
from treering.tasks.formal.modular_arithmetic import PLUS

UNDEFINED = -1


class Reader(NamedTuple):
    """Something that whoever reads the symbols one by one has to remember.

    states: (B, T) int64 symbols -> (B, T) int64 states after each, UNDEFINED where there is none.
    """

    name: str
    classes: int
    states: Callable[[Tensor], Tensor]


def _ones_so_far(inputs: Tensor) -> Tensor:
    return inputs.cumsum(1) % 2


def _place_so_far(inputs: Tensor) -> Tensor:
    return (inputs - 1).cumsum(1) % 5


def _first_symbol(inputs: Tensor) -> Tensor:
    return inputs[:, :1].expand_as(inputs)


def _first_and_current(inputs: Tensor) -> Tensor:
    return 2 * inputs[:, :1] + inputs


def _value_so_far(inputs: Tensor) -> Tensor:
    """Where a prefix ends in a digit its value; after an operator an expression has none."""
    from treering.tasks import get

    task = get("modular_arithmetic")
    values = torch.full_like(inputs, UNDEFINED)
    for end in range(0, inputs.shape[1], 2):
        values[:, end] = task.answer(inputs[:, : end + 1])[:, 0]
    return values


def _last_operator(inputs: Tensor) -> Tensor:
    """The operator before the current digit or the current one; none before the first."""
    operators = torch.full_like(inputs, UNDEFINED)
    operators[:, 1::2] = inputs[:, 1::2] - PLUS
    operators[:, 2::2] = inputs[:, 1::2][:, : operators[:, 2::2].shape[1]] - PLUS
    return operators


READERS = {
    "parity_check": (Reader("parity of the ones so far", 2, _ones_so_far),),
    "cycle_navigation": (Reader("place reached so far", 5, _place_so_far),),
    "even_pairs": (
        Reader("first symbol", 2, _first_symbol),
        Reader("first and current symbol", 4, _first_and_current),
    ),
    "modular_arithmetic": (
        Reader("value of the expression so far", 5, _value_so_far),
        Reader("operator last read", 3, _last_operator),
    ),
}


def readers_of(task: GeneratedTask) -> tuple[Reader, ...]:
    """What can be asked for after each prefix of the task; empty where nothing is written down."""
    return READERS.get(task.name, ())
