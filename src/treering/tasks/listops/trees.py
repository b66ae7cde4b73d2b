"""The binary tree of an expression, which the round brackets of the published files spell.

An operator takes its arguments one after the other, then what closes it:

    [MAX 2 [MIN 4 7 ] ]   is   ( ( ( [MAX 2 ) ( ( ( [MIN 4 ) 7 ) ] ) ) ] )

so that it follows from the tokens, and drawn expressions have it too.

Dimensions: N rows, T tokens of the longest, D most operators around a token.
"""

import torch
from torch import Tensor

from treering.tasks.listops.language import CLOSE, OPERATORS
from treering.tasks.listops.vocabulary import ListOpsVocabulary


def ranks_of(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Minus the depth of the lowest node over the boundary behind each token: (N, T) int32.

    tokens: (N, T) ids of expressions, padded at the end; lengths: (N,). 0 behind an expression's
    last token and in the padding, where there is no boundary.
    """
    N, T = tokens.shape
    # The longest first: those that have a token t are the first ones.
    order = lengths.argsort(descending=True)
    there = (lengths.unsqueeze(1) > torch.arange(T)).sum(0).tolist()
    operators = torch.tensor([ListOpsVocabulary.ids[name] for name in OPERATORS])
    opens = torch.isin(tokens, operators)[order].t().unsqueeze(2).contiguous()
    closes = (tokens == ListOpsVocabulary.ids[CLOSE])[order].t().unsqueeze(2).contiguous()
    around = int((closes.int() - opens.int()).cumsum(0).min())
    # From the right: for each expression that is open, the depth over the boundary that comes next.
    # What stands before the root would be one above it.
    depths = torch.zeros(N, 1 - around, dtype=torch.int32)
    depths[:, 0] = -1
    level = torch.zeros(N, 1, dtype=torch.int64)
    ranks = torch.zeros(T, N, 1, dtype=torch.int32)
    for t in reversed(range(T)):
        opening, closing, held, at = (
            part[: there[t]] for part in (opens[t], closes[t], depths, level)
        )
        over = held.gather(1, at)
        # An argument lies one below the node that adds it to what stands before.
        held.scatter_(1, at, over + (~opening).int())
        at += closing.int()
        at -= opening.int()
        # What closes an expression is its last part; what opens it stands where it stands itself.
        over = torch.where(opening, held.gather(1, at) - 1, over + closing.int())
        held.scatter_(1, at, over + 1)
        if t:
            ranks[t - 1, : there[t]] = -over
    return torch.empty(N, T, dtype=torch.int32).index_copy_(0, order, ranks.squeeze(2).t())
