"""What holds for every task with an answer at each symbol, against slow solutions of their own."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from treering import tasks
from treering._errors import UserError
from treering.tasks.abstract import NOT_ASKED
from treering.tasks.tracking.mqar import pairs

NAMES = tasks.all_names()[len(tasks.names()) :]
SIZES = {  # input symbols, classes, level
    "streaming_parity": (2, 2, "group"),
    "word_problem_s3": (6, 6, "group"),
    "word_problem_a5": (60, 60, "group"),
    "word_problem_s5": (120, 120, "group"),
    "mqar": (129, 64, "recall"),
}


def parities(symbols: list[int]) -> list[int]:
    return [symbols[: end + 1].count(1) % 2 for end in range(len(symbols))]


def products(points: int, even: bool) -> Callable[[list[int]], list[int]]:
    """Cards that are moved: what lies at place i goes to place a(i)."""

    def is_even(order: tuple[int, ...]) -> bool:
        # Sorted by exchanging neighbours, counted.
        cards, exchanges = list(order), 0
        for _ in cards:
            for i in range(len(cards) - 1):
                if cards[i] > cards[i + 1]:
                    cards[i], cards[i + 1] = cards[i + 1], cards[i]
                    exchanges += 1
        return exchanges % 2 == 0

    elements = [p for p in sorted(permutations(range(points))) if not even or is_even(p)]

    def solve(symbols: list[int]) -> list[int]:
        cards, answers = list(range(points)), []
        for symbol in symbols:
            moved = cards.copy()
            for place, to in enumerate(elements[symbol]):
                moved[to] = cards[place]
            cards = moved
            answers.append(elements.index(tuple(cards.index(card) for card in range(points))))
        return answers

    return solve


def recalled(symbols: list[int]) -> list[int]:
    memory: dict[int, int] = {}
    answers = []
    for place, symbol in enumerate(symbols):
        if symbol in memory:
            answers.append(memory[symbol])
            continue
        answers.append(NOT_ASKED)
        if 1 <= symbol <= 64:
            memory[symbol] = symbols[place + 1] - 65
    return answers


ORACLES = {
    "streaming_parity": parities,
    "word_problem_s3": products(3, even=False),
    "word_problem_a5": products(5, even=True),
    "word_problem_s5": products(5, even=False),
    "mqar": recalled,
}
every_task = pytest.mark.parametrize("name", NAMES)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_they_follow_the_benchmarks_tasks():
    assert set(NAMES) == set(SIZES) == set(ORACLES)
    assert tasks.all_names()[: len(tasks.names())] == tasks.names()
    for name, (inputs, classes, level) in SIZES.items():
        task = tasks.get(name)
        assert (task.name, task.input_size, task.output_size) == (name, inputs, classes)
        assert (task.level, task.chance, task.reads) == (level, 1 / classes, "along")


@every_task
@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 70), batch=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_samples_agree_with_the_oracle(name: str, length: int, batch: int, seed: int):
    task = tasks.get(name)
    length = max(length, task.shortest)
    inputs, targets, mask = task.sample(batch, length, seeded(seed))
    assert inputs.shape == targets.shape == mask.shape == (batch, length)
    assert task.output_length(length) == length
    assert (inputs.dtype, targets.dtype, mask.dtype) == (torch.int64, torch.int64, torch.bool)
    assert targets.tolist() == [ORACLES[name](row) for row in inputs.tolist()]
    assert torch.equal(mask, targets != NOT_ASKED)
    assert mask.any(1).all()
    assert torch.equal(task.solve(inputs), targets)
    assert torch.equal(task.solve(one_hot(inputs, task.input_size).float()), targets)


@every_task
@pytest.mark.parametrize("length", [257, 1000])
def test_long_inputs_agree_with_the_oracle(name: str, length: int):
    inputs, targets, _ = tasks.get(name).sample(4, length, seeded(length))
    assert targets.tolist() == [ORACLES[name](row) for row in inputs.tolist()]


@every_task
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_answer_hangs_on_a_later_symbol(name: str, data: st.DataObject):
    task = tasks.get(name)
    length = data.draw(st.integers(task.shortest, 40))
    inputs, targets, _ = task.sample(4, length, seeded(length))
    cut = data.draw(st.integers(1, length))
    assert torch.equal(task.answer(inputs[:, :cut])[targets[:, :cut] >= 0],
                       targets[:, :cut][targets[:, :cut] >= 0])  # fmt: skip


@every_task
def test_seed_decides(name: str):
    task = tasks.get(name)
    first, again, other = (task.sample(16, 30, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)


@every_task
def test_text_round_trip(name: str):
    task = tasks.get(name)
    inputs = task.sample(1, 21, seeded(5)).inputs
    assert torch.equal(task.encode(task.decode(inputs[0])), inputs)


@pytest.mark.parametrize(
    ("name", "symbols", "kinds"),
    [("streaming_parity", 2, 2), ("word_problem_s3", 6, 6), ("word_problem_a5", 60, 60)],
)
def test_inputs_and_answers_are_uniform(name: str, symbols: int, kinds: int):
    inputs, targets, _ = tasks.get(name).sample(2000, 9, seeded(7))
    assert_uniform(inputs[:, 4].tolist(), symbols)
    assert_uniform(targets[:, 8].tolist(), kinds)


def assert_uniform(values: list[int], kinds: int):
    counts = Counter(values)
    share = 1 / kinds
    tolerance = 5 * math.sqrt(share * (1 - share) / len(values))
    assert len(counts) == kinds
    assert all(abs(count / len(values) - share) < tolerance for count in counts.values())


class TestPairs:
    @pytest.mark.parametrize(
        ("length", "count"), [(3, 1), (15, 1), (16, 2), (64, 8), (512, 64), (5000, 64)]
    )
    def test_how_many(self, length: int, count: int):
        assert pairs(length) == count

    @pytest.mark.parametrize("length", [3, 8, 24, 65, 530])
    def test_pairs_in_front_and_each_key_once_behind(self, length: int):
        inputs, targets, mask = tasks.get("mqar").sample(20, length, seeded(length))
        count = pairs(length)
        keys, values = inputs[:, : 2 * count : 2], inputs[:, 1 : 2 * count : 2]
        assert ((keys >= 1) & (keys <= 64)).all()
        assert ((values >= 65) & (values <= 128)).all()
        for row in (*keys.tolist(), *values.tolist()):
            assert len(set(row)) == count
        back = inputs[:, 2 * count :]
        assert (mask[:, : 2 * count]).sum() == 0
        assert torch.equal(mask[:, 2 * count :], back > 0)
        for row, wanted in zip(back.tolist(), keys.tolist(), strict=True):
            assert sorted(symbol for symbol in row if symbol) == sorted(wanted)
        assert (targets[mask] < 64).all()

    def test_distances_follow_the_power_law(self):
        """With one pair, the distance is one draw: g^(0.01 - 1) over its sum."""
        inputs = tasks.get("mqar").sample(20_000, 12, seeded(3)).inputs
        weights = [gap ** (0.01 - 1) for gap in range(1, 11)]
        counts = Counter((inputs[:, 2:] > 0).long().argmax(1).tolist())
        for place, weight in enumerate(weights):
            share = weight / sum(weights)
            tolerance = 5 * math.sqrt(share * (1 - share) / 20_000)
            assert abs(counts[place] / 20_000 - share) < tolerance

    def test_keys_and_values_are_uniform(self):
        inputs = tasks.get("mqar").sample(6_000, 17, seeded(4)).inputs
        for place in range(4):
            assert_uniform(inputs[:, place].tolist(), 64)

    @pytest.mark.parametrize(
        "text",
        [
            "k5 v9",  # nothing is asked
            "_ _ _",
            "k5 v9 k3",  # a key that no pair has
            "v9 k5 k5",
            "k5 k5 v9",
            "k5 v9 _ v3 k5",
            "k5 v9 k5 v1 k5",  # a key with two values
            "k5 v9 k3 k5",
            "k5 v9 v3 k5",
        ],
    )
    def test_outside_the_language(self, text: str):
        task = tasks.get("mqar")
        with pytest.raises(UserError, match="not pairs of different keys") as caught:
            task.solve(task.encode(text))
        assert f"row 0 is {text!r}" in str(caught.value)

    def test_a_key_may_be_asked_for_again_and_again(self):
        task = tasks.get("mqar")
        answers = task.solve(task.encode("k63 v0 k0 v63 k0 k0 _ k63")).tolist()
        assert answers == [[NOT_ASKED] * 4 + [63, 63, NOT_ASKED, 0]]
