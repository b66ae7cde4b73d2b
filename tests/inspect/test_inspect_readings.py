"""What is read and merged: brackets spelled out, the last node the layer's own state."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import treering as tr
from treering.inspect.gradients import input_gradients
from treering.inspect.readings import readings
from treering.inspect.record import Reading
from treering.inspect.subject import steps_of
from treering.report.inspection_readings import bracketed
from treering.tasks import Batch, RaggedBatch

Make = Callable[..., Any]
WORDS = "abcdefghijklmnopqr"


def stream(length: int) -> Batch:
    """The tokens 0, 1, 2, ... for a language model, which adds no empty token."""
    inputs = torch.arange(length).unsqueeze(0)
    return Batch(inputs, inputs, torch.ones_like(inputs, dtype=torch.bool))


def read(length: int, schedule: tr.Tree | None = None) -> tuple[Any, Batch, Reading]:
    layer = tr.PRLSTM(5, 4, batch_first=True, schedule=schedule)
    model, batch = tr.models.LanguageModel(layer, 18, 5).eval(), stream(length)
    (found,) = readings(model, batch, WORDS)
    return model, batch, found


BRACKETS = [
    (None, 1, "a"),
    (None, 2, "(a b)"),
    (None, 3, "((a b) c)"),
    (None, 4, "((a b) (c d))"),
    (None, 7, "((((a b) (c d)) (e f)) g)"),
    (None, 11, "(((((a b) (c d)) ((e f) (g h))) (i j)) k)"),
    (tr.Tree("left"), 5, "((((a b) c) d) e)"),
]


@pytest.mark.parametrize(("schedule", "length", "expected"), BRACKETS)
def test_brackets(schedule: tr.Tree | None, length: int, expected: str) -> None:
    _, _, found = read(length, schedule)
    assert found.bracket == ("balanced" if schedule is None else schedule.bracket)
    assert bracketed(found) == expected
    assert len(found.nodes) == 2 * length - 1


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 12, 17])
@pytest.mark.parametrize(
    "schedule",
    [None, tr.Tree("left"), tr.Tree("random", seed=1), tr.Tree("random", seed=5)],
    ids=str,
)
def test_nodes_are_what_the_layer_computes(schedule: tr.Tree | None, length: int) -> None:
    model, batch, found = read(length, schedule)
    x = model.embedding(batch.inputs)
    assert found.nodes[-1].norm == pytest.approx(model.layer.reduce(x).norm().item(), rel=1e-3)
    assert found.nodes[-1].size == length
    leaves, weights = found.nodes[:length], model.layer.weights(0)
    h = model.layer.cell.leaf(weights, x[0]).h
    assert [one.norm for one in leaves] == pytest.approx(h.norm(dim=-1).tolist(), rel=1e-3)
    assert [one.change for one in leaves] == [one.norm for one in leaves]
    for node in found.nodes[length:]:
        assert node.left is not None
        assert node.right is not None
        left, right = found.nodes[node.left], found.nodes[node.right]
        assert (node.start, node.size) == (left.start, left.size + right.size)
        assert right.start == left.start + left.size
        if left.size == right.size == 1:
            a, b = (model.layer.cell.leaf(weights, x[:, n.start]) for n in (left, right))
            merged = model.layer.cell.merge(weights, a, b)
            assert node.norm == pytest.approx(merged.h.norm().item(), rel=1e-3)
            assert node.change == pytest.approx((merged.h - a.h).norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["pr-lstm", "lstm", "min-gru"])
def test_the_empty_token_and_both_directions(name: str, model_of: Make) -> None:
    model = model_of("transducer", name, bidirectional=True, num_layers=2)
    batch = tr.tasks.get("cycle_navigation").sample(1, 4)
    forward, backward = readings(model, batch, "-0+~")
    assert forward.tokens == backward.tokens
    assert forward.tokens[-1] == "~"
    assert (forward.layer, backward.layer) == ("layer 1 forward", "layer 1 backward")
    assert (forward.order, backward.order) == ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0))
    x = F.one_hot(torch.cat((batch.inputs, torch.tensor([[3]])), 1), 4).double()
    h = model.layer(x, return_states=True)[2].state[0]
    assert forward.nodes[-1].norm == pytest.approx(h[0, 0, -1].norm().item(), rel=1e-3)
    assert backward.nodes[-1].norm == pytest.approx(h[1, 0, 0].norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["gru", "pr-rnn"])
def test_tree_order_reads_the_centre_first(name: str, model_of: Make, texts: RaggedBatch) -> None:
    model = model_of("classifier", name, order=True)
    found = readings(model, texts, WORDS)
    x = model.embedding(texts.inputs)
    for row, (one, length) in enumerate(zip(found, texts.lengths.tolist(), strict=True)):
        assert one.order == tuple(tr.orders.tree_order(length).tolist())
        assert one.tokens == tuple(WORDS[i] for i in texts.inputs[row, :length].tolist())
        assert one.bracket == ("balanced" if name == "pr-rnn" else None)
        last = model.layer.reduce(x[[row], :length])
        assert one.nodes[-1].norm == pytest.approx(last.norm().item(), rel=1e-3)


def test_trees_that_are_given_are_drawn(model_of: Make, texts: RaggedBatch) -> None:
    """Of each text its own; what a text's tree has beyond the text is not read."""
    model = model_of("classifier", "pr-lstm", schedule=tr.Tree("given"))
    trees = texts._replace(ranks=torch.tensor([[-3, -1, -2, -4, 0, -5, 9]] * 6))
    found = readings(model, trees, WORDS)
    wanted = {
        1: "a",
        2: "(a b)",
        3: "((a b) c)",
        5: "((a b) (c (d e)))",
        7: "(((a b) (c (d e))) (f g))",
    }
    letters = [one.model_copy(update={"tokens": tuple(WORDS[: len(one.tokens)])}) for one in found]
    for one, length in zip(letters, texts.lengths.tolist(), strict=True):
        assert one.bracket == "given"
        assert one.tokens == tuple(WORDS[:length])
        assert bracketed(one) == wanted[length]
    vectors = model.vectors(trees.inputs, trees.lengths, trees.ranks)
    for one, vector in zip(found, vectors, strict=True):
        assert one.nodes[-1].norm == pytest.approx(vector.norm().item(), rel=1e-3)
    steps = steps_of(model, trees)
    assert steps.inner.state[0].shape == (1, 6, 7, 6)
    (gradient,) = input_gradients(model, trees)
    assert gradient.curve.median[0] > 0


def test_a_loop_tells_how_far_each_token_moves_the_state(
    model_of: Make, texts: RaggedBatch
) -> None:
    model = model_of("classifier", "lstm")
    found = readings(model, texts, WORDS)[3]
    h = model.layer(model.embedding(texts.inputs[[3], :5]))[0][0]
    before = torch.zeros(6)
    for node, after in zip(found.nodes, h, strict=True):
        assert node.norm == pytest.approx(after.norm().item(), rel=1e-3)
        assert node.change == pytest.approx((after - before).norm().item(), rel=1e-3)
        assert (node.left, node.right) == (None, None)
        before = after
    assert [node.size for node in found.nodes] == [1, 2, 3, 4, 5]
    assert found.bracket is None
