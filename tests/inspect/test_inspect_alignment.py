"""Linear CKA: its invariances, its other formula, and whose states are compared."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from treering.inspect.alignment import linear_cka, representations
from treering.inspect.subject import NotAvailableError
from treering.tasks import RaggedBatch

Make = Callable[..., Any]


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


def test_a_rotation_a_scale_and_a_shift_change_nothing() -> None:
    x = torch.randn(50, 7)
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, -3 * x @ rotation(7) + torch.randn(7)) == pytest.approx(1)
    wide = torch.cat((x, torch.zeros(50, 4)), 1) @ rotation(11)
    assert linear_cka(x, wide) == pytest.approx(1)


def test_a_stretch_changes_it() -> None:
    x = torch.randn(50, 7)
    assert linear_cka(x, x * torch.arange(1, 8)) < 0.99


def test_unrelated_states_are_near_zero_and_constants_are_nothing() -> None:
    assert linear_cka(torch.randn(5000, 4), torch.randn(5000, 6)) < 0.01
    assert linear_cka(torch.randn(10, 3), torch.ones(10, 3)) == 0


def test_it_is_the_normalised_covariance_of_the_gram_matrices() -> None:
    """tr(K H L H), with K = X X^T, L = Y Y^T and H = 1 - 1/N, over its own norms."""
    x, y = torch.randn(12, 3), torch.randn(12, 5)
    y[:, :3] += x
    H = torch.eye(12) - torch.full((12, 12), 1 / 12)
    K, L = H @ x @ x.T @ H, H @ y @ y.T @ H
    expected = (K * L).sum() / (K.norm() * L.norm())
    assert linear_cka(x, y) == pytest.approx(expected.item())
    assert linear_cka(y, x) == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("name", "order"), [("lstm", False), ("gru", True), ("min-gru", False), ("pr-rnn", True)]
)
def test_states_stand_at_their_own_tokens(
    name: str, order: bool, model_of: Make, texts: RaggedBatch
) -> None:
    model = model_of("classifier", name, order, num_layers=2)
    found = representations(model, texts)
    assert list(found) == ["layer 1", "layer 2"]
    outputs = []
    for row, length in enumerate(texts.lengths.tolist()):
        outputs.append(model.layer(model.embedding(texts.inputs[[row], :length]))[0][0])
    torch.testing.assert_close(found["layer 2"], torch.cat(outputs))


class Averaging(nn.Module):
    """A layer without a state."""

    output_size = 5

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        return x.cumsum(1), None

    def reduce(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        y = self(x)[0]
        return y[:, -1] if lengths is None else y[torch.arange(len(y)), lengths - 1]


def test_a_layer_without_states_gives_its_outputs(model_of: Make, texts: RaggedBatch) -> None:
    model = model_of("classifier")
    model.layer = Averaging()
    model.head = nn.Linear(5, 2)
    found = representations(model, texts)
    assert list(found) == ["output"]
    assert found["output"].shape == (25, 5)
    x = model.embedding(texts.inputs)
    torch.testing.assert_close(found["output"][:8], torch.cat((x[0, :1], x[1].cumsum(0))))


def test_a_layer_that_gives_its_last_output_alone_is_told(
    model_of: Make, texts: RaggedBatch
) -> None:
    class Last(Averaging):
        def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
            return super().forward(x)[0][:, -1:], None

    model = model_of("classifier")
    model.layer, model.head = Last(), nn.Linear(5, 2)
    model.layer.reduce = lambda x, lengths=None: x[:, -1]
    with pytest.raises(NotAvailableError, match="Last gives no output for every token"):
        representations(model, texts)
