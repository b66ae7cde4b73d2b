"""What every peer gives the measurement.

Legend: T time, B batch.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from treering.bench.problem import Problem

Results = dict[str, Tensor]
"""`output`, and gradients under the parameters' names of treering's layer, `input` for x."""


@dataclass(frozen=True)
class Prepared:
    """A contender with everything made that is not to be timed."""

    call: Callable[[], Any]
    results: Callable[[], Results] | None
    """What is compared before timing; None where it computes another function."""
    scale: float = 1.0
    """Calls that stand for one of the case."""


class Peer(ABC):
    """A library, or a way of using one."""

    title: str

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot be measured here and what to do about it; None if it can."""

    @property
    def version(self) -> str | None:
        """Of the library; None where that is treering or PyTorch, which every record names."""
        return None

    @abstractmethod
    def prepare(self, problem: Problem) -> Prepared: ...


def not_installed(*packages: str) -> str | None:
    """A reason naming the packages that are not installed, or None."""
    absent = [name for name in packages if not _has(name)]
    return f"not installed: {', '.join(absent)}; pip install {' '.join(absent)}" if absent else None


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def share_threads() -> None:
    """Give XLA as many threads as PyTorch has. It looks when jax first computes, then never."""
    os.environ["PJRT_NPROC"] = str(torch.get_num_threads())
    os.environ["JAX_PLATFORMS"] = "cpu"


def run_module(
    problem: Problem,
    module: nn.Module,
    names: dict[str, str] | None,
    apply: Callable[[Tensor], Tensor],
    stream: Callable[[Tensor], Tensor],
) -> Prepared:
    """A PyTorch module on the problem.

    names: of its parameters those that the layer has too, by the layer's names; None where the
    module computes another function. apply: x (T, B, I) -> outputs as the case wants them. stream:
    the same tokens one by one.
    """
    case, dy = problem.case, problem.dy
    x = (
        problem.x.detach()
        .clone()
        .requires_grad_(case.mode == "train" and problem.differentiable_input)
    )
    parameters = dict(module.named_parameters())
    wanted = [*parameters.values(), *([x] if x.requires_grad else [])]

    def train() -> tuple[Tensor, tuple[Tensor, ...]]:
        y = apply(x)
        return y, torch.autograd.grad(y, wanted, dy)

    @torch.no_grad()
    def infer() -> Tensor:
        return apply(x) if case.mode == "infer" else stream(x)

    def results() -> Results:
        if case.mode != "train":
            return {"output": infer()}
        y, found = train()
        grads = dict(zip([*parameters, "input"], found, strict=False))
        known = {ours: grads[theirs].detach() for ours, theirs in (names or {}).items()}
        given = {"input": grads["input"].detach()} if x.requires_grad else {}
        return {"output": y.detach(), **known, **given}

    call = train if case.mode == "train" else infer
    return Prepared(call, None if names is None else results)
