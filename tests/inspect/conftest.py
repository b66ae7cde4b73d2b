"""Small models on small batches, in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import treering as tr
from treering.models import Classifier, LanguageModel, Transducer
from treering.tasks import Batch, RaggedBatch

Make = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _in_float64(float64: None) -> None:
    """Quotients and differences are looked at here."""


def make(kind: str, name: str = "lstm", order: bool = False, **options: Any) -> nn.Module:
    width = 4 if kind == "transducer" else 5
    layer: Any = tr.layers.get(name)(width, 6, batch_first=True, **options)
    layer = tr.Reordered(layer) if order else layer
    if kind == "transducer":
        return Transducer(layer, 3, 5).eval()
    if kind == "classifier":
        return Classifier(layer, 9, 5, 2).eval()
    return LanguageModel(layer, 9, 5).eval()


@pytest.fixture
def model_of() -> Make:
    """`model_of("transducer", "pr-lstm", num_layers=2)`: a model with random parameters."""
    return make


@pytest.fixture
def symbols() -> Batch:
    """8 walks of 7 steps, as cycle_navigation draws them."""
    return tr.tasks.get("cycle_navigation").sample(8, 7, torch.Generator().manual_seed(3))


@pytest.fixture
def texts() -> RaggedBatch:
    """Six texts of their own lengths, padded with 0."""
    lengths = torch.tensor([1, 7, 3, 5, 2, 7])
    tokens = torch.randint(1, 9, (6, 7), generator=torch.Generator().manual_seed(4))
    tokens = tokens * (torch.arange(7) < lengths.unsqueeze(1))
    labels = torch.tensor([[0], [1], [1], [0], [1], [0]])
    return RaggedBatch(tokens, labels, torch.ones_like(labels, dtype=torch.bool), lengths)
