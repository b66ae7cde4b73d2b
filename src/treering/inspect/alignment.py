"""Do two models hold the same in their states? Linear centred kernel alignment.

    CKA(X, Y) = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)       X (N, P), Y (N, Q), columns centred

1 for states that differ by a rotation and a scale, near 0 for unrelated ones if there are many
more rows than columns; with few rows it is biased upwards.

Source: Kornblith et al. 2019, Similarity of Neural Network Representations Revisited
(arXiv 1905.00414).

Legend: N tokens, B batch, T time, P and Q widths.
"""

from typing import Any

import torch
from torch import Tensor, nn

from treering.inspect.subject import (
    AnyBatch,
    NotAvailableError,
    entering,
    layer_of,
    names_of,
    trees_of,
    valid_tokens,
)
from treering.layers import Recurrent, Reordered


def linear_cka(x: Tensor, y: Tensor) -> float:
    """The similarity of x (N, P) and y (N, Q), 0 to 1; rows are the same tokens.

    0 where one of them is the same at every token. Cost: N (P^2 + Q^2 + P Q).
    """
    x, y = (part.double() - part.double().mean(0) for part in (x, y))
    between = (y.T @ x).square().sum()
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return (between / scale).item() if scale > 0 else 0.0


@torch.no_grad()
def representations(model: nn.Module, batch: AnyBatch) -> dict[str, Tensor]:
    """The states h of every layer and direction at the batch's tokens, by name, (N, P).

    At their tokens' places, whatever the order of reading. Of a layer that shows no states its
    outputs.

    Errors: NotAvailableError for a layer that has neither at every token.
    """
    layer: Any = layer_of(model)
    x = entering(model, batch)
    valid = valid_tokens(x, batch)
    recurrent = layer.layer if isinstance(layer, Reordered) else layer
    if isinstance(recurrent, Recurrent):
        trees = trees_of(recurrent, batch)
        _, _, inner = layer(x, lengths=batch.lengths, return_states=True, **trees)
        names = names_of(recurrent)
        return {name: h[valid] for name, h in zip(names, inner.state[0], strict=True)}
    given = {} if batch.lengths is None else {"lengths": batch.lengths}
    answer = layer(x, **given)
    outputs = answer[0] if isinstance(answer, tuple) else answer
    if not isinstance(outputs, Tensor) or outputs.shape[:2] != valid.shape:
        raise NotAvailableError(f"a {type(layer).__name__} gives no output for every token")
    return {"output": outputs[valid]}
