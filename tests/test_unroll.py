"""The one door: what `unroll` returns, and every check with its message.

Legend: T time, B batch, I input.
"""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import treering as tr
from treering._errors import UserError
from treering._types import Hidden, HiddenCell, Run
from treering.cells.abstract import Cell
from treering.cells.gru import GRUCell
from treering.cells.lstm import LSTMCell
from treering.cells.min_gru import MinGRUCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.schedules.tree import TreeState

T, B, I, H = 5, 3, 2, 4  # noqa: E741  (the letters of the legend)
CELLS = [GRUCell(H), LSTMCell(H), MinGRUCell(H), PRLSTMCell(H)]
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)


def weights_of(cell: Cell) -> dict[str, Tensor]:
    weights = {name: torch.zeros(spec.shape) for name, spec in cell.parameters(I).items()}
    cell.initialise(weights)
    return weights


def raises(text: str) -> Any:
    return pytest.raises(UserError, match=re.escape(text))


@every_cell
def test_a_run(cell: Cell):
    x = torch.randn(T, B, I)
    ran = tr.unroll(cell, weights_of(cell), x)
    assert isinstance(ran, Run)
    assert ran.outputs.shape == (T, B, H)
    last = ran.state.last if isinstance(ran.state, TreeState) else ran.state
    torch.testing.assert_close(last[0], ran.outputs[-1])
    schedule = {GRUCell: "Sequential", LSTMCell: "Sequential", MinGRUCell: "Scan"}
    assert ran.ran.startswith(schedule.get(type(cell), "Tree(bracket='balanced'"))


@every_cell
def test_a_layer_is_its_cell_unrolled(cell: Cell):
    weights, x = weights_of(cell), torch.randn(T, B, I)
    layer = next(c for n in tr.layers.names() if (c := tr.layers.get(n)).cell_type is type(cell))
    module = layer(I, H)
    module.load_state_dict({f"{name}_l0": weight for name, weight in weights.items()})
    assert torch.equal(module(x)[0], tr.unroll(cell, weights, x).outputs)


@every_cell
def test_lengths_zero_the_outputs_behind(cell: Cell):
    x = torch.randn(T, B, I)
    x[2:, 1] = torch.nan
    ran = tr.unroll(cell, weights_of(cell), x, lengths=torch.tensor([5, 2, 3]))
    assert ran.outputs.isfinite().all()
    assert not ran.outputs[2:, 1].any()
    assert ran.outputs[:2, 1].any()


@every_cell
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_lengths_of_any_integer_type(cell: Cell, dtype: torch.dtype):
    weights, x = weights_of(cell), torch.randn(T, B, I)
    one = tr.unroll(cell, weights, x, lengths=torch.tensor([5, 2, 3], dtype=dtype))
    other = tr.unroll(cell, weights, x, lengths=torch.tensor([5, 2, 3]))
    assert torch.equal(one.outputs, other.outputs)


@every_cell
def test_lengths_that_are_all_full_change_nothing(cell: Cell):
    weights, x = weights_of(cell), torch.randn(T, B, I)
    one = tr.unroll(cell, weights, x, lengths=torch.full((B,), T))
    assert torch.equal(one.outputs, tr.unroll(cell, weights, x).outputs)


@every_cell
class TestMistakes:
    def test_shape(self, cell: Cell):
        for x in (torch.zeros(T, I), torch.zeros(1, T, B, I)):
            with raises(f"x must be (time, batch, input_size), got {tuple(x.shape)}"):
                tr.unroll(cell, weights_of(cell), x)

    def test_no_time(self, cell: Cell):
        with raises("Expected sequence length to be larger than 0 in RNN"):
            tr.unroll(cell, weights_of(cell), torch.zeros(0, B, I))

    def test_weights(self, cell: Cell):
        weights = weights_of(cell)
        text = f"weights do not fit {type(cell).__name__} and inputs of width"
        with raises(f"{text} 3: expected"):
            tr.unroll(cell, weights, torch.zeros(T, B, 3))
        with raises(f"{text} 2: expected"):
            tr.unroll(cell, weights | {"weight_of_lead": torch.zeros(1)}, torch.zeros(T, B, I))
        weights.popitem()
        with raises(text):
            tr.unroll(cell, weights, torch.zeros(T, B, I))

    def test_outputs(self, cell: Cell):
        with raises("outputs must be 'all' or 'last', got 'first'"):
            tr.unroll(cell, weights_of(cell), torch.zeros(T, B, I), outputs="first")  # pyright: ignore[reportArgumentType]

    def test_schedule(self, cell: Cell):
        for schedule in (tr.Sequential(), tr.Scan(), tr.Tree()):
            if isinstance(cell, schedule.accepts):
                continue
            with raises(f"and {type(cell).__name__} is none; leave schedule out to get"):
                tr.unroll(cell, weights_of(cell), torch.zeros(T, B, I), schedule=schedule)

    @pytest.mark.parametrize(
        ("lengths", "text"),
        [
            ((5, 2, 3), "write torch.tensor([5, 3]) for a batch of two"),
            (torch.ones(B), "lengths must be a tensor of integers"),
            (torch.ones(B, dtype=torch.bool), "lengths must be a tensor of integers"),
            (torch.tensor([5, 2]), "equal to batch_size, but got (2,) (batch_size=3)"),
            (torch.tensor([[5, 2, 3]]), "equal to batch_size, but got (1, 3) (batch_size=3)"),
            (torch.tensor([5, -2, 3]), "an element in 'lengths' that is <= 0 (-2); leave empty"),
            (torch.tensor([5, 2, 7]), "an element 7, but the input has only 5 time steps"),
        ],
        ids=str,
    )
    def test_lengths(self, cell: Cell, lengths: Any, text: str):
        with raises(text):
            tr.unroll(cell, weights_of(cell), torch.zeros(T, B, I), lengths=lengths)

    @pytest.mark.parametrize(
        "reset", [torch.zeros(T, B), torch.zeros(B, T, dtype=torch.bool), [True] * T], ids=str
    )
    def test_reset(self, cell: Cell, reset: Any):
        with raises(f"reset must be a bool tensor ({T}, {B}), one flag per token, got"):
            tr.unroll(cell, weights_of(cell), torch.zeros(T, B, I), reset=reset)

    def test_state(self, cell: Cell):
        weights, x = weights_of(cell), torch.zeros(T, B, I)
        good = tr.unroll(cell, weights, x).state
        for wrong in (
            tr.unroll(cell, weights, x[:, :2]).state,
            tuple(good)[:-1],
            (*good, good[0]),
            (None,) * len(good),
            tuple(map(str, good)),
        ):
            with raises("state"):
                tr.unroll(cell, weights, x, wrong)


def test_states_of_other_cells():
    cell, x = LSTMCell(H), torch.zeros(T, B, I)
    h = torch.zeros(B, H)
    with raises("expected HiddenCell(h (3, 4), c (3, 4)), got Hidden(h (3, 4)) (shapes, dtype and"):
        tr.unroll(cell, weights_of(cell), x, Hidden(h))
    with raises("got HiddenCell(h (3, 4), c (3, 5))"):
        tr.unroll(cell, weights_of(cell), x, HiddenCell(h, torch.zeros(B, 5)))
    tree = PRLSTMCell(H)
    with raises(
        "a tree is the TreeState(blocks, folds, length) that an earlier call returned; got"
    ):
        tr.unroll(tree, weights_of(tree), x, HiddenCell(h, h))


@pytest.mark.parametrize(("tree", "held"), [(tr.Tree(), 3), (tr.Tree("random", seed=1), 2)])
def test_a_tree_state_that_lost_blocks(tree: tr.Tree, held: int):
    cell, x = PRLSTMCell(H), torch.zeros(7, B, I)
    state = tr.unroll(cell, weights_of(cell), x, schedule=tree).state
    assert isinstance(state, TreeState)
    blocks, folds = (HiddenCell(part.h[:, :1], part.c[:, :1]) for part in state[:2])
    with raises(f"{tree} carries {held} blocks after 7 tokens, but the state has room for 1"):
        tr.unroll(cell, weights_of(cell), x, TreeState(blocks, folds, state.length), schedule=tree)
    with raises("the length of a tree's state must not be negative, got -7"):
        wrong = state._replace(length=-state.length)
        tr.unroll(cell, weights_of(cell), x, wrong, schedule=tree)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_any_shapes_lengths_and_resets(data: st.DataObject):
    """Loop or tree or scan: a padded, reset batch is its sequences by themselves."""
    cell = data.draw(st.sampled_from(CELLS))
    T, B, I = (data.draw(st.integers(1, n)) for n in (12, 4, 3))  # noqa: E741
    weights = {n: torch.randn(s.shape).double() for n, s in cell.parameters(I).items()}
    x = torch.randn(T, B, I).double()
    lengths = data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    flags = data.draw(st.lists(st.booleans(), min_size=T * B, max_size=T * B))
    reset = torch.tensor(flags).view(T, B)
    ran = tr.unroll(cell, weights, x, lengths=torch.tensor(lengths), reset=reset)
    for b, n in enumerate(lengths):
        starts = [t for t in range(1, n) if reset[t, b]]
        pieces = [
            tr.unroll(cell, weights, x[begin:end, b : b + 1]).outputs
            for begin, end in zip([0, *starts], [*starts, n], strict=True)
        ]
        torch.testing.assert_close(ran.outputs[:n, b : b + 1], torch.cat(pieces))
