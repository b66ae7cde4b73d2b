"""The model that is looked into: what its layer reads on a batch, and what happens inside.

Models are those of `models`: something in front of a layer and something behind it. They are
expected in evaluation mode and left as they were.

Legend: B batch, T time, I input, H hidden, M outputs, C classes, L layers, D directions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._errors import UserError
from treering._types import Inner
from treering.layers import Recurrent, Reordered
from treering.models import LanguageModel
from treering.tasks.abstract import Batch, RaggedBatch

AnyBatch = Batch | RaggedBatch


class NotAvailableError(UserError):
    """A measure that a model or a task does not allow; its text says why."""


class Steps(NamedTuple):
    """States and gates of a recurrence, in the order of reading.

    inner: fields (L*D, B, T, ...). valid: (B, T) bool. names: of the L*D layers and directions.
    """

    inner: Inner
    valid: Tensor
    names: list[str]


class Tap(nn.Module):
    """Stands in a model where its layer was; `x` is what the layer was last given, (B, T, I)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.x: Tensor | None = None

    @property
    def reads_ranks(self) -> bool:
        return getattr(self.layer, "reads_ranks", False)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.layer(self._kept(input), *args, **kwargs)

    def reduce(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer: Any = self.layer
        return layer.reduce(self._kept(input), *args, **kwargs)

    def _kept(self, x: Tensor) -> Tensor:
        self.x = x.detach().requires_grad_(torch.is_grad_enabled())
        return self.x


@contextmanager
def tapped(model: nn.Module) -> Iterator[Tap]:
    """Within the block, the model's layer stands behind a Tap."""
    layer = layer_of(model)
    tap = Tap(layer)
    model.layer = tap
    try:
        yield tap
    finally:
        model.layer = layer


def layer_of(model: nn.Module) -> nn.Module:
    """The model's layer. Errors: UserError for a model without one."""
    layer = getattr(model, "layer", None)
    if not isinstance(layer, nn.Module):
        raise UserError(
            f"{type(model).__name__} has no attribute `layer` to look into; give a Classifier, a"
            " Transducer or a LanguageModel"
        )
    return layer


def recurrent_of(model: nn.Module) -> Recurrent:
    """The recurrence itself. Errors: NotAvailableError if the layer is none."""
    layer = layer_of(model)
    inner = layer.layer if isinstance(layer, Reordered) else layer
    if not isinstance(inner, Recurrent):
        raise NotAvailableError(f"a {type(layer).__name__} carries no state from token to token")
    return inner


def names_of(recurrent: Recurrent) -> list[str]:
    """Names of its layers and directions, in the order of its states."""
    sides = (" forward", " backward") if recurrent.bidirectional else ("",)
    return [f"layer {level + 1}{side}" for level in range(recurrent.num_layers) for side in sides]


def trees_of(reader: nn.Module, batch: AnyBatch) -> dict[str, Tensor | None]:
    """What a model or a layer is called with besides: the batch's trees, if it reads any."""
    return {"ranks": batch.ranks} if getattr(reader, "reads_ranks", False) else {}


def losses(model: nn.Module, batch: AnyBatch) -> Tensor:
    """Cross entropy of each sequence, (B,): the mean over the outputs that count."""
    if isinstance(model, LanguageModel):
        # The model's own call would give the logits of a large vocabulary at every token.
        outputs, _ = model.layer(model.embedding(batch.inputs))
        logits = model.head(outputs[batch.mask])
    else:
        outputs = batch.targets.shape[1]
        further = {"lengths": batch.lengths, "output_length": outputs, **trees_of(model, batch)}
        logits = model(batch.inputs, **further)
        logits = logits[batch.mask]
    nats = F.cross_entropy(logits, batch.targets[batch.mask], reduction="none")
    total = nats.new_zeros(batch.mask.shape).masked_scatter(batch.mask, nats)
    return total.sum(1) / batch.mask.sum(1)


@torch.no_grad()
def entering(model: nn.Module, batch: AnyBatch) -> Tensor:
    """What the layer reads, (B, T, I), with the empty tokens that a Transducer adds."""
    with tapped(model) as tap:
        losses(model, batch)
    assert tap.x is not None
    return tap.x


def valid_tokens(x: Tensor, batch: AnyBatch) -> Tensor:
    """(B, T) bool: what of x (B, T, I) is no padding."""
    time = torch.arange(x.shape[1])
    if batch.lengths is None:
        return torch.ones(x.shape[:2], dtype=torch.bool)
    return time < batch.lengths.unsqueeze(1)


@torch.no_grad()
def steps_of(model: nn.Module, batch: AnyBatch) -> Steps:
    """The recurrence on a batch. Errors: NotAvailableError if the layer is none."""
    recurrent, layer = recurrent_of(model), layer_of(model)
    x = entering(model, batch)
    valid = valid_tokens(x, batch)
    if isinstance(layer, Reordered):
        x, _ = layer.reorder(x, batch.lengths)
    trees = trees_of(recurrent, batch)
    _, _, inner = recurrent(x, lengths=batch.lengths, return_states=True, **trees)
    return Steps(inner, valid, names_of(recurrent))
