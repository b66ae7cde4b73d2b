"""How many merges, rounds and slots the tree takes, counted.

Legend: T time, B batch.
"""

import pytest
import torch

import treering as tr
from treering.schedules.tree import TreeState

from .symbolic import BracketCell, run, tokens

TIMES = [1, 2, 3, 4, 7, 8, 17, 31, 32, 33, 63, 64, 65, 100, 257]


def merges(T: int, outputs: str, tree: tr.Tree, B: int = 1) -> BracketCell:
    cell = BracketCell()
    run(cell, tokens(T, B), tree, outputs=outputs)
    return cell


@pytest.mark.parametrize("T", TIMES)
def test_reduce_takes_one_merge_less_than_tokens(T: int):
    cell = merges(T, "last", tr.Tree())
    assert sum(cell.merged) == T - 1
    assert len(cell.merged) <= 2 * T.bit_length()


@pytest.mark.parametrize("T", TIMES)
def test_prefix_takes_at_most_two_merges_a_token(T: int):
    cell = merges(T, "all", tr.Tree())
    assert sum(cell.merged) <= 2 * T
    assert len(cell.merged) <= 2 * T.bit_length()


@pytest.mark.parametrize("T", TIMES)
def test_left_is_a_plain_fold(T: int):
    assert merges(T, "all", tr.Tree("left"), B=2).merged == [2] * (T - 1)


def test_a_batch_shares_rounds():
    alone, together = merges(33, "all", tr.Tree()), merges(33, "all", tr.Tree(), B=5)
    assert together.merged == [5 * rows for rows in alone.merged]


def test_a_ragged_prefix_merges_no_padding():
    lengths = torch.tensor([1, 17, 64, 5])
    cell = BracketCell()
    run(cell, tokens(64, 4), tr.Tree(), lengths=lengths)
    expected = sum(sum(merges(int(n), "all", tr.Tree()).merged) for n in lengths)
    assert sum(cell.merged) == expected


def test_streaming_takes_at_most_two_merges_a_token_and_logarithmic_memory():
    cell, state = BracketCell(), None
    for n in range(1, 301):
        state = run(cell, tokens(1, first=n), tr.Tree(), state).state
        assert isinstance(state, TreeState)
        assert sum(cell.merged) <= 2 * n
        slots = {field.shape for field in (*state.blocks, *state.folds)}
        assert slots == {(1, n.bit_length(), 1)}


def test_empty_slots_hold_nothing():
    """n = 5 has blocks of 4 and 1 tokens, and none of 2."""
    cell = BracketCell()
    state = run(cell, tokens(5), tr.Tree()).state
    assert isinstance(state, TreeState)
    block, fold = (cell.read(part.h[:, :, 0].unsqueeze(-1).transpose(0, 1)) for part in state[:2])
    assert block == [["5", "nothing", "((1 2) (3 4))"]]
    assert fold == [["(((1 2) (3 4)) 5)", "((1 2) (3 4))", "((1 2) (3 4))"]]


def test_unknown_bracket():
    with pytest.raises(ValueError, match="bracket 'right' is not known; write 'balanced', 'left'"):
        tr.Tree("right")  # pyright: ignore[reportArgumentType]
