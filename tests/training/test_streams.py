"""Truncated backpropagation through time: what is carried, what is cut, what is scored.

Legend: B parallel streams, T tokens of a piece, C tokens of the vocabulary.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import treering as tr
from treering._errors import UserError
from treering.layers import Recurrent
from treering.models import LanguageModel
from treering.tasks.abstract import StreamTask
from treering.training import Settings, fit
from treering.training import checkpoint as checkpoints
from treering.training.batches import StreamBatches
from treering.training.evaluate import evaluate_stream
from treering.training.kinds import Stream

LAYERS = tr.layers.names()


def language_model(name: str, words: int = 6, **options: Any) -> LanguageModel:
    torch.manual_seed(3)
    layer = tr.layers.get(name)(4, 5, batch_first=True, **options)
    return LanguageModel(layer, words, 4).double()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }


def kind(model: nn.Module, task: StreamTask, truncate: int, batch: int = 4) -> Stream:
    settings = Settings(epochs=1, batch_size=batch, truncate=truncate)
    return Stream(model, task, settings, 0, torch.device("cpu"))


def streams_by_hand(task: StreamTask, batch: int) -> tuple[Tensor, Tensor]:
    length = (len(task.train) - 1) // batch
    rows = [task.train[b * length : (b + 1) * length + 1] for b in range(batch)]
    return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])


@pytest.mark.parametrize("name", LAYERS)
def test_an_update_is_the_unrolled_computation_detached_at_the_cut(name, stream):
    """The reference reads everything up to the piece in one graph, token by token."""
    task, model = stream(), language_model(name, num_layers=2)
    layer = model.layer
    assert isinstance(layer, Recurrent)
    learnt = kind(model, task, truncate=5)
    inputs, targets = streams_by_hand(task, 4)
    for cut in range(0, 24, 5):
        model.zero_grad()
        loss, _ = learnt.loss(learnt.source.next())
        loss.backward()
        found = gradients(model)

        model.zero_grad()
        state, logits = None, []
        for t in range(min(cut + 5, 24)):
            if t == cut:
                state = tr.detach(state)
            y, state = layer.step(model.embedding(inputs[:, t]), state)
            logits.append(model.head(y))
        piece = slice(cut, cut + 5)
        expected = F.cross_entropy(
            torch.stack(logits[cut:], 1).flatten(0, 1), targets[:, piece].flatten()
        )
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-13)
        for parameter, gradient in gradients(model).items():
            torch.testing.assert_close(found[parameter], gradient, rtol=1e-10, atol=1e-12)
    assert learnt.source.at_epoch_end


@pytest.mark.parametrize("truncate", [24, 1000])
@pytest.mark.parametrize("name", ["lstm", "pr-lstm", "min-gru"])
def test_a_cut_behind_the_end_is_full_backpropagation(name, truncate, stream):
    task, model = stream(), language_model(name)
    learnt = kind(model, task, truncate)
    learnt.loss(learnt.source.next())[0].backward()
    assert learnt.source.at_epoch_end
    found = gradients(model)
    model.zero_grad()
    inputs, targets = streams_by_hand(task, 4)
    F.cross_entropy(model(inputs)[0].flatten(0, 1), targets.flatten()).backward()
    for parameter, gradient in gradients(model).items():
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-12, atol=1e-13)


def test_the_state_before_the_cut_matters_but_gets_no_gradient(stream):
    """What makes the two tests above able to fail: forgetting, and not cutting, differ."""
    task, model = stream(), language_model("lstm")
    inputs, targets = streams_by_hand(task, 4)

    def second_piece(before: Any) -> dict[str, Tensor]:
        model.zero_grad()
        logits = model(inputs[:, 5:10], before)[0]
        F.cross_entropy(logits.flatten(0, 1), targets[:, 5:10].flatten()).backward()
        return gradients(model)

    carried = model(inputs[:, :5])[1]
    cut = second_piece(tr.detach(carried))["layer.weight_ih_l0"]
    assert not torch.allclose(cut, second_piece(None)["layer.weight_ih_l0"])
    assert not torch.allclose(cut, second_piece(model(inputs[:, :5])[1])["layer.weight_ih_l0"])


def test_batches_continue_each_other_and_start_anew_with_the_epoch(stream):
    task = stream()
    source = StreamBatches(task, 4, 5)
    inputs, targets = streams_by_hand(task, 4)
    assert source.steps_per_epoch == 5
    for epoch in range(2):
        pieces = [source.next() for _ in range(5)]
        assert [piece.inputs.shape for piece in pieces] == [(4, 5)] * 4 + [(4, 4)]
        assert torch.equal(torch.cat([piece.inputs for piece in pieces], 1), inputs)
        assert torch.equal(torch.cat([piece.targets for piece in pieces], 1), targets)
        assert source.at_epoch_end
        assert source.epoch == epoch + 1


def test_every_epoch_starts_without_a_state(stream):
    task, model = stream(), language_model("lstm")
    learnt = kind(model, task, truncate=5)
    epochs = [[learnt.loss(learnt.source.next())[0].item() for _ in range(5)] for _ in range(2)]
    assert epochs[0] == epochs[1]
    assert learnt.carried.state is None


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_scores_every_token_once_with_all_of_the_past(name):
    model = language_model(name).eval()
    tokens = torch.randint(6, (18,), generator=torch.Generator().manual_seed(1))
    logits = model(tokens[None, :-1])[0][0]
    expected = -logits.log_softmax(-1)[torch.arange(17), tokens[1:]].mean().item()
    for piece in (1, 2, 3, 5, 17, 18, 1024):
        assert evaluate_stream(model, tokens, piece=piece) == pytest.approx(expected, rel=1e-12)


def test_scores_are_bits_and_perplexity(stream):
    task = stream()
    uniform = language_model("lstm")
    for parameter in uniform.head.parameters():
        nn.init.zeros_(parameter)
    learnt = kind(uniform, task, truncate=5)
    assert learnt.loss(learnt.source.next())[1] == pytest.approx(math.log2(6))
    assert learnt.validate() == pytest.approx(math.log2(6))
    by_word = StreamTask("walk", 6, task.train, task.validation, task.test, unit="word")
    assert kind(uniform, by_word, truncate=5).validate() == pytest.approx(6)


def test_chance_is_guessing_by_frequency():
    train, other = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 0, 1])
    # Counts 3, 1, 0 and one more of each: 4/7, 2/7, 1/7; the first token is not predicted.
    nats = -(math.log(4 / 7) + math.log(2 / 7)) / 2
    task = StreamTask("t", 3, train, other, other, unit="character")
    assert task.chance == pytest.approx(nats / math.log(2))
    task = StreamTask("t", 3, train, other, other, unit="word")
    assert task.chance == pytest.approx(math.exp(nats))


def test_a_run_learns_and_its_record_says_how_well(tmp_path, stream, small, blank, hook):
    task, watcher = stream(), hook()
    model = language_model("pr-lstm").float()
    record = fit(
        model,
        task,
        small(epochs=15, truncate=8, learning_rate=0.05),
        folder=tmp_path,
        seed=0,
        record=blank(task),
        progress=watcher,
    )
    evaluation = record.evaluation
    assert evaluation is not None
    assert evaluation.score_name == "test bits per character"
    # The walk has one bit of choice a step, and six places for who does not follow it.
    assert 0.9 < evaluation.score < 1.6 < task.chance
    assert evaluation.score == evaluation.test_score
    assert evaluation.selected.startswith("best validation bits per character (epoch ")
    nats = evaluate_stream(model, task.test)
    assert evaluation.score == pytest.approx(nats / math.log(2), rel=1e-12)
    checks = [p.validation_score for p in record.learning if p.validation_score is not None]
    assert len(checks) == 15
    assert evaluation.validation_score == min(checks)
    last = record.learning[-1]
    assert last.train_score == pytest.approx(last.loss / math.log(2))
    assert record.cost.train_tokens == 15 * 4 * 24
    assert watcher.total == 15 * 3


def test_stopping_at_a_score_stops_below_it(tmp_path, stream, follower, small, blank):
    task = stream()
    settings = small(epochs=50, truncate=8, learning_rate=0.05, stop_at=2.5, stop_checks=2)
    record = fit(follower(task), task, settings, folder=tmp_path, seed=0, record=blank(task))
    checks = [p.validation_score for p in record.learning if p.validation_score is not None]
    assert 2 <= len(checks) < 50
    assert max(checks[-2:]) <= 2.5 < min([9.0, *checks[:-2]])


def test_the_carried_state_is_in_the_checkpoint(tmp_path, stream, small, blank):
    task, model = stream(), language_model("pr-lstm", num_layers=2).float()
    settings = small(steps=3, truncate=5)
    fit(model, task, settings, folder=tmp_path, seed=0, record=blank(task))
    tensors = checkpoints.load(tmp_path).tensors
    carried = {name: tensor for name, tensor in tensors.items() if name.startswith("carried.")}
    # Blocks and folds of h and c, and the number of tokens read.
    assert sorted(carried) == [f"carried.{n}" for n in ("0.0", "0.1", "1.0", "1.1", "2")]
    assert carried["carried.2"].unique().tolist() == [15]


class Bare(nn.Module):
    """A state that is one tensor, as nn.GRU's."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 5)
        self.gru = nn.GRU(5, 6, batch_first=True)
        self.answer = answer

    def forward(self, inputs: Tensor, state: Any = None) -> Any:
        hidden, state = self.gru(self.embedding(inputs), state)
        return (hidden, state) if self.answer is None else self.answer(hidden, state)


def test_a_bare_tensor_is_a_state(tmp_path, stream, small, blank):
    task = stream()
    whole = small(steps=7, truncate=5, checkpoint_every=3)
    torch.manual_seed(0)
    model = Bare()
    record = fit(model, task, whole, folder=tmp_path, seed=0, record=blank(task))
    assert record.status == "finished"
    assert "carried.state" in checkpoints.load(tmp_path).tensors


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda hidden, state: hidden, r"Bare did not give logits for each of \(4, 5\) tokens"),
        (lambda hidden, state: (hidden[:, -1], state), "return .batch, time, classes. and the"),
        (lambda hidden, state: (hidden, {"h": state}), "the model's state holds a dict"),
    ],
)
def test_a_model_that_is_none_is_told(answer, message, tmp_path, stream, small, blank):
    task = stream()
    with pytest.raises(UserError, match=message):
        fit(
            Bare(answer),
            task,
            small(steps=2, truncate=5),
            folder=tmp_path,
            seed=0,
            record=blank(task),
        )


def test_too_many_streams_are_refused(tmp_path, stream, follower, small, blank):
    task = stream()
    with pytest.raises(UserError, match="99 training tokens cannot be cut into 99 streams; write"):
        fit(
            follower(task),
            task,
            small(steps=1, batch_size=99),
            folder=tmp_path,
            seed=0,
            record=blank(task),
        )
