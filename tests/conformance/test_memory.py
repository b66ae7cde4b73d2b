"""No path reads memory that nobody has written, also where PyTorch's own operators allocate it.

Legend: T time, B batch.
"""

from collections.abc import Iterator

import pytest
import torch

from .cases import CASES, Case
from .observe import assert_same, draw, flat, met_before, observe
from .test_time import padded_call


@pytest.fixture
def filled_memory() -> Iterator[None]:
    """PyTorch fills whatever it allocates with NaN, or with the largest integer.

    Which `torch.utils.deterministic.fill_uninitialized_memory`, on by default, ties to this mode.
    """
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("filled_memory")
def test_memory_is_filled():
    assert torch.Tensor([]).resize_(1000).isnan().all()


@pytest.mark.usefixtures("filled_memory")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_filled_memory_changes_nothing(case: Case):
    layer, x, lengths = case.build(), draw(17, 4, 2), torch.tensor([8, 17, 1, 16])
    state = met_before(layer, 4, ragged=True)
    filled = observe(layer, x, state, padded_call(lengths))
    torch.use_deterministic_algorithms(False)
    assert_same(filled, observe(layer, x, state, padded_call(lengths)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_call_twice_is_bit_identical(case: Case):
    layer, x, lengths = case.build(), draw(17, 4, 2), torch.tensor([8, 17, 1, 16])
    one = observe(layer, x, None, padded_call(lengths))
    other = observe(layer, x, None, padded_call(lengths))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs_and_states_are_not_written_to(case: Case):
    layer, x = case.build(), draw(9, 3, 2)
    state = met_before(layer, 3, ragged=True)
    before = [x.clone(), *(s.clone() for s in flat(state))]
    layer(x, state, lengths=torch.tensor([9, 2, 5]))
    layer.step(x[0], state)
    assert all(torch.equal(a, b) for a, b in zip(before, [x, *flat(state)], strict=True))
