"""What the tree computes, token by token, against brackets written out by hand.

Legend: T time, B batch.
"""

import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treering as tr
from treering._types import Hidden
from treering.schedules.tree import TreeState
from treering.schedules.tree.shift_reduce import program

from .symbolic import BracketCell, brackets, run, shifted, tokens

BALANCED = {
    1: "1",
    2: "(1 2)",
    3: "((1 2) 3)",
    4: "((1 2) (3 4))",
    5: "(((1 2) (3 4)) 5)",
    6: "(((1 2) (3 4)) (5 6))",
    7: "((((1 2) (3 4)) (5 6)) 7)",
    8: "(((1 2) (3 4)) ((5 6) (7 8)))",
    9: "((((1 2) (3 4)) ((5 6) (7 8))) 9)",
    10: "((((1 2) (3 4)) ((5 6) (7 8))) (9 10))",
    11: "(((((1 2) (3 4)) ((5 6) (7 8))) (9 10)) 11)",
    12: "((((1 2) (3 4)) ((5 6) (7 8))) ((9 10) (11 12)))",
    13: "(((((1 2) (3 4)) ((5 6) (7 8))) ((9 10) (11 12))) 13)",
    14: "(((((1 2) (3 4)) ((5 6) (7 8))) ((9 10) (11 12))) (13 14))",
    15: "((((((1 2) (3 4)) ((5 6) (7 8))) ((9 10) (11 12))) (13 14)) 15)",
    16: "((((1 2) (3 4)) ((5 6) (7 8))) (((9 10) (11 12)) ((13 14) (15 16))))",
    17: "(((((1 2) (3 4)) ((5 6) (7 8))) (((9 10) (11 12)) ((13 14) (15 16)))) 17)",
}
LEFT = {
    1: "1",
    2: "(1 2)",
    3: "((1 2) 3)",
    4: "(((1 2) 3) 4)",
    5: "((((1 2) 3) 4) 5)",
    6: "(((((1 2) 3) 4) 5) 6)",
    7: "((((((1 2) 3) 4) 5) 6) 7)",
}
RANDOM = {n + 1: text for n, text in enumerate(brackets(17, tr.Tree("random", seed=4)))}

SCHEDULES = [(tr.Tree(), BALANCED), (tr.Tree("left"), LEFT), (tr.Tree("random", seed=4), RANDOM)]
every_tree = pytest.mark.parametrize(
    ("tree", "table"), SCHEDULES, ids=["balanced", "left", "random"]
)


@every_tree
def test_prefix(tree: tr.Tree, table: dict[int, str]):
    for T in table:
        assert brackets(T, tree) == [table[n] for n in range(1, T + 1)]


@every_tree
def test_reduce(tree: tr.Tree, table: dict[int, str]):
    for T in table:
        cell = BracketCell()
        assert cell.read(run(cell, tokens(T), tree, outputs="last").outputs) == [[table[T]]]


@every_tree
def test_the_state_is_the_last_bracket(tree: tr.Tree, table: dict[int, str]):
    for T in table:
        cell = BracketCell()
        for outputs in ("all", "last"):
            state = run(cell, tokens(T), tree, outputs=outputs).state
            assert isinstance(state, TreeState)
            assert cell.read(state.last.h) == [[table[T]]]
            assert state.length.tolist() == [T]


@every_tree
@pytest.mark.parametrize("outputs", ["all", "last"])
def test_carried_on(tree: tr.Tree, table: dict[int, str], outputs: str):
    """From every n0 to every n1."""
    for n1 in table:
        for n0 in range(1, n1):
            cell = BracketCell()
            state = run(cell, tokens(n0), tree).state
            more = run(cell, tokens(n1 - n0, first=n0 + 1), tree, state, outputs=outputs)
            wanted = [table[n] for n in range(n0 + 1, n1 + 1)]
            assert cell.read(more.outputs)[0] == (wanted if outputs == "all" else wanted[-1:])
            assert isinstance(more.state, TreeState)
            assert cell.read(more.state.last.h)[0] == wanted[-1:]


@every_tree
def test_token_by_token(tree: tr.Tree, table: dict[int, str]):
    cell, state = BracketCell(), None
    for n, text in table.items():
        outputs, state, *_ = run(cell, tokens(1, first=n), tree, state)
        assert cell.read(outputs) == [[text]]


@every_tree
@pytest.mark.parametrize("outputs", ["all", "last"])
def test_ragged(tree: tr.Tree, table: dict[int, str], outputs: str):
    """Every length at once in one padded batch."""
    lengths, cell = torch.tensor(list(table)), BracketCell()
    T = len(table)
    ran = run(cell, tokens(T, T), tree, lengths=lengths, outputs=outputs)
    for n, texts in zip(table, cell.read(ran.outputs), strict=True):
        if outputs == "all":
            assert texts == [table[k] for k in range(1, n + 1)] + ["nothing"] * (T - n)
        else:
            assert texts == [table[n]]


@every_tree
@pytest.mark.parametrize("outputs", ["all", "last"])
def test_ragged_and_carried_on(tree: tr.Tree, table: dict[int, str], outputs: str):
    """Every n0 goes on to every n1 > n0, all in one batch."""
    cell, T = BracketCell(), len(table)
    pairs = [(n0, n1) for n1 in table for n0 in range(1, n1)]
    before, after = (torch.tensor(column) for column in zip(*pairs, strict=True))
    state = run(cell, tokens(T, len(pairs)), tree, lengths=before).state
    longest = int((after - before).max())
    x = torch.cat([tokens(longest, first=n0 + 1) for n0, _ in pairs], 1)
    ran = run(cell, x, tree, state, lengths=after - before, outputs=outputs)
    for (n0, n1), texts in zip(pairs, cell.read(ran.outputs), strict=True):
        wanted = [table[n] for n in range(n0 + 1, n1 + 1)]
        assert texts[: n1 - n0] == (wanted if outputs == "all" else wanted[-1:])
    assert isinstance(ran.state, TreeState)
    assert cell.read(ran.state.last.h) == [[table[n1]] for _, n1 in pairs]
    assert ran.state.length.tolist() == [n1 for _, n1 in pairs]


@every_tree
def test_reset(tree: tr.Tree, table: dict[int, str]):
    """A reset before every token, alone, with and without a state to throw away."""
    T = len(table)
    reset = torch.eye(T, dtype=torch.bool)
    cell = BracketCell()
    for state in (None, run(cell, tokens(3, T, first=91), tree).state):
        ran = run(cell, tokens(T, T), tree, state, reset=reset)
        for at, texts in enumerate(cell.read(ran.outputs)):
            assert texts[at:] == [shifted(table[n], at) for n in range(1, T - at + 1)]
            if state is None:
                assert texts[:at] == [table[n] for n in range(1, at + 1)]
        assert isinstance(ran.state, TreeState)
        assert ran.state.length.tolist() == [T - at for at in range(T)]


@every_tree
def test_a_state_of_no_tokens_is_a_fresh_start(tree: tr.Tree, table: dict[int, str]):
    cell, T = BracketCell(), len(table)
    state = run(cell, tokens(3), tree).state
    assert isinstance(state, TreeState)
    empty = Hidden(torch.zeros_like(state.blocks.h))
    nothing = TreeState(empty, empty, torch.zeros_like(state.length))
    assert cell.read(run(cell, tokens(T), tree, nothing).outputs)[0] == list(table.values())


def test_shift_reduce_with_trailing_zeros_is_the_balanced_bracket():
    """Two independent definitions of the same bracket: binary expansion and stack program."""

    def trailing_zeros(boundary: int) -> float:
        return (boundary & -boundary).bit_length()

    for n, text in BALANCED.items():
        made = program(trailing_zeros, 0, n)
        texts = [str(t + 1) for t in range(n)]
        for a, b in made.merges:
            texts.append(f"({texts[a]} {texts[b]})")
        assert texts[made.states[-1]] == text


class TestRandom:
    def test_same_seed_same_brackets(self):
        assert brackets(40, tr.Tree("random", seed=7)) == brackets(40, tr.Tree("random", seed=7))

    def test_seeds_differ(self):
        assert len({brackets(40, tr.Tree("random", seed=s))[-1] for s in range(20)}) == 20

    def test_a_prefix_does_not_know_what_follows(self):
        tree = tr.Tree("random", seed=2)
        longest = brackets(40, tree)
        for T in (1, 2, 3, 7, 17, 39):
            assert brackets(T, tree) == longest[:T]

    def test_nobody_elses_random_numbers_are_used(self):
        random.seed(1)
        before, torch_before = random.getstate(), torch.get_rng_state()
        brackets(33, tr.Tree("random", seed=12345))
        assert random.getstate() == before
        assert torch.equal(torch.get_rng_state(), torch_before)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(st.integers(1, 60), st.integers(0, 2**31))
    def test_a_binary_tree_over_all_tokens_in_order(self, T: int, seed: int):
        text = brackets(T, tr.Tree("random", seed=seed))[-1]
        assert [int(token) for token in re.findall(r"\d+", text)] == list(range(1, T + 1))
        while "(" in text:
            text, merges = re.subn(r"\(\d+ \d+\)", "0", text)
            assert merges
        assert text.isdigit()

    def test_rounds_grow_like_a_logarithm(self):
        """About 3 ln T rounds, not T: the point of merging by rounds."""
        cell = BracketCell()
        run(cell, tokens(500), tr.Tree("random", seed=0))
        assert len(cell.merged) < 60


def depth(text: str) -> int:
    level = deepest = 0
    for letter in text:
        level += {"(": 1, ")": -1}.get(letter, 0)
        deepest = max(deepest, level)
    return deepest


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 300))
def test_binary_expansion(T: int):
    """The definition itself: perfect blocks of the powers of two of T, largest first, folded."""

    def perfect(first: int, size: int) -> str:
        if size == 1:
            return str(first)
        half = size // 2
        return f"({perfect(first, half)} {perfect(first + half, half)})"

    blocks, first = [], 1
    for bit in reversed(range(T.bit_length())):
        if T >> bit & 1:
            blocks.append(perfect(first, 1 << bit))
            first += 1 << bit
    expected = blocks[0]
    for block in blocks[1:]:
        expected = f"({expected} {block})"
    cell = BracketCell()
    assert cell.read(run(cell, tokens(T), tr.Tree(), outputs="last").outputs) == [[expected]]
    assert depth(expected) <= 2 * T.bit_length()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_any_cuts_lengths_and_resets(data: st.DataObject):
    """Calls of any sizes, padded and reset anywhere: outputs are the table's, shifted."""
    tree = data.draw(st.sampled_from([tr.Tree(), tr.Tree("random", seed=4), tr.Tree("left")]))
    table = brackets(24, tree)
    cell, state, B = BracketCell(), None, 3
    since, first = [0] * B, [1] * B
    for _ in range(data.draw(st.integers(1, 3))):
        T = data.draw(st.integers(1, 8))
        lengths = data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
        flags = st.lists(st.booleans(), min_size=T * B, max_size=T * B)
        reset = torch.tensor(data.draw(flags)).view(T, B)
        x = torch.cat([tokens(T, first=n) for n in first], 1)
        ran = run(cell, x, tree, state, lengths=torch.tensor(lengths), reset=reset)
        state = ran.state
        for b, texts in enumerate(cell.read(ran.outputs)):
            for t in range(lengths[b]):
                since[b] = 1 if reset[t, b] else since[b] + 1
                start = first[b] + t + 1 - since[b]
                assert texts[t] == shifted(table[since[b] - 1], start - 1)
            first[b] += lengths[b]
        assert isinstance(state, TreeState)
        assert state.length.tolist() == since
