"""First and second derivatives against finite differences, for every layer and option.

Legend: T time, B batch.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import treering as tr
from treering import dispatch
from treering._types import map_tensors
from treering.layers import Recurrent

from .cases import CASES, REGISTERED, Case
from .observe import draw, floats, fresh, met_before

T, B = 3, 2
WIDTH, HIDDEN = 1, 2


def as_function(
    layer: Recurrent, state: Any, lengths: Tensor | None
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """A layer as a function of plain tensors: input, initial state, parameters."""
    names = [name for name, _ in layer.named_parameters()]
    parts = [] if state is None else floats(state)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, rest = tensors[0], list(tensors[1:])
        given = iter(rest[: len(parts)])
        carried = None
        if state is not None:
            carried = map_tensors(lambda s: next(given) if s.is_floating_point() else s, state)
        parameters = dict(zip(names, rest[len(parts) :], strict=True))
        y, last = functional_call(layer, parameters, (x, carried, lengths))
        return y, *floats(last)

    x = draw(T, B, WIDTH).requires_grad_()
    return function, [x, *parts, *layer.parameters()]


def build(case: Case, call: str) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    layer = case.build(WIDTH, HIDDEN)
    if call == "plain":
        return as_function(layer, None, None)
    state = fresh(met_before(layer, B, ragged=True))
    return as_function(layer, state, torch.tensor([T, T - 2]))


@pytest.mark.parametrize(
    ("case", "call"),
    [(case, "plain") for case in REGISTERED] + [(case, "from a state, padded") for case in CASES],
    ids=str,
)
def test_first_derivatives(case: Case, call: str):
    function, inputs = build(case, call)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=bool(case.options))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_second_derivatives(case: Case):
    function, inputs = build(case, "from a state, padded")
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


KERNEL_CELLS = {kernel.cell for kernel in dispatch.KERNELS}
WITH_KERNELS = [c for c in CASES if tr.layers.get(c.name).cell_type in KERNEL_CELLS]


@pytest.mark.parametrize("case", WITH_KERNELS, ids=str)
def test_reference_derivatives(case: Case):
    """The same without kernels, where a kernel would otherwise have run."""
    with tr.use_kernels("reference"):
        function, inputs = build(case, "from a state, padded")
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
