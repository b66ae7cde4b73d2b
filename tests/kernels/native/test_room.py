"""Memory that is used again: when it may be, and that nobody sees another's numbers change."""

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses import FakeTensorMode

import treering as tr
from treering.kernels.native import room

LIKE = torch.zeros(1)
LARGE = (room.SMALLEST, 2)
MANY = 8 * room.STEP


@pytest.fixture(autouse=True)
def _nothing_free() -> Iterator[None]:
    room._free.clear()
    yield
    room._free.clear()


def test_memory_is_used_again_when_the_last_tensor_on_it_is_gone():
    first = room.empty(LARGE, LIKE)
    place, view = first.data_ptr(), first[1:]
    del first
    other = room.empty(LARGE, LIKE)
    assert other.data_ptr() != place
    del view
    assert room.empty(LARGE[::-1], LIKE).data_ptr() == place


def test_shapes_and_dtypes():
    made = room.empty((3, room.SMALLEST), LIKE, torch.bfloat16)
    assert made.shape == (3, room.SMALLEST)
    assert made.dtype == torch.bfloat16
    assert made.is_contiguous()
    made.fill_(1)
    assert float(made.sum(dtype=torch.float64)) == 3 * room.SMALLEST


def test_a_block_may_be_a_little_larger_but_not_much():
    one = room.empty((3 * MANY,), LIKE, torch.uint8)
    place = one.data_ptr()
    del one
    assert room.empty((MANY,), LIKE, torch.uint8).data_ptr() != place
    assert room.empty((2 * MANY + 1,), LIKE, torch.uint8).data_ptr() == place


def test_no_more_is_kept_than_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "MOST", 3 * MANY)
    several = [room.empty((MANY,), LIKE, torch.uint8) for _ in range(5)]
    several.clear()
    assert sum(memory.numel() for memory in room._free) == 3 * MANY


def test_small_ones_and_shapes_alone_are_pytorchs():
    small = room.empty((4,), LIKE)
    with FakeTensorMode():
        fake = room.empty(LARGE, torch.zeros(1))
    assert fake.shape == LARGE
    del small, fake
    assert not room._free


def test_fresh_memory_is_filled_where_pytorch_promises_it():
    torch.use_deterministic_algorithms(True)
    try:
        assert room.empty(LARGE, LIKE).isnan().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_calls_whose_graphs_live_at_once_share_nothing():
    """And a training step after them finds the memory of both."""
    torch.manual_seed(0)
    layer, inputs = tr.LSTM(8, 64), [torch.randn(80, 64, 8) for _ in range(2)]

    def gradient(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(layer(x)[0].square().sum(), layer.get_parameter("weight_hh_l0"))[
            0
        ]

    apart = [gradient(x) for x in inputs]
    assert room._free
    losses = [layer(x)[0].square().sum() for x in inputs]
    together = [
        torch.autograd.grad(loss, layer.get_parameter("weight_hh_l0"))[0] for loss in losses
    ]
    assert all(map(torch.equal, apart, together))
