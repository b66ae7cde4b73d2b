"""A case made real: a layer, an input, and a gradient of its outputs.

Legend: B batch, T time, I input, H hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from treering import layers, tasks
from treering.bench.record import Case
from treering.layers import Recurrent
from treering.schedules.tree import Tree

SCHEDULES = {"default": None, "left": Tree("left")}
SEED = 0


@dataclass(frozen=True)
class Problem:
    """What every contender is given. x: (T, B, I); dy: of the outputs' shape."""

    case: Case
    layer: Recurrent
    x: Tensor
    dy: Tensor

    @property
    def differentiable_input(self) -> bool:
        """One-hot symbols are constants: nothing before them could learn."""
        return self.case.input == "normal"


def make(case: Case) -> Problem:
    """The same problem for the same case, in every process."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        layer = layers.get(case.layer)(
            case.input_size, case.hidden_size, schedule=SCHEDULES[case.schedule]
        )
    dtype = getattr(torch, case.dtype)
    x = _input(case, generator)
    T, B = (1, case.batch) if case.outputs == "last" else (case.time, case.batch)
    dy = torch.randn(T, B, layer.output_size, generator=generator)
    dy = dy[0] if case.outputs == "last" else dy
    return Problem(case, layer.to(dtype), x.to(dtype), dy.to(dtype))


def _input(case: Case, generator: torch.Generator) -> Tensor:
    if case.input == "normal":
        return torch.randn(case.time, case.batch, case.input_size, generator=generator)
    symbols = tasks.get("parity_check").sample(case.batch, case.time, generator).inputs
    return F.one_hot(symbols.t(), case.input_size).float()
