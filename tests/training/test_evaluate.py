from dataclasses import replace

import pytest
import torch
from torch import nn

from treering._errors import UserError
from treering.records import LengthScore
from treering.tasks.abstract import NOT_ASKED, Batch, Sizes, Split
from treering.training import LengthGrid, evaluate_lengths, evaluate_split, fit, score
from treering.training.evaluate import accuracy, by_size, cross_entropy, evaluate_rows


class Oracle(nn.Module):
    """Right on a row exactly if its first symbol is 0."""

    def __init__(self, answer, classes):
        super().__init__()
        self.answer = answer
        self.classes = classes
        self.seen = []

    def forward(self, inputs, lengths=None, output_length=1):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(inputs)
        wrong = (inputs[:, :1] != 0).long()
        return nn.functional.one_hot((self.answer(inputs) + wrong) % self.classes, self.classes)


def test_accuracy_counts_the_mask_alone():
    targets = torch.tensor([[0, 1, 1], [1, 0, 0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    guess = torch.tensor([[0, 0, 1], [1, 1, 0]])
    batch = Batch(targets, targets, mask)
    assert accuracy(nn.functional.one_hot(guess, 2), batch).item() == 2 / 3


def test_where_nothing_is_asked_nothing_is_learnt():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    targets = torch.tensor([[NOT_ASKED, 1, NOT_ASKED], [3, NOT_ASKED, 0]])
    loss = cross_entropy(logits, targets)
    asked = targets != NOT_ASKED
    chances = logits.softmax(-1)[asked]
    expected = -chances[torch.arange(3), targets[asked]].log().mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~asked] == 0).all()
    assert (logits.grad[asked] != 0).all()


def test_accuracy_at_a_length_is_the_mean_over_its_samples(reverse):
    oracle = Oracle(reverse.answer, 3)
    (entry,) = evaluate_lengths(oracle, reverse, [5], samples=10, batch=4)
    inputs = torch.cat(oracle.seen)
    assert [len(seen) for seen in oracle.seen] == [4, 4, 2]
    right = (inputs[:, 0] == 0).double().mean().item()
    assert 0 < right < 1
    assert entry.accuracy == pytest.approx(right, abs=1e-15)
    assert (entry.length, entry.samples) == (5, 10)


def test_samples_of_a_length_do_not_depend_on_the_other_lengths(parity):
    alone, among = Oracle(parity.answer, 2), Oracle(parity.answer, 2)
    evaluate_lengths(alone, parity, [6], samples=4)
    evaluate_lengths(among, parity, [5, 6, 7], samples=4)
    assert torch.equal(alone.seen[0], among.seen[1])
    other = Oracle(parity.answer, 2)
    evaluate_lengths(other, parity, [6], samples=4, purpose="validation")
    assert not torch.equal(alone.seen[0], other.seen[0])


def test_a_split_is_counted_once_per_row(dataset):
    task = dataset()
    oracle = Oracle(lambda inputs: inputs[:, :1] % 3, 3)
    tokens, lengths, labels, _ = task.test
    tokens = tokens.clone()
    tokens[::2, 0] = 0
    split = Split(tokens, lengths, tokens[:, 0] % 3)
    right = (tokens[:, 0] == 0).double().mean().item()
    assert evaluate_split(oracle, task, split, batch=4) == right
    assert sum(len(seen) for seen in oracle.seen) == len(labels)


def test_an_empty_split_is_refused(dataset):
    task = dataset()
    empty = Split(*(tensor[:0] for tensor in task.test if tensor is not None))
    with pytest.raises(UserError, match="words: a split without rows cannot be evaluated"):
        evaluate_split(nn.Linear(1, 1), task, empty)


def test_modes_and_random_state_come_back(parity, tagger):
    model = tagger(parity, dropout=0.5)
    model.train()
    model.head.eval()
    state = torch.get_rng_state()
    modes = [module.training for module in model.modules()]

    class Noisy(nn.Module):
        def forward(self, inputs, lengths=None, output_length=1):
            torch.rand(3)
            return model(inputs, lengths, output_length)

    evaluate_lengths(Noisy(), parity, [3], samples=2)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)

    def stop(length):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        evaluate_lengths(model, parity, [3], samples=2, before_batch=stop)
    assert [module.training for module in model.modules()] == modes


def test_what_a_model_keeps_from_evaluation_can_be_trained_with(parity):
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.kept = None

        def forward(self, inputs, lengths=None, output_length=1):
            if self.kept is None:
                self.kept = torch.ones(2)
            return (self.weight * self.kept).expand(len(inputs), output_length, 2)

    model = Caching()
    evaluate_lengths(model, parity, [3], samples=2)
    model(torch.zeros(2, 3, dtype=torch.int64)).sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [2.0, 2.0]


def test_the_score_is_the_mean_over_the_grid_without_the_training_lengths():
    grid = LengthGrid(start=41, stop=81, step=20)
    entries = [
        LengthScore(length, right, 512)
        for length, right in [(1, 1.0), (40, 1.0), (41, 0.9), (61, 0.6), (81, 0.3)]
    ]
    assert score(entries, grid) == pytest.approx(0.6, abs=1e-15)
    with pytest.raises(ValueError, match="needs length 81, which was not evaluated"):
        score(entries[:-1], grid)


def test_a_model_of_another_shape_is_refused(parity):
    class Flat(nn.Module):
        def forward(self, inputs, lengths=None, output_length=1):
            return torch.zeros(len(inputs), 2)

    with pytest.raises(UserError, match=r"Flat gave logits of shape \(2, 2\) for 2 sequences"):
        evaluate_lengths(Flat(), parity, [3], samples=2)


def test_rows_are_judged_one_by_one_in_whatever_order(dataset, tagger):
    task = dataset()
    model = tagger(task)
    right, counted = evaluate_rows(model, task, task.test, batch=3)
    assert counted.tolist() == [1] * 10
    assert int(right.sum()) / 10 == evaluate_split(model, task, task.test)
    sorted_by_length = evaluate_rows(model, task, task.test, batch=4, by_length=True)
    assert torch.equal(sorted_by_length[0], right)


def test_accuracy_by_size():
    right, sizes = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([7, 0, 7, 0, 3])
    assert by_size(right, torch.ones_like(right), sizes) == [(0, 0.5, 2), (3, 0.0, 1), (7, 1.0, 2)]


def test_a_test_with_sizes_is_scored_at_each(tmp_path, dataset, tagger, small, blank):
    sizes = Sizes("operators", (0, 3), torch.tensor([5, 0, 5, 9, 0, 5, 5, 9, 0, 0]))
    task = replace(dataset(), sizes=sizes)
    evaluation = fit(
        tagger(task), task, small(epochs=1), folder=tmp_path, seed=0, record=blank(task)
    ).evaluation
    assert evaluation is not None
    assert [(at.length, at.samples) for at in evaluation.by_length] == [(0, 4), (5, 4), (9, 2)]
    right = sum(at.accuracy * at.samples for at in evaluation.by_length)
    assert right / 10 == pytest.approx(evaluation.score)
