"""Classification of two sentences: what is said of one by the other.

Legend: B batch, T time, E embedding size, H width of the layer's output, C classes.
"""

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering.models.causal import refuse_trees
from treering.models.classifier import Classifier, Pooling
from treering.models.layer import Layer


class PairClassifier(Classifier):
    """Both sentences through the same layer, then relu and linear on how their vectors differ.

        logits = W2 relu(W1 [u; v; u * v; |u - v|] + b1) + b2

    with u, v (H,) the sentences' vectors and H hidden units. A row holds both sentences with the
    token `separator` between them; neither sees the other. Embedding, pooling and dropout are
    `Classifier`'s; dropout is also on the relu's outputs.

    Call: inputs (B, T) int64 token ids, lengths (B,) -> logits (B, 1, C).
    Cost: a batch of 2B sequences.
    Source: the usual head of sentence pairs, Mou et al., "Natural language inference by tree-based
        convolution and heuristic matching" (ACL 2016).

    Raises:
        UserError: as Classifier; a layer under `Tree("given")`; in a call, a row without the
            separator or with nothing on one of its sides.
    """

    def __init__(
        self,
        layer: Layer,
        words: int,
        embedding_size: int,
        classes: int,
        separator: int,
        pooling: Pooling = "last",
        dropout: float = 0.0,
    ) -> None:
        refuse_trees(layer, "a pair of sentences")
        super().__init__(layer, words, embedding_size, classes, pooling, dropout)
        self.separator = separator
        self.compared = nn.Linear(4 * layer.output_size, layer.output_size)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        output_length: int = 1,
        ranks: Tensor | None = None,
    ) -> Tensor:
        if output_length != 1:
            raise ValueError(f"a PairClassifier gives one answer a pair, not {output_length}")
        if ranks is not None:
            raise UserError("a PairClassifier reads no trees; leave ranks out")
        return self.compare(*self.separate(inputs, lengths))

    def compare(self, sentences: Tensor, sizes: Tensor) -> Tensor:
        """Logits (B, 1, C) for what `separate` gives."""
        u, v = self.dropout(self.vectors(sentences, sizes)).unflatten(0, (2, -1)).unbind(0)
        features = torch.cat((u, v, u * v, (u - v).abs()), dim=-1)
        hidden = self.dropout(torch.relu(self.compared(features)))
        return self.head(hidden).unsqueeze(1)

    def separate(
        self, inputs: Tensor, lengths: Tensor | None, check: bool = True
    ) -> tuple[Tensor, Tensor]:
        """All first sentences, then all second ones, (2B, T), and their lengths (2B,).

        check: refuse a row that is no pair; without it a missing sentence is one token of padding.
        """
        B, T = inputs.shape
        time = torch.arange(T, device=inputs.device)
        if lengths is None:
            lengths = time.new_full((B,), T)
        lengths = lengths.to(inputs.device)
        found = (inputs == self.separator) & (time < lengths.unsqueeze(1))
        # Without a separator: the row's end, so that the second sentence has no word.
        first = torch.where(found, time, lengths.unsqueeze(1)).amin(1)
        sizes = torch.cat((first, lengths - first - 1))
        if check and bool((sizes <= 0).any()):
            row = int((sizes <= 0).nonzero()[0]) % B
            raise UserError(
                f"row {row} is no pair of sentences: token {self.separator} must stand between two"
                " that have a token each"
            )
        second = (first.unsqueeze(1) + 1 + time).clamp(max=T - 1)
        sentences = torch.cat((inputs, inputs.gather(1, second)))
        return sentences.masked_fill(time >= sizes.unsqueeze(1), 0), sizes.clamp(min=1)
