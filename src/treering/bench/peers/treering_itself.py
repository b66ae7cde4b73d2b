"""treering as a contender, and its own schedule by PyTorch's operators as a peer."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from treering.bench.peers.abstract import Peer, Prepared, run_module
from treering.bench.problem import Problem
from treering.dispatch import use_kernels


class Treering(Peer):
    """The layer as anybody calls it: which kernel runs is dispatch's choice.

    kernels: what `use_kernels` is asked for.
    """

    def __init__(self, title: str = "treering", kernels: str = "auto") -> None:
        self.title, self.kernels = title, kernels

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Problem) -> Prepared:
        layer = copy.deepcopy(problem.layer)
        last = problem.case.outputs == "last"
        with torch.no_grad():
            # A stream that has begun: its first token has a state to make.
            _, first = layer.step(problem.x[0])

        def apply(x: Tensor) -> Tensor:
            return layer.reduce(x) if last else layer(x)[0]

        def stream(x: Tensor) -> Tensor:
            outputs, state = [], first
            for x_t in x.unbind(0):
                y, state = layer.step(x_t, state)
                outputs.append(y)
            return torch.stack(outputs)

        names = {name: name for name, _ in layer.named_parameters()}
        ready = run_module(problem, layer, names, apply, stream)
        assert ready.results is not None
        return Prepared(self._asking(ready.call), self._asking(ready.results))

    def _asking(self, function: Callable[[], Any]) -> Callable[[], Any]:
        if self.kernels == "auto":
            return function

        @wraps(function)
        def inside() -> Any:
            with use_kernels(self.kernels):
                return function()

        return inside


OURS = Treering()
EAGER = Treering("treering's reference schedule by eager autograd", "reference")
