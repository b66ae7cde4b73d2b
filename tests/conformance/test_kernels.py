"""Every kernel against the reference: forward and all gradients.

Legend: T time, B batch.
"""

import pytest
import torch
from torch import Tensor

import treering as tr
from treering import dispatch
from treering._types import map_tensors
from treering.dispatch import Kernel
from treering.layers import Recurrent

from .cases import CASES, Case
from .observe import assert_same, draw, met_before, observe

NEEDS_THE_LOOP = {"schedule", "layer_norm", "proj_size"}
# What is written in C++ computes in float32 alone, and what shares tokens needs equal ones: these
# are held in tests/kernels/native and tests/schedules/test_program.py.
ELSEWHERE = ("native-", "shared-")
BY_CELL = [
    (kernel, case)
    for kernel in dispatch.KERNELS
    for case in CASES
    if tr.layers.get(case.name).cell_type is kernel.cell and not kernel.name.startswith(ELSEWHERE)
]
PAIRS = [(kernel, case) for kernel, case in BY_CELL if not NEEDS_THE_LOOP & case.options.keys()]
REFUSED = [pair for pair in BY_CELL if pair not in PAIRS]


def test_every_kernel_has_a_layer():
    named = {kernel.name for kernel in dispatch.KERNELS}
    assert {kernel.name for kernel, _ in PAIRS} == {
        name for name in named if not name.startswith(ELSEWHERE)
    }
    cells = {tr.layers.get(name).cell_type for name in tr.layers.names()}
    assert {kernel.cell for kernel in dispatch.KERNELS} <= cells


def test_kernel_names_are_unique():
    assert len({kernel.name for kernel in dispatch.KERNELS}) == len(dispatch.KERNELS)


@pytest.mark.parametrize("T", [1, 2, 17, 65])
@pytest.mark.parametrize(("kernel", "case"), PAIRS, ids=lambda v: getattr(v, "name", str(v)))
def test_kernel_is_the_reference(kernel: Kernel, case: Case, T: int):
    layer, x = case.build(), draw(T, 4, 2)
    for state in (None, met_before(layer, 4, ragged=True)):
        seen = []
        for name in (kernel.name, "reference"):

            def call(layer: Recurrent, x: Tensor, state: object, name: str = name):
                with tr.use_kernels(name):
                    return layer(x, state)

            seen.append(observe(layer, x, state, call))
        assert_same(*seen)


@pytest.mark.parametrize(("kernel", "case"), PAIRS, ids=lambda v: getattr(v, "name", str(v)))
def test_kernel_that_loses_is_refused_with_its_reason(kernel: Kernel, case: Case):
    layer, x, lengths = case.build(), draw(9, 3, 2), torch.tensor([9, 1, 4])
    assert "reference (" in str(tr.explain(layer, x, lengths))
    with tr.use_kernels(kernel.name), pytest.raises(ValueError, match="the loop over time is fast"):
        layer(x, lengths=lengths)


@pytest.mark.parametrize(("kernel", "case"), REFUSED, ids=lambda v: getattr(v, "name", str(v)))
def test_what_needs_the_loop_is_refused_with_its_reason(kernel: Kernel, case: Case):
    layer, x = case.build(), draw(9, 3, 2)
    assert f"reference ({kernel.name}: " in str(tr.explain(layer, x))
    with tr.use_kernels(kernel.name), pytest.raises(ValueError, match="loop"):
        layer(x)


@pytest.mark.parametrize(("kernel", "case"), PAIRS, ids=lambda v: getattr(v, "name", str(v)))
def test_kernel_is_the_reference_in_single_precision(kernel: Kernel, case: Case):
    layer, x = case.build(5, 8).float(), draw(33, 4, 5).float()
    found = []
    for name in (kernel.name, "reference"):
        with tr.use_kernels(name):
            found.append(layer(x))
    (y, last), (reference, reference_last) = found
    torch.testing.assert_close(y, reference, rtol=1e-5, atol=1e-6)

    def close(a: Tensor, b: Tensor) -> Tensor:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        return a

    map_tensors(close, last, reference_last)


@pytest.mark.parametrize(("kernel", "case"), PAIRS, ids=lambda v: getattr(v, "name", str(v)))
def test_kernel_last_output_only(kernel: Kernel, case: Case):
    layer, x = case.build(), draw(9, 3, 2)
    with tr.use_kernels(kernel.name):
        last = layer.reduce(x)
    with tr.use_kernels("reference"):
        torch.testing.assert_close(last, layer.reduce(x), rtol=1e-12, atol=1e-13)
