"""Training in low precision: forward passes under autocast, everything else in float32."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import treering as tr
from treering.models import LanguageModel
from treering.training import fit
from treering.training.evaluate import cross_entropy
from treering.training.optimizer import optimizer_of


@pytest.fixture
def model(stream):
    """A function that builds the same language model over PR-LSTM each time."""

    def build() -> LanguageModel:
        torch.manual_seed(3)
        return LanguageModel(tr.PRLSTM(4, 8, batch_first=True), stream().input_size, 4)

    return build


def test_an_update_is_adam_on_the_gradient_of_an_autocast_forward_pass(
    model, stream, small, blank, tmp_path
):
    task, wanted, trained = stream(), model(), model()
    settings = small(steps=1, truncate=5, precision="bfloat16", clip=None)
    fit(trained, task, settings, folder=tmp_path, seed=0, record=blank(task))

    # The first piece of each of the four streams, as the loop cuts them.
    streams = task.train[:97].unfold(0, 25, 24)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = wanted(streams[:, :5])
    assert logits.dtype is torch.bfloat16
    loss = F.cross_entropy(logits.float().flatten(0, 1), streams[:, 1:6].flatten())
    loss.backward()
    optimizer_of(list(wanted.parameters()), settings).step()
    for ours, theirs in zip(trained.parameters(), wanted.parameters(), strict=True):
        assert ours.dtype is torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["generated", "dataset", "stream"])
def test_training_is_under_autocast_and_judging_is_not(
    kind, parity, dataset, stream, tagger, follower, small, blank, tmp_path
):
    task = {"generated": parity, "dataset": dataset(), "stream": stream()}[kind]
    model = follower(task) if kind == "stream" else tagger(task)
    seen: set[tuple[bool, bool]] = set()

    def look(module: nn.Module, *_: object) -> None:
        seen.add((module.training, torch.is_autocast_enabled("cpu")))

    model.register_forward_pre_hook(look)
    duration = {"steps": 2, "validation_every": 2} if kind == "generated" else {"epochs": 1}
    settings = small(**duration, precision="bfloat16")
    record = fit(model, task, settings, folder=tmp_path, seed=0, record=blank(task))
    assert seen == {(True, True), (False, False)}
    assert record.settings["precision"] == "bfloat16"


def test_logits_of_low_precision_are_read_in_float32():
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 3, 50).bfloat16(), torch.randint(50, (4, 3))
    assert torch.equal(cross_entropy(logits, targets), cross_entropy(logits.float(), targets))
    assert cross_entropy(logits.double(), targets).dtype is torch.float64
