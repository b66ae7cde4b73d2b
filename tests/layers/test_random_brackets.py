"""Brackets drawn in training, and the input hooks of a layer.

Legend: T time, B batch, I input, H hidden.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import treering as tr
from treering._errors import UserError
from treering.layers import Recurrent
from treering.schedules.tree.shift_reduce import program, random_ranks

I, H, T, B = 2, 3, 20, 4  # noqa: E741  (the letters of the formulas)
SCHEDULE = tr.Tree(random_in_training=True)


def build(**options: Any) -> Recurrent:
    torch.manual_seed(1)
    return tr.PRLSTM(I, H, schedule=SCHEDULE, dtype=torch.float64, **options)


def under(layer: Recurrent, schedule: tr.Tree) -> Recurrent:
    """The same weights under another schedule."""
    other = tr.PRLSTM(I, H, schedule=schedule, dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    return other


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64)


def test_in_training_the_bracket_is_the_one_that_torchs_generator_draws(x: Tensor):
    layer, found = build(), []
    for seed in (5, 6):
        torch.manual_seed(seed)
        drawn = int(torch.randint(2**62, ()))
        torch.manual_seed(seed)
        y, _ = layer(x)
        torch.testing.assert_close(y, under(layer, tr.Tree("random", seed=drawn))(x)[0])
        torch.manual_seed(seed)
        torch.testing.assert_close(layer.reduce(x), y[-1])
        found.append(y)
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("bracket", ["balanced", "left"])
def test_in_evaluation_the_bracket_is_the_one_given_and_nothing_is_drawn(x: Tensor, bracket: Any):
    layer = under(build(), tr.Tree(bracket, random_in_training=True)).eval()
    fixed = under(layer, tr.Tree(bracket))
    before = torch.get_rng_state()
    y, state = layer(x)
    torch.testing.assert_close(y, fixed(x)[0])
    for t in range(2):
        y_t, state = layer.step(x[t], state)
        assert y_t.shape == (B, H)
    assert torch.equal(torch.get_rng_state(), before)


def test_lengths_and_gradients(x: Tensor):
    layer, lengths = build(), torch.tensor([T, 1, 7, 13])
    torch.manual_seed(5)
    drawn = int(torch.randint(2**62, ()))
    torch.manual_seed(5)
    layer(x, lengths=lengths)[0].square().sum().backward()
    fixed = under(layer, tr.Tree("random", seed=drawn))
    fixed(x, lengths=lengths)[0].square().sum().backward()
    for one, other in zip(layer.parameters(), fixed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_state_cannot_be_carried_on_in_training(x: Tensor):
    layer = build()
    _, state = layer(x)
    with pytest.raises(UserError, match="cannot go on with a state; give whole sequences"):
        layer(x, state)
    with pytest.raises(UserError, match="cannot go on with a state"):
        layer.step(x[0], state)


def test_not_over_ranks():
    with pytest.raises(UserError, match="leave random_in_training or group out"):
        tr.Tree(group="world", random_in_training=True)


def test_of_a_share_of_calls_the_others_are_read_under_the_bracket_itself(x: Tensor):
    layer = under(build(), tr.Tree(random_in_training=0.25, block=2))
    balanced = under(layer, tr.Tree())(x)[0]
    torch.manual_seed(3)
    same = sum(torch.allclose(layer(x)[0], balanced) for _ in range(200))
    # 150 of 200 on average, with a standard deviation of 6.
    assert 120 < same < 180


@pytest.mark.parametrize("block", [1, 2, 4, 8, 64])
def test_random_trees_stand_on_balanced_blocks(block: int):
    x = torch.randn(40, B, I, dtype=torch.float64)
    layer = under(build(), tr.Tree("random", seed=4, block=block))
    balanced = under(layer, tr.Tree())
    y = layer(x)[0]
    torch.testing.assert_close(y[:block], balanced(x[:block])[0])
    # Within one block nothing is random.
    assert torch.allclose(y, balanced(x)[0]) == (block > len(x))
    # Pieces of a sequence are read under the tree of the whole.
    head, state = layer(x[:7])
    tail, _ = layer(x[7:], state)
    torch.testing.assert_close(torch.cat((head, tail)), y)


def test_a_random_tree_over_pairs_merges_pairs_first():
    for seed in range(5):
        merges = program(random_ranks(seed, 2), 0, 8).merges
        # Leaves are nodes 0 to 7.
        assert {pair for pair in merges if max(pair) < 8} == {(0, 1), (2, 3), (4, 5), (6, 7)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"random_in_training": 1.5}, "random_in_training = 1.5 is neither True or False nor"),
        ({"random_in_training": True, "block": 3}, "block = 3 is no power of two"),
        ({"bracket": "random", "block": 0}, "block = 0 is no power of two"),
        ({"bracket": "random", "block": 2.0}, "block = 2.0 is no power of two"),
        ({"block": 2}, "block = 2 is what random trees stand on, and 'balanced' has none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: Any, text: str):
    with pytest.raises(UserError, match=text):
        tr.Tree(**options)


def test_it_is_explained(x: Tensor):
    varied = tr.Tree(random_in_training=0.5, block=2)
    assert str(varied) == "Tree(bracket='balanced', seed=0, random_in_training=0.5, block=2)"
    text = "Tree(bracket='balanced', seed=0, random_in_training=True)"
    assert str(SCHEDULE) == text
    assert str(tr.explain(build().eval(), x)).startswith(f"{text}: ")
    (line,) = tr.explain(build(), x).lines
    assert line.startswith("Tree(bracket='random', seed=")
    assert "random_in_training=True" in line


class TestInputHooks:
    def test_every_call_of_forward_and_reduce(self, x: Tensor):
        layer = tr.LSTM(I, H, batch_first=True, dtype=torch.float64)
        seen: list[tuple[Tensor, Tensor | None]] = []
        handle = layer.register_input_hook(lambda *given: seen.append(given))
        lengths = torch.tensor([T, 3, 2, 1])
        turned = x.transpose(0, 1)
        layer(turned)
        layer(turned, lengths=lengths)
        layer.reduce(turned, lengths)
        layer(pack_padded_sequence(x, lengths))
        layer(x[:, 0])
        layer.step(x[0])
        assert len(seen) == 5
        for given, wanted in zip(seen, (None, lengths, lengths, lengths, None), strict=True):
            if wanted is None:
                assert given[1] is None
            else:
                assert given[1] is not None
                assert torch.equal(given[1], wanted)
        for given, _ in seen[:3]:
            assert torch.equal(given, x)
        assert torch.equal(seen[3][0][:2, 2], x[:2, 2])
        assert torch.equal(seen[4][0], x[:, :1])
        handle.remove()
        layer(turned)
        assert len(seen) == 5
