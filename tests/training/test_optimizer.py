"""The optimiser against PyTorch's own, and the learning rate of every update."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from treering._errors import UserError
from treering.training import Settings, fit
from treering.training.optimizer import learning_rate, optimizer_of


def updated(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> torch.Tensor:
    for factor in (1.0, -0.5, 3.0):
        weight.grad = factor * weight.detach().cos()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_update_is_adams_and_with_decay_adamws(decay: float):
    start = torch.linspace(-2, 2, 7, dtype=torch.float64)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = Settings(steps=1, learning_rate=0.1, weight_decay=decay)
    found = updated(optimizer_of([ours], settings), ours)
    wanted = updated(torch.optim.AdamW([theirs], lr=0.1, weight_decay=decay), theirs)
    torch.testing.assert_close(found, wanted)


def test_decay_shrinks_what_has_no_gradient_to_speak_of():
    weight = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of([weight], Settings(steps=1, learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.95))


def test_nothing_to_train():
    with pytest.raises(UserError, match="nothing to train"):
        optimizer_of([], Settings(steps=1))


@given(st.integers(1, 60), st.integers(0, 59))
def test_warm_up_rises_in_equal_parts_and_cosine_falls_to_nothing(steps: int, warmup: int):
    warmup %= steps
    settings = Settings(
        steps=steps, learning_rate=0.5, warmup_steps=warmup, learning_rate_schedule="cosine"
    )
    rates = [learning_rate(settings, step, steps) for step in range(steps)]
    assert rates[:warmup] == pytest.approx([0.5 * (k + 1) / warmup for k in range(warmup)])
    assert rates[warmup] == 0.5
    assert all(a > b > 0 for a, b in pairwise(rates[warmup:]))
    assert learning_rate(settings, steps, steps) == pytest.approx(0, abs=1e-12)
    if (steps - warmup) % 2 == 0:
        assert learning_rate(settings, (steps + warmup) // 2, steps) == pytest.approx(0.25)


def test_constant_after_warm_up():
    settings = Settings(steps=9, learning_rate=0.5, warmup_steps=2)
    assert [learning_rate(settings, k, 9) for k in range(9)] == [0.25, *[0.5] * 8]


def test_training_uses_the_rate_of_each_update(tmp_path, parity, small, blank):
    """One parameter whose every Adam step is nearly as long as the rate, for its gradient is 1."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, inputs, lengths=None, output_length=1):
            seen.append(self.weight.item())
            return torch.zeros(inputs.shape[0], output_length, 2, dtype=torch.float64) + 0 * (
                self.weight
            )

    class Weight(nn.Module):
        def forward(self):
            return model.weight

    seen: list[float] = []
    model = Slope()
    settings = small(
        steps=8, learning_rate=0.5, warmup_steps=3, learning_rate_schedule="cosine", clip=None
    )
    record = blank(parity)
    fit(model, parity, settings, folder=tmp_path, seed=0, record=record, penalties=[Weight()])
    lengths = [a - b for a, b in pairwise(seen[:8])]
    cosine = [0.25 * (1 + math.cos(math.pi * k / 5)) for k in range(4)]
    assert lengths == pytest.approx([0.5 / 3, 1 / 3, 0.5, *cosine], rel=1e-6)


def test_warm_up_that_does_not_end_is_refused(tmp_path, parity, tagger, small, blank):
    with pytest.raises(UserError, match=r"warmup_steps = 20, .* ends after 20 updates"):
        fit(
            tagger(parity),
            parity,
            small(warmup_steps=20),
            folder=tmp_path,
            seed=0,
            record=blank(parity),
        )
    assert list(tmp_path.iterdir()) == []
