"""Trees that come with the call: any binary tree, against its merges done one by one.

Legend: T time, B batch, I input, H hidden.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import treering as tr
from treering._errors import UserError
from treering._types import State, map_tensors
from treering.dispatch.choice import use_kernels
from treering.layers import Recurrent
from treering.schedules.tree import TreeState

from .symbolic import BracketCell, brackets, run, tokens

I, H = 2, 3  # noqa: E741  (the letters of the formulas)
GIVEN = tr.Tree("given")

Node = Any
"""A tree over tokens 1..n: None for one token, else a pair of trees."""

trees: st.SearchStrategy[Node] = st.recursive(
    st.none(), lambda inner: st.tuples(inner, inner), max_leaves=20
)


def size(tree: Node) -> int:
    return 1 if tree is None else size(tree[0]) + size(tree[1])


def depths(tree: Node, depth: int = 0) -> Iterator[int]:
    """Of the lowest node that spans each boundary, from the first to the last."""
    if tree is not None:
        yield from depths(tree[0], depth + 1)
        yield depth
        yield from depths(tree[1], depth + 1)


def ranks_of(several: list[Node], unread: float = 0.0) -> tuple[Tensor, Tensor]:
    """Ranks (T, B) and lengths (B,) of a batch; what nobody may read is `unread`."""
    lengths = torch.tensor([size(tree) for tree in several])
    ranks = torch.full((int(lengths.max()), len(several)), unread, dtype=torch.float64)
    for b, tree in enumerate(several):
        ranks[: lengths[b] - 1, b] = -torch.tensor(list(depths(tree)), dtype=torch.float64)
    return ranks, lengths


def text_of(tree: Node, first: int = 1) -> str:
    if tree is None:
        return str(first)
    return f"({text_of(tree[0], first)} {text_of(tree[1], first + size(tree[0]))})"


def parsed(text: str) -> Node:
    """The tree of a bracket as `BracketCell` writes it."""
    stack: list[Node] = []
    for part in text.replace("(", " ( ").replace(")", " ) ").split():
        if part == ")":
            right, left = stack.pop(), stack.pop()
            stack.append((left, right))
        elif part != "(":
            stack.append(None)
    return stack[0]


def left_comb(n: int) -> Node:
    return None if n == 1 else (left_comb(n - 1), None)


def right_comb(n: int) -> Node:
    return None if n == 1 else (None, right_comb(n - 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(trees, min_size=1, max_size=4), st.sampled_from([0.0, 99.0, math.inf]))
def test_every_sequence_has_its_own_tree(several: list[Node], unread: float):
    ranks, lengths = ranks_of(several, unread)
    cell, (T, B) = BracketCell(), ranks.shape
    wanted = [[text_of(tree)] for tree in several]
    last = run(cell, tokens(T, B), GIVEN, lengths=lengths, ranks=ranks, outputs="last")
    assert cell.read(last.outputs) == wanted
    every = run(cell, tokens(T, B), GIVEN, lengths=lengths, ranks=ranks)
    texts = cell.read(every.outputs)
    assert [[row[n - 1]] for row, n in zip(texts, lengths.tolist(), strict=True)] == wanted
    for ran in (last, every):
        assert isinstance(ran.state, TreeState)
        assert cell.read(ran.state.last.h) == cell.read(ran.state.blocks.h[:, 0]) == wanted
        assert ran.state.blocks.h.shape == (B, 1, 1)
        assert torch.equal(ran.state.length, lengths)


def test_outputs_before_the_end_fold_the_blocks_so_far():
    cell = BracketCell()
    ranks, _ = ranks_of([right_comb(4)])
    texts = cell.read(run(cell, tokens(4), GIVEN, ranks=ranks).outputs)[0]
    assert texts == ["1", "(1 2)", "((1 2) 3)", "(1 (2 (3 4)))"]


@pytest.mark.parametrize("n", [*range(1, 20), 64, 65])
@pytest.mark.parametrize("bracket", ["balanced", "left"])
def test_known_brackets_given_as_trees(n: int, bracket: Any):
    """At every token, not at the last one alone."""
    tree = tr.Tree(bracket)
    ranks, _ = ranks_of([parsed(brackets(n, tree)[-1])])
    cell = BracketCell()
    assert cell.read(run(cell, tokens(n), GIVEN, ranks=ranks).outputs)[0] == brackets(n, tree)


def test_only_the_order_of_ranks_counts():
    several = [left_comb(9), right_comb(7), ((None, (None, None)), (None, None))]
    ranks, lengths = ranks_of(several)
    cell = BracketCell()
    for given_ranks in (ranks.long(), ranks.short(), 7 * ranks - 3, ranks.exp().float()):
        ran = run(cell, tokens(9, 3), GIVEN, lengths=lengths, ranks=given_ranks, outputs="last")
        assert cell.read(ran.outputs) == [[text_of(tree)] for tree in several]


def test_of_equal_neighbours_the_later_one_merges_first():
    cell = BracketCell()
    ran = run(cell, tokens(4), GIVEN, ranks=torch.zeros(4, 1), outputs="last")
    assert cell.read(ran.outputs) == [["(1 (2 (3 4)))"]]


def merged(layer: Recurrent, weights: dict[str, Tensor], leaves: State, tree: Node) -> State:
    """The tree's merges one by one: leaves (n, H) to the root's state (1, H)."""
    cell: Any = layer.cell
    if tree is None:
        return leaves
    n = size(tree[0])
    left, right = (
        merged(layer, weights, map_tensors(lambda f, part=part: f[part], leaves), side)
        for side, part in zip(tree, (slice(None, n), slice(n, None)), strict=True)
    )
    return cell.merge(weights, left, right)


def build(name: str = "pr-lstm", dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    torch.manual_seed(1)
    options = {"schedule": GIVEN, **options}
    return tr.layers.get(name)(I, H, dtype=dtype, **options)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(trees, min_size=1, max_size=3),
    st.sampled_from(["pr-lstm", "pr-rnn"]),
    st.sampled_from([("reference", torch.float64), ("auto", torch.float32)]),
)
def test_numbers_and_gradients_are_the_recursion_s(
    several: list[Node], name: str, run_by: tuple[str, torch.dtype]
):
    kernels, dtype = run_by
    layer = build(name, dtype)
    ranks, lengths = ranks_of(several, unread=99.0)
    x = torch.randn(*ranks.shape, I, dtype=dtype, requires_grad=True)
    inputs = [x, *layer.parameters()]
    weights, cell = layer.weights(0), layer.cell
    leaves = [layer.cell.leaf(weights, x[:n, b]) for b, n in enumerate(lengths.tolist())]  # pyright: ignore[reportAttributeAccessIssue]
    pairs = zip(leaves, several, strict=True)
    wanted = torch.cat([cell.output(merged(layer, weights, *pair)) for pair in pairs])

    def slopes_of(y: Tensor) -> tuple[Tensor, ...]:
        # A batch of single tokens merges nothing.
        known: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(y.sin().sum(), inputs, **known)

    with use_kernels(kernels):
        last = layer.reduce(x, lengths, ranks=ranks)
        every, state = layer(x, lengths=lengths, ranks=ranks)
    at_end = every[lengths - 1, torch.arange(len(several))]
    for found in (last, at_end, cell.output(map_tensors(lambda f: f.squeeze(0), state.last))):
        torch.testing.assert_close(found, wanted)
        for slope, expected in zip(slopes_of(found), slopes_of(wanted), strict=True):
            torch.testing.assert_close(slope, expected)


def test_the_kernel_reads_every_call_s_ranks():
    """Programs are remembered where sizes alone decide; here they do not."""
    layer = build(dtype=torch.float32)
    x = torch.randn(20, 2, I)
    for shape in (left_comb, right_comb):
        ranks, _ = ranks_of([shape(20)] * 2)
        ran = tr.unroll(layer.cell, layer.weights(0), x, schedule=GIVEN, ranks=ranks)
        told = str(tr.explain(layer, x, ranks=ranks))
        assert told == ran.ran
        assert told.startswith("Tree(bracket='given', seed=0): native-pr-lstm (")
        with use_kernels("reference"):
            torch.testing.assert_close(ran.outputs, layer(x, ranks=ranks)[0])


def test_equal_blocks_are_merged_once_along_the_trees_given():
    layer = build(dtype=torch.float32)
    x = torch.eye(I)[torch.randint(I, (16, 32))]
    ranks, _ = ranks_of([left_comb(16)] * 32)
    assert "equal blocks merged once" in str(tr.explain(layer, x, ranks=ranks))
    found = layer(x, ranks=ranks)[0]
    with use_kernels("reference"):
        torch.testing.assert_close(found, layer(x, ranks=ranks)[0])


def test_layouts_agree():
    several = [right_comb(5), ((None, None), None)]
    ranks, lengths = ranks_of(several)
    layer, first = build(), build(batch_first=True)
    x = torch.randn(5, 2, I, dtype=torch.float64)
    y, state, inner = layer(x, lengths=lengths, ranks=ranks, return_states=True)
    torch.testing.assert_close(inner.state.h[0], y)
    z, _ = first(x.transpose(0, 1), lengths=lengths, ranks=ranks.t())
    assert torch.equal(z.transpose(0, 1), y)
    last = layer.reduce(x, lengths, ranks=ranks)
    torch.testing.assert_close(first.reduce(x.transpose(0, 1), lengths, ranks=ranks.t()), last)
    alone, _ = layer(x[:3, 1], ranks=ranks[:3, 1])
    torch.testing.assert_close(alone, y[:3, 1])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    again, packed_state = layer(packed, ranks=ranks)
    torch.testing.assert_close(packed_state.last.h, state.last.h)
    wanted = pack_padded_sequence(y, lengths, enforce_sorted=False)
    torch.testing.assert_close(again.data, wanted.data)
    torch.testing.assert_close(layer.reduce(packed, ranks=ranks), last)


def test_an_empty_batch():
    y, state = build()(torch.zeros(4, 0, I, dtype=torch.float64), ranks=torch.zeros(4, 0))
    assert y.shape == (4, 0, H)
    assert state.last.h.shape == (1, 0, H)


def test_compiled_whole():
    layer = build()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, I, dtype=torch.float64)
    for several in ([left_comb(5)] * 2, [right_comb(5), left_comb(3)]):
        ranks, lengths = ranks_of(several)
        torch.testing.assert_close(
            compiled(x, lengths=lengths, ranks=ranks)[0], layer(x, lengths=lengths, ranks=ranks)[0]
        )
    with pytest.raises(UserError, match="ranks has NaN"):
        compiled(x, lengths=lengths, ranks=ranks / 0)


X = torch.zeros(5, 2, I, dtype=torch.float64)
RANKS = torch.zeros(5, 2)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda layer: layer(X), "a tree that comes with every call; pass it as ranks"),
        (lambda layer: layer.reduce(X), "a tree that comes with every call"),
        (lambda layer: layer(X, ranks=RANKS.t()), r"numbers \(5, 2\), .* got .*\(2, 5\)"),
        (lambda layer: layer(X, ranks=RANKS > 0), "tensor of numbers .* got torch.bool"),
        (lambda layer: layer(X, ranks=[0] * 5), "tensor of numbers .* got list"),
        (lambda layer: layer(X, ranks=RANKS / 0), "ranks has NaN"),
        (lambda layer: layer(X, layer(X, ranks=RANKS)[1], ranks=RANKS), "go on with a state"),
        (lambda layer: layer(X, reset=RANKS > 0, ranks=RANKS), "reset cannot be used under"),
        (lambda layer: layer.step(X[0]), "cannot step: its tree is over the whole sequence"),
        (lambda layer: build(schedule=None)(X, ranks=RANKS), "has an order of its own"),
        (lambda layer: tr.LSTM(I, H).double()(X, ranks=RANKS), "has an order of its own"),
        (lambda layer: build(num_layers=2), "num_layers=2 cannot be used under"),
        (lambda layer: build(bidirectional=True), "bidirectional=True cannot be used under"),
        (lambda layer: tr.Reordered(layer), "over the tokens as they stand"),
        (lambda layer: tr.Tree("given", group="world"), "cannot be split over ranks"),
        (lambda layer: tr.Tree("given", random_in_training=True), "cannot be drawn as well"),
        (
            lambda layer: torch.export.export(layer, (X,), {"ranks": RANKS}),
            "cannot be exported: which states are merged depends on the values",
        ),
    ],
)
def test_what_a_given_tree_cannot_do(call: Callable[[Recurrent], Any], reason: str):
    with pytest.raises(UserError, match=reason):
        call(build())
