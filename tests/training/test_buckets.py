"""Batches of similar length: every row once an epoch, little padding, the same order again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from treering._errors import UserError
from treering.tasks.abstract import DatasetTask, Split
from treering.training import Settings, evaluate_split
from treering.training.batches import DatasetBatches
from treering.training.settings import completed


def task_of(lengths: list[int]) -> DatasetTask:
    """Rows that say their own number, at every position."""
    longest = max(lengths)
    numbers = torch.arange(len(lengths))
    valid = torch.arange(longest) < torch.tensor(lengths)[:, None]
    tokens = (numbers[:, None] + 1) * valid
    split = Split(tokens, torch.tensor(lengths), torch.zeros_like(numbers))
    return DatasetTask("rows", len(lengths) + 1, ("a",), split, split, split)


def epoch(source: DatasetBatches) -> list[list[int]]:
    assert source.steps_per_epoch is not None
    return [(source.next().inputs[:, 0] - 1).tolist() for _ in range(source.steps_per_epoch)]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=80),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_every_row_once_an_epoch_whatever_the_sizes(lengths, batch, bucket, seed):
    source = DatasetBatches(task_of(lengths), batch, seed, bucket)
    for _ in range(2):
        batches = epoch(source)
        assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
        assert [len(rows) for rows in batches[:-1]] == [batch] * (len(batches) - 1)


@given(st.lists(st.integers(1, 30), min_size=8, max_size=80), st.integers(1, 4))
def test_a_bucket_is_cut_where_its_rows_sorted_by_length_are(lengths, batch):
    """With one bucket for all rows, batches are runs of the sorted lengths."""
    batches = epoch(DatasetBatches(task_of(lengths), batch, 0, len(lengths)))
    found = sorted(sorted(lengths[row] for row in rows) for rows in batches)
    in_order = sorted(lengths)
    wanted = [in_order[start : start + batch] for start in range(0, len(lengths), batch)]
    assert found == sorted(wanted)


def test_batches_come_in_another_order_every_epoch_and_for_every_seed():
    task = task_of([n % 40 + 1 for n in range(400)])
    source = DatasetBatches(task, 10, 0, 8)
    first, second = epoch(source), epoch(source)
    assert first != second
    assert first == epoch(DatasetBatches(task, 10, 0, 8))
    assert first != epoch(DatasetBatches(task, 10, 1, 8))
    longest = [max(task.train.lengths[rows].tolist()) for rows in first]
    assert longest != sorted(longest)


def test_less_is_padding():
    task = task_of(torch.randint(1, 100, (2000,)).tolist())

    def positions(bucket: int | None) -> int:
        source = DatasetBatches(task, 20, 0, bucket)
        return sum(source.next().inputs.numel() for _ in range(100))

    needed = int(task.train.lengths.sum())
    assert positions(20) < 1.15 * needed
    assert positions(None) > 1.7 * needed


@pytest.mark.parametrize("taken", range(12))
def test_a_source_goes_on_anywhere(taken: int):
    task = task_of([n % 9 + 1 for n in range(23)])
    source = DatasetBatches(task, 4, 0, 3)
    for _ in range(taken):
        source.next()
    again = DatasetBatches(task, 4, 5, 3)
    again.load_state_dict(source.state_dict())
    for _ in range(14):
        assert torch.equal(again.next().inputs, source.next().inputs)
        assert (again.epoch, again.at_epoch_end) == (source.epoch, source.at_epoch_end)


def test_evaluation_by_length_gives_the_same_score(dataset, tagger):
    task = dataset()
    model = tagger(task)
    assert evaluate_split(model, task, task.test, batch=3, by_length=True) == evaluate_split(
        model, task, task.test, batch=3
    )


def test_only_rows_of_a_data_set_have_lengths(parity, stream):
    for task in (parity, stream()):
        with pytest.raises(UserError, match="bucket = 3 sorts rows of a data set"):
            completed(Settings(steps=1, bucket=3), task)
