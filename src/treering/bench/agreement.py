"""Correctness first: what is not the same function is not timed."""

import copy
import dataclasses

import torch
from torch import Tensor

from treering.bench.peers.abstract import Results
from treering.bench.peers.treering_itself import EAGER
from treering.bench.problem import Problem
from treering.bench.record import Agreement

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Of |difference| / |expected| by Euclidean norms, tensor by tensor. Rounding of float32 over some
hundred tokens stays ten times below; one wrong gate is far above."""


def expected(problem: Problem) -> Results:
    """The step reference in float64, from the weights and inputs as they were rounded."""
    layer = copy.deepcopy(problem.layer).double()
    exact = dataclasses.replace(problem, layer=layer, x=problem.x.double(), dy=problem.dy.double())
    results = EAGER.prepare(exact).results
    assert results is not None
    return results()


def compare(found: Results, wanted: Results, against: str) -> Agreement:
    """Every tensor of `found` with the one of that name in `wanted`."""
    errors = {name: _error(tensor, wanted[name]) for name, tensor in found.items()}
    worst = max(errors, key=lambda name: errors[name])
    return Agreement(
        against=against,
        error=errors[worst],
        worst=worst,
        bound=BOUNDS[found["output"].dtype],
        tensors=len(errors),
    )


def _error(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    difference = (found.double() - wanted.double()).norm().item()
    size = wanted.double().norm().item()
    if difference != difference:
        return float("inf")
    return difference / size if size else (float("inf") if difference else 0.0)
