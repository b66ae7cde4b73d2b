"""How open gates are: histograms, saturation, means by position.

Legend: B batch, T time, H hidden, L layers, D directions.
"""

import torch
from torch import Tensor, nn

from treering.inspect.curves import thinned
from treering.inspect.record import BINS, Gate, significant
from treering.inspect.subject import AnyBatch, NotAvailableError, recurrent_of, steps_of

CANDIDATES = ("g", "n", "h", "b")
"""What cells call what a gate lets in: of both signs, where gates are shares of one."""
EDGE = 0.05
"""A gate below it counts as closed, above 1 minus it as open."""


def gates(model: nn.Module, batch: AnyBatch) -> list[Gate]:
    """Every gate and candidate of every layer and direction, over all tokens that are no padding.

    Errors: NotAvailableError for a layer without gates, or one that does not show them.
    Cost: one forward pass.
    """
    inner, valid, names = steps_of(model, batch)
    if not inner.gates:
        raise NotAvailableError(
            f"a {type(recurrent_of(model)).__name__} shows no gates, because which merge a"
            " token's gate would belong to depends on the bracket"
        )
    return [
        _gate(layer, name, values[number], valid)
        for number, layer in enumerate(names)
        for name, values in inner.gates.items()
    ]


def _gate(layer: str, name: str, values: Tensor, valid: Tensor) -> Gate:
    """values (B, T, H), valid (B, T)."""
    low, high = (-1.0, 1.0) if name in CANDIDATES else (0.0, 1.0)
    kept = values[valid].double()
    within = kept[(kept >= low) & (kept <= high)]
    counts = torch.histc(within, bins=BINS, min=low, max=high)
    places = thinned(values.shape[1])
    means = [values[valid[:, t], t].double().mean().item() for t in places]

    def share(chosen: Tensor) -> float:
        return significant(chosen.double().mean().item())

    return Gate(
        layer=layer,
        name=name,
        range=(low, high),
        shares=tuple(significant(count) for count in (counts / kept.numel()).tolist()),
        outside=significant(1 - within.numel() / kept.numel()),
        mean=significant(kept.mean().item()),
        closed=share(kept < low + EDGE),
        opened=share(kept > high - EDGE),
        at=tuple(places),
        by_position=tuple(significant(mean) for mean in means),
    )
