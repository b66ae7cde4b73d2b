"""Input orders against orders written out by hand.

Legend: B batch, T time.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treering.schedules.orders import batch_order, inverse, tree_order

BY_HAND = {
    0: [],
    1: [0],
    2: [0, 1],
    3: [1, 0, 2],
    4: [1, 0, 2, 3],
    5: [2, 0, 3, 1, 4],
    6: [2, 0, 4, 1, 3, 5],
    7: [3, 1, 5, 0, 2, 4, 6],
    8: [3, 1, 5, 0, 2, 4, 6, 7],
}


@pytest.mark.parametrize("n", BY_HAND)
def test_tree_order(n: int):
    order = tree_order(n)
    assert order.dtype == torch.int64
    assert order.tolist() == BY_HAND[n]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2000))
def test_every_token_once(n: int):
    assert sorted(tree_order(n).tolist()) == list(range(n))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 400))
def test_level_by_level_from_left_to_right(n: int):
    """Against the search tree itself: a token's level, then its place, is its turn."""

    def levels(low: int, high: int, level: int) -> list[tuple[int, int]]:
        if low > high:
            return []
        centre = (low + high) // 2
        here = [(level, centre)]
        return levels(low, centre - 1, level + 1) + here + levels(centre + 1, high, level + 1)

    assert tree_order(n).tolist() == [token for _, token in sorted(levels(0, n - 1, 0))]


def test_what_is_returned_may_be_written_to():
    tree_order(5).zero_()
    assert tree_order(5).tolist() == BY_HAND[5]


def test_negative_number_of_tokens():
    with pytest.raises(ValueError, match="a number of tokens of at least 0, got -1"):
        tree_order(-1)


def test_batch_order_takes_each_length_by_itself():
    order = batch_order(torch.tensor([3, 5, 1]), 5)
    assert order.t().tolist() == [[1, 0, 2, 3, 4], [2, 0, 3, 1, 4], [0, 1, 2, 3, 4]]


def test_batch_order_is_the_tree_order_for_every_length():
    lengths = torch.arange(601)
    order = batch_order(lengths, 600)
    for n in lengths.tolist():
        assert torch.equal(order[:n, n], tree_order(n))
        assert torch.equal(order[n:, n], torch.arange(n, 600))


def test_batch_order_of_an_empty_batch():
    assert batch_order(torch.zeros(0, dtype=torch.int64), 4).shape == (4, 0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_inverse_undoes(lengths: list[int]):
    order = batch_order(torch.tensor(lengths), 40)
    x = torch.randn(40, len(lengths))
    read = x.gather(0, order)
    assert torch.equal(read.gather(0, inverse(order)), x)
    assert torch.equal(inverse(inverse(order)), order)
