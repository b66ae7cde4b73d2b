"""How long a state stays like itself: the cosine of h_t and h_{t+d}.

Near 1 over long distances: information is retained, or the state has stopped to move, which the
gradients and the probes tell apart. Near 0: nothing of the direction of h_t is left.

Source: retention is what QL-LSTM's additive skips are claimed to bring (arXiv 2512.06582); the
measure is ours.

Legend: B batch, T time, H hidden.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from treering.inspect.curves import curve
from treering.inspect.record import Similarity
from treering.inspect.subject import AnyBatch, NotAvailableError, steps_of


def similarity(model: nn.Module, batch: AnyBatch) -> list[Similarity]:
    """Cosines at d = 1, 2, 4, ... over all pairs of tokens of every layer and direction.

    In the order of reading. A state of zeros has no direction and is left out.

    Errors: NotAvailableError for no recurrence, or where no sequence has two tokens.
    Cost: one forward pass.
    """
    inner, valid, names = steps_of(model, batch)
    if valid.shape[1] < 2:
        raise NotAvailableError(
            "every sequence has one token, and there is no distance between two"
        )
    return [
        Similarity(layer=name, curve=curve(_by_distance(h, valid)))
        for name, h in zip(names, inner.state[0], strict=True)
    ]


def _by_distance(h: Tensor, valid: Tensor) -> list[tuple[int, Tensor]]:
    """Cosines at each distance; h (B, T, H), valid (B, T)."""
    direct = F.normalize(h.double(), dim=-1)
    known = valid & (h != 0).any(-1)
    groups = []
    distance = 1
    while distance < h.shape[1]:
        cosines = (direct[:, :-distance] * direct[:, distance:]).sum(-1)
        groups.append((distance, cosines[known[:, :-distance] & known[:, distance:]]))
        distance *= 2
    return groups
