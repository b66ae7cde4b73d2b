"""Text classification: word embeddings, a recurrent layer, a linear head.

Legend: B batch, T time, E embedding size, H width of the layer's output, C classes.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from treering._errors import UserError, nearest
from treering.models.layer import Layer

Pooling = Literal["last", "max", "mean"]


class Classifier(nn.Module):
    """Embedding -> recurrent layer -> one vector for the text -> linear.

    pooling: `last`, the layer's last output (for a bidirectional layer that of each direction, side
        by side); `max` and `mean`, over the outputs at all of the text's tokens, each channel for
        itself. Both let a long text's gradient reach every token directly, and need the outputs at
        all positions: of a tree about twice the merges of the last one alone.
    dropout: probability with which a number of an embedding, and of what the head reads, is zeroed
        in training.
    layer: takes inputs of width E, with `batch_first`. words: number of token ids; 0 is padding.
    Call: inputs (B, T) int64 token ids, lengths (B,) -> logits (B, 1, C); with ranks (B, T), the
        tree of each text, if the layer's schedule is `Tree("given")`.

    Raises:
        UserError: another pooling, or one over all outputs for a layer that reads trees; a dropout
            that is not from 0 to below 1.
    """

    def __init__(
        self,
        layer: Layer,
        words: int,
        embedding_size: int,
        classes: int,
        pooling: Pooling = "last",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise UserError(nearest(pooling, get_args(Pooling), "pooling"))
        if not 0 <= dropout < 1:
            raise UserError(f"dropout is {dropout:g}; write a number from 0 to below 1")
        if pooling != "last" and getattr(layer, "reads_ranks", False):
            raise UserError(
                f"pooling={pooling!r} reads outputs that are no nodes of a tree that is given; use"
                " pooling='last'"
            )
        self.pooling: Pooling = pooling
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=0)
        self.layer = layer
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(layer.output_size, classes)

    @property
    def reads_ranks(self) -> bool:
        """Whether every call must bring the trees of its texts."""
        return getattr(self.layer, "reads_ranks", False)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        output_length: int = 1,
        ranks: Tensor | None = None,
    ) -> Tensor:
        if output_length != 1:
            raise ValueError(f"a Classifier gives one answer a text, not {output_length}")
        return self.head(self.dropout(self.vectors(inputs, lengths, ranks))).unsqueeze(1)

    def vectors(
        self, inputs: Tensor, lengths: Tensor | None, ranks: Tensor | None = None
    ) -> Tensor:
        """One vector (B, H) for each text, before dropout."""
        x = self.dropout(self.embedding(inputs))
        if self.pooling == "last":
            # Only a layer of this package under a tree that is given knows the argument.
            trees: dict[str, Any] = {} if ranks is None else {"ranks": ranks}
            return self.layer.reduce(x, lengths, **trees)
        return pool(self.layer(x, lengths=lengths)[0], lengths, self.pooling)


def pool(y: Tensor, lengths: Tensor | None, pooling: Literal["max", "mean"]) -> Tensor:
    """The largest or the mean of outputs (B, T, H) over each row's own tokens: (B, H)."""
    if lengths is None:
        return y.amax(1) if pooling == "max" else y.mean(1)
    sizes = lengths.to(y.device).unsqueeze(1)
    behind = (torch.arange(y.shape[1], device=y.device) >= sizes).unsqueeze(2)
    if pooling == "max":
        return y.masked_fill(behind, -torch.inf).amax(1)
    return y.masked_fill(behind, 0).sum(1) / sizes
