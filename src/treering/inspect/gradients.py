"""How much of the loss's gradient reaches a token, over its distance to the last one.

For d loss / d x_t and d loss / d h_t the norm of each sequence's own gradient; the loss of a
classifier and a transducer is that of their answers, of a language model that of the token behind
the last one read. What vanishes here geometrically cannot be learnt from far away.

Source: the measure of Bengio et al. 1994 and Pascanu et al. 2013 (arXiv 1211.5063), as medians.

Legend: B batch, T time, I input, H hidden.
"""

import torch
from torch import Tensor, nn

from treering.inspect.curves import curve_of
from treering.inspect.record import Gradient
from treering.inspect.subject import (
    AnyBatch,
    layer_of,
    losses,
    names_of,
    recurrent_of,
    tapped,
    valid_tokens,
)
from treering.inspect.watched import watching
from treering.layers import Reordered
from treering.schedules import orders


def input_gradients(model: nn.Module, batch: AnyBatch) -> list[Gradient]:
    """At the layer's inputs x_t, for any layer; of a reordered one also over steps of reading.

    Cost: one forward and one backward pass.
    """
    with torch.enable_grad(), tapped(model) as tap:
        loss = losses(model, batch).sum()
    assert tap.x is not None
    x = tap.x
    norms = torch.autograd.grad(loss, x)[0].norm(dim=-1)
    valid = valid_tokens(x, batch)
    last = valid.sum(1, keepdim=True) - 1
    place = torch.arange(x.shape[1]).expand_as(valid)
    found = [
        Gradient(
            of="input",
            layer="input",
            order="text",
            curve=curve_of(norms, last - place, valid),
        )
    ]
    layer = layer_of(model)
    if isinstance(layer, Reordered):
        _, order = layer.reorder(x.detach(), batch.lengths)
        step = orders.inverse(order).t()
        curve = curve_of(norms, last - step, valid)
        found.append(Gradient(of="input", layer="input", order="reading", curve=curve))
    return found


def state_gradients(model: nn.Module, batch: AnyBatch) -> list[Gradient]:
    """At every vector of the state after each token, by layer and direction.

    All of it, through the output of that token and through all later ones; of an LSTM's c also
    through the h of its token, which is computed from it. Distances count steps of the direction
    itself to its last one.

    Errors: NotAvailableError for a layer that merges, or is no recurrence.
    Cost: a forward and a backward pass of the plain loop over time.
    """
    with torch.enable_grad(), watching(model) as watched, tapped(model) as tap:
        loss = losses(model, batch).sum()
    assert tap.x is not None
    valid = valid_tokens(tap.x, batch)
    distance = valid.sum(1, keepdim=True) - 1 - torch.arange(valid.shape[1])
    found = []
    for name, states in zip(names_of(recurrent_of(model)), watched.seen, strict=True):
        for number, field in enumerate(states[0]._fields):  # pyright: ignore[reportAttributeAccessIssue]
            vectors = [state[number] for state in states]
            if not isinstance(vectors[0], Tensor):
                continue
            norms = _norms(loss, vectors).t()
            curve = curve_of(norms, distance, valid)
            found.append(Gradient(of=field, layer=name, order="reading", curve=curve))
    return found


def _norms(loss: Tensor, vectors: list[Tensor]) -> Tensor:
    """Norms (T, B) of the loss's gradient at T vectors (B, H)."""
    asked = [vector for vector in vectors if vector.requires_grad]
    grads = iter(torch.autograd.grad(loss, asked, retain_graph=True, allow_unused=True))
    rows = []
    for vector in vectors:
        grad = next(grads) if vector.requires_grad else None
        rows.append(vector.new_zeros(len(vector)) if grad is None else grad.norm(dim=-1))
    return torch.stack(rows)
