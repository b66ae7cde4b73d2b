"""A cell whose merge writes down what it merged: evaluates a schedule to its bracket.

Legend: T time, B batch.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

import treering as tr
from treering._types import Hidden, HiddenCell, Run, State, Weights
from treering.cells.abstract import MergeCell, ParameterSpec

ABSENT = 0


@final
@dataclass(frozen=True)
class BracketCell(MergeCell):
    """h is a number; `texts` knows which bracket it stands for. 0 stands for nothing at all.

    `merged` counts the rows that reached `merge`, `calls` how often it was called.
    """

    hidden_size: int = 1
    texts: dict[int, str] = field(default_factory=lambda: {ABSENT: "nothing"}, compare=False)
    numbers: dict[str, int] = field(default_factory=dict, compare=False)
    merged: list[int] = field(default_factory=list, compare=False)

    state_type: ClassVar[type[Hidden] | type[HiddenCell]] = Hidden

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        return {}

    def number(self, text: str) -> int:
        if text not in self.numbers:
            self.numbers[text] = len(self.texts)
            self.texts[len(self.texts)] = text
        return self.numbers[text]

    def leaf(self, weights: Weights, x: Tensor) -> Hidden:
        numbers = [self.number(str(int(token))) for token in x.flatten().tolist()]
        return Hidden(torch.tensor(numbers, dtype=x.dtype).view(*x.shape[:-1], 1))

    def merge(self, weights: Weights, left: State, right: State) -> Hidden:
        pairs = zip(left[0].flatten().tolist(), right[0].flatten().tolist(), strict=True)
        numbers = [self.number(f"({self.texts[int(a)]} {self.texts[int(b)]})") for a, b in pairs]
        self.merged.append(len(numbers))
        return Hidden(torch.tensor(numbers, dtype=left[0].dtype).view_as(left[0]))

    def read(self, outputs: Tensor) -> list[list[str]]:
        """Outputs (T, B, 1) as text, one list per sequence; or (B, 1), one text in each."""
        columns = outputs.unsqueeze(0) if outputs.dim() == 2 else outputs
        return [[self.texts[int(v)] for v in column] for column in columns[..., 0].t().tolist()]


def tokens(T: int, B: int = 1, first: int = 1) -> Tensor:
    """Sequences first, first + 1, ... (T, B, 1)."""
    return torch.arange(first, first + T, dtype=torch.float64).view(T, 1, 1).expand(T, B, 1)


def run(cell: BracketCell, x: Tensor, schedule: tr.Tree, state: State | None = None, **more) -> Run:
    return tr.unroll(cell, {}, x, state, schedule=schedule, **more)


def brackets(T: int, schedule: tr.Tree) -> list[str]:
    """The bracket after every token 1..T of one sequence."""
    cell = BracketCell()
    return cell.read(run(cell, tokens(T), schedule).outputs)[0]


def shifted(text: str, by: int) -> str:
    """A bracket whose tokens are called `by` more."""
    return re.sub(r"\d+", lambda found: str(int(found[0]) + by), text)
