import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from treering._errors import UserError
from treering.records import PARTS, STEP_PARTS, Record
from treering.tasks.abstract import DatasetTask, RaggedBatch
from treering.training import Curriculum, DivergenceError, LengthGrid, fit, run_id, score
from treering.training.batches import DatasetBatches, GeneratedBatches
from treering.training.evaluate import cross_entropy


def parameters(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_the_loss_is_the_mean_over_batch_and_all_positions():
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    by_hand = -sum(
        logits[row, place].log_softmax(0)[targets[row, place]].item()
        for row in range(4)
        for place in range(3)
    )
    assert cross_entropy(logits, targets).item() == pytest.approx(by_hand / 12, rel=1e-6)
    classification = F.cross_entropy(logits[:, 0], targets[:, 0])
    assert torch.equal(cross_entropy(logits[:, :1], targets[:, :1]), classification)


def test_training_is_adam_on_the_clipped_gradient_of_the_mean_loss(
    tmp_path, reverse, tagger, small, blank
):
    """Against a loop written out with Adam's formulas, in float64."""
    clip, rate, steps = 0.2, 0.01, 6
    settings = small(steps=steps, clip=clip, learning_rate=rate)
    trained, model = tagger(reverse).double(), tagger(reverse).double()
    record = fit(trained, reverse, settings, folder=tmp_path, seed=3, record=blank(reverse))

    source = GeneratedBatches(reverse, settings.curriculum, 4, steps, seed=3)
    weights = list(model.parameters())
    first = [torch.zeros_like(weight) for weight in weights]
    second = [torch.zeros_like(weight) for weight in weights]
    losses, clipped = [], 0
    for step in range(1, steps + 1):
        batch = source.next()
        outputs = batch.targets.shape[1]
        logits = model(batch.inputs, output_length=outputs)
        loss = F.cross_entropy(logits.reshape(-1, 3), batch.targets.reshape(-1))
        gradients = torch.autograd.grad(loss, weights)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        scale = min(1.0, clip / (norm + 1e-6))
        clipped += scale < 1
        losses.append(loss.item())
        with torch.no_grad():
            for weight, gradient, m, v in zip(weights, gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * scale * gradient)
                v.mul_(0.999).add_(0.001 * (scale * gradient) ** 2)
                corrected = (v / (1 - 0.999**step)).sqrt() + 1e-8
                weight -= rate * (m / (1 - 0.9**step)) / corrected

    assert clipped > 0
    assert record.learning[0].step == 5
    assert record.learning[0].loss == pytest.approx(sum(losses[:5]) / 5, rel=1e-12)
    assert record.learning[1].loss == pytest.approx(losses[5], rel=1e-12)
    for mine, theirs in zip(trained.parameters(), weights, strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_without_clipping_large_gradients_are_kept(tmp_path, parity, tagger, small, blank):
    first, second = tagger(parity), tagger(parity)
    for name, model, clip in (("a", first, None), ("b", second, 1e9)):
        settings = small(steps=4, clip=clip)
        fit(model, parity, settings, folder=tmp_path / name, seed=0, record=blank(parity))
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_record_tells_everything(tmp_path, parity, tagger, small, blank, hook):
    settings = small(steps=12, validation_every=6)
    watcher = hook()
    given = blank(parity, seed=0)
    record = fit(
        tagger(parity), parity, settings, folder=tmp_path, seed=5, record=given, progress=watcher
    )
    assert given.status == "running"
    assert given.learning == []
    assert Record.load(tmp_path) == record
    assert (record.status, record.seed) == ("finished", 5)
    assert record.settings == settings.model_dump(mode="json") | {"select": "last"}
    assert [point.step for point in record.learning] == [5, 6, 10, 12]
    assert [point.epoch for point in record.learning] == [None] * 4
    validated = [point.validation_score for point in record.learning]
    assert validated[0] is validated[2] is None
    assert validated[1] is not None

    losses = [loss for _, loss, _ in watcher.steps]
    rights = [right for _, _, right in watcher.steps]
    assert [step for step, _, _ in watcher.steps] == list(range(1, 13))
    assert record.learning[2].loss == pytest.approx(sum(losses[6:10]) / 4, rel=1e-12)
    assert record.learning[3].train_score == pytest.approx(sum(rights[10:]) / 2, rel=1e-12)
    assert (watcher.total, watcher.stopped) == (12, 1)

    evaluation = record.evaluation
    assert evaluation is not None
    assert [entry.length for entry in evaluation.by_length] == [1, 8, 9, 11, 13]
    assert evaluation.score_name == "mean accuracy over lengths 9..13 step 2, 6 samples each"
    assert evaluation.score == score(evaluation.by_length, settings.evaluation)
    assert evaluation.selected == "last step"
    assert evaluation.validation_score == validated[3]
    assert "evaluating length 13 (to 13)" in watcher.messages

    source = GeneratedBatches(parity, settings.curriculum, 4, 12, seed=5)
    assert record.cost.train_tokens == sum(source.next().inputs.numel() for _ in range(12))
    where = record.cost.where
    assert tuple(where) == PARTS
    assert all(seconds > 0 for seconds in where.values())
    assert sum(where.values()) == pytest.approx(record.cost.wall_seconds)
    training = sum(where[part] for part in STEP_PARTS)
    assert record.cost.tokens_per_second == pytest.approx(record.cost.train_tokens / training)
    assert record.cost.peak_memory_bytes > 50 * 2**20


def test_the_curriculum_reaches_the_model(parity, small):
    lengths = small(curriculum=Curriculum(2, 5)).curriculum
    source = GeneratedBatches(parity, lengths, 1, 200, seed=0)
    drawn = [source.next().inputs.shape[1] for _ in range(200)]
    assert set(drawn) == {2, 3, 4, 5}
    growing = Curriculum(1, 10, kind="growing", grow_for=1.0)
    source = GeneratedBatches(parity, growing, 1, 200, seed=0)
    drawn = [source.next().inputs.shape[1] for _ in range(200)]
    assert all(length <= 1 + step * 10 // 200 for step, length in enumerate(drawn))
    assert max(drawn) == 10


def test_an_epoch_is_every_row_once_in_a_new_order(dataset):
    task = dataset()
    source = DatasetBatches(task, 4, seed=0)
    assert source.steps_per_epoch == 6
    orders = []
    for epoch in (1, 2):
        batches = [source.next() for _ in range(6)]
        assert source.epoch == epoch
        assert [len(batch.inputs) for batch in batches] == [4, 4, 4, 4, 4, 3]
        orders.append([row.tolist() for batch in batches for row in F.pad(batch.inputs, (0, 6))])
    orders = [[row[:6] for row in order] for order in orders]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(task.train.tokens.tolist())


def test_the_parameters_best_on_validation_are_tested(tmp_path, dataset, small, blank, monkeypatch):
    """A model that is right exactly while its one parameter is below a threshold."""
    task = dataset()
    marked = task.batch

    def with_answer(split, rows):
        batch = marked(split, rows)
        return RaggedBatch(batch.targets, batch.targets, batch.mask, torch.ones(len(rows)).long())

    monkeypatch.setattr(DatasetTask, "batch", lambda self, split, rows: with_answer(split, rows))

    class Drifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, inputs, lengths=None, output_length=1):
            # Never right at first, always right near 1, never afterwards.
            right = 0.5 < self.weight.item() < 1.5
            answer = F.one_hot(inputs if right else (inputs + 1) % 3, 3)
            return answer.float() + self.weight - self.weight.detach()

    class Push(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self):
            return -self.weight

    model = Drifting()
    settings = small(epochs=4, learning_rate=0.05)
    record = fit(
        model,
        task,
        settings,
        folder=tmp_path,
        seed=0,
        record=blank(task),
        penalties=[Push(model.weight)],
    )
    checks = {
        point.epoch: point.validation_score
        for point in record.learning
        if point.validation_score is not None
    }
    assert checks == {1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}
    assert record.evaluation is not None
    assert record.evaluation.selected == "best validation accuracy (epoch 2)"
    assert record.evaluation.validation_score == record.evaluation.test_score == 1.0
    assert (record.evaluation.score, record.evaluation.score_name) == (1.0, "test accuracy")
    # 12 steps of Adam under a constant gradient, 0.05 each: the parameters of the first best epoch.
    assert model.weight.item() == pytest.approx(0.6, abs=1e-4)

    last = Drifting()
    settings = small(epochs=4, learning_rate=0.08, select="last")
    record = fit(
        last,
        task,
        settings,
        folder=tmp_path / "last",
        seed=0,
        record=blank(task),
        penalties=[Push(last.weight)],
    )
    assert last.weight.item() == pytest.approx(24 * 0.08, abs=1e-4)
    assert record.evaluation is not None
    assert (record.evaluation.test_score, record.evaluation.selected) == (0.0, "last step")


def test_a_data_set_may_be_trained_for_steps(tmp_path, dataset, tagger, small, blank):
    task = dataset()
    record = fit(
        tagger(task),
        task,
        small(steps=8, validation_every=3, log_every=100),
        folder=tmp_path,
        seed=0,
        record=blank(task),
    )
    assert [(point.step, point.epoch) for point in record.learning] == [(3, 0), (6, 1), (8, 1)]
    source = DatasetBatches(task, 4, seed=0)
    lengths = [source.next().lengths for _ in range(8)]
    assert record.cost.train_tokens == sum(
        int(tokens.sum()) for tokens in lengths if tokens is not None
    )


def test_a_data_set_is_validated_at_each_epochs_end_and_at_the_last_step(
    tmp_path, dataset, tagger, small, blank
):
    task = dataset()
    settings = small(steps=8, log_every=100)
    record = fit(tagger(task), task, settings, folder=tmp_path, seed=0, record=blank(task))
    assert [point.step for point in record.learning] == [6, 8]
    assert all(point.validation_score is not None for point in record.learning)


def test_training_stops_after_enough_accurate_checks(
    tmp_path, parity, tagger, small, blank, monkeypatch
):
    checks = iter([0.9, 0.2, 0.95, 0.9, 0.91, 0.1, 0.1])
    monkeypatch.setattr("treering.training.kinds.Generated.validate", lambda self: next(checks))
    settings = small(steps=60, validation_every=2, stop_at=0.9, stop_checks=3)
    record = fit(tagger(parity), parity, settings, folder=tmp_path, seed=0, record=blank(parity))
    assert record.status == "finished"
    assert record.learning[-1].step == 10
    assert record.settings["stop_at"] == 0.9


def test_penalties_are_added_to_the_loss_but_not_to_the_curve(
    tmp_path, parity, tagger, small, blank
):
    plain, pulled = tagger(parity), tagger(parity)
    settings = small(steps=1)
    record = blank(parity)
    first = fit(plain, parity, settings, folder=tmp_path / "a", seed=0, record=record)
    second = fit(
        pulled,
        parity,
        settings,
        folder=tmp_path / "b",
        seed=0,
        record=record,
        penalties=[lambda: 1e6 * pulled.head.weight.square().sum()],
    )
    assert first.learning[0].loss == second.learning[0].loss
    # Adam's first step moves each weight by the learning rate against the gradient's sign.
    moved = tagger(parity).head.weight - pulled.head.weight
    expected = 0.01 * tagger(parity).head.weight.sign()
    assert torch.allclose(moved, expected, atol=1e-6)
    assert not torch.equal(plain.head.weight, pulled.head.weight)


def test_parameters_of_a_penalty_are_trained(
    tmp_path, parity, tagger, small, blank, learned_penalty
):
    model = tagger(parity)
    penalty = learned_penalty(model.head)
    before = penalty.weight.tolist()
    fit(
        model,
        parity,
        small(steps=3),
        folder=tmp_path,
        seed=0,
        record=blank(parity),
        penalties=[penalty],
    )
    assert penalty.weight.tolist() != before
    assert penalty.count.item() == 3


@pytest.mark.parametrize("poison", ["loss", "penalty", "gradient"])
def test_a_loss_that_is_no_number_stops_and_names_the_step(
    tmp_path, parity, tagger, small, blank, poison
):
    model = tagger(parity)
    calls = 0

    class RootOfZero(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            return gradients[0] * math.inf

    def term():
        nonlocal calls
        calls += 1
        if calls < 7:
            return torch.zeros(())
        if poison == "loss":
            with torch.no_grad():
                model.head.bias.fill_(math.nan)
        weight = model.head.weight.sum()
        return RootOfZero.apply(weight) if poison == "gradient" else weight * math.inf

    text = {
        "loss": r"the loss is not finite \(cross entropy .*\) at step 7 of 20",
        "penalty": r"the loss is not finite \(cross entropy .*, with penalties .*inf\) at step 7",
        "gradient": r"the gradient's norm is (nan|inf) at step 7",
    }[poison]
    with pytest.raises(DivergenceError, match=text) as caught:
        fit(
            model,
            parity,
            small(),
            folder=tmp_path,
            seed=0,
            record=blank(parity),
            penalties=[term],
        )
    assert "write a smaller learning rate" in str(caught.value)
    record = Record.load(tmp_path)
    assert record.status == "diverged"
    assert record.learning[-1].step == 7


def test_a_loss_of_nan_is_in_the_curve(tmp_path, parity, tagger, small, blank):
    model = tagger(parity)
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    with pytest.raises(DivergenceError, match=r"cross entropy nan, with penalties nan\) at step 1"):
        fit(model, parity, small(), folder=tmp_path, seed=0, record=blank(parity))
    assert math.isnan(Record.load(tmp_path).learning[0].loss)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 3}, r"epochs = 3, but parity is generated without end .* write steps="),
        ({"select": "best validation"}, r"select = 'best validation' needs validations"),
        ({"stop_at": 0.9}, r"stop_at = 0.9 needs .* write validation_every="),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(
    tmp_path, parity, tagger, small, blank, files, changes, text
):
    with pytest.raises(UserError, match=text):
        fit(
            tagger(parity),
            parity,
            small(**changes),
            folder=tmp_path,
            seed=0,
            record=blank(parity),
        )
    assert files(tmp_path) == []


def test_lengths_that_a_task_has_no_samples_of_are_refused(
    tmp_path, parity, tagger, small, blank, files
):
    parity.shortest = 3
    given = {"folder": tmp_path, "seed": 0, "record": blank(parity)}
    with pytest.raises(UserError, match=r"at length 2, but parity .* shorter than 3; write Curr"):
        fit(tagger(parity), parity, small(curriculum=Curriculum(2, 5)), **given)
    assert files(tmp_path) == []
    fit(tagger(parity), parity, small(curriculum=Curriculum(3, 5)), **given)


def test_a_model_without_parameters_is_refused(tmp_path, parity, small, blank):
    with pytest.raises(UserError, match="no parameter that requires a gradient"):
        fit(nn.Identity(), parity, small(), folder=tmp_path, seed=0, record=blank(parity))


def test_frozen_and_complex_parameters(tmp_path, parity, small, blank):
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = nn.Parameter(torch.ones(2, dtype=torch.complex64))
            self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

        def forward(self, inputs, lengths=None, output_length=1):
            turned = (self.turn * inputs.sum(1, keepdim=True)).real * self.frozen
            return turned[:, None].expand(len(inputs), output_length, 2)

    model = Turning()
    fit(model, parity, small(steps=2), folder=tmp_path, seed=0, record=blank(parity))
    assert model.frozen.tolist() == [1.0, 1.0]
    assert model.turn.tolist() != [1 + 0j, 1 + 0j]


def test_it_learns(tmp_path, dataset, tagger, small, blank):
    task = dataset()
    record = fit(
        tagger(task),
        task,
        small(epochs=60, learning_rate=0.03),
        folder=tmp_path,
        seed=0,
        record=blank(task),
    )
    assert record.learning[-1].train_score == 1.0
    assert record.learning[-1].loss < 0.1 < record.learning[0].loss


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_data(
    tmp_path, parity, tagger, small, blank
):
    curves = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(seed + len(curves))
        model = tagger(parity, dropout=0.3)
        torch.manual_seed(17 * len(curves))
        record = fit(
            model, parity, small(), folder=tmp_path / name, seed=seed, record=blank(parity)
        )
        curves.append([point.loss for point in record.learning])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_the_callers_random_state_is_left_alone(tmp_path, parity, tagger, small, blank):
    model = tagger(parity, dropout=0.3)
    state = torch.get_rng_state()
    fit(model, parity, small(steps=3), folder=tmp_path, seed=0, record=blank(parity))
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_does_not_disturb_training(tmp_path, parity, tagger, small, blank):
    models = []
    for every in (None, 1):
        models.append(tagger(parity, dropout=0.4))
        settings = small(validation_every=every)
        folder = tmp_path / run_id(parity, "lstm", settings, 0)
        fit(models[-1], parity, settings, folder=folder, seed=0, record=blank(parity))
    for mine, theirs in zip(parameters(models[0]), parameters(models[1]), strict=True):
        assert torch.equal(mine, theirs)


def test_the_grid_of_training_lengths_may_be_empty(tmp_path, parity, tagger, small, blank):
    grid = LengthGrid(start=9, stop=9, samples=2, training_points=0)
    record = fit(
        tagger(parity),
        parity,
        small(steps=2, evaluation=grid, validation_every=2),
        folder=tmp_path,
        seed=0,
        record=blank(parity),
    )
    assert record.evaluation is not None
    assert [entry.length for entry in record.evaluation.by_length] == [9]
    assert record.evaluation.validation_score is not None
