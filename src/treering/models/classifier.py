"""Text classification: word embeddings, a recurrent layer, a linear head.

Legend: B batch, T time, E embedding size, C classes.
"""

from torch import Tensor, nn

from treering.models.layer import Layer


class Classifier(nn.Module):
    """Embedding -> recurrent layer -> linear on the layer's last output.

    For a bidirectional layer the last output of each direction, side by side.

    layer: takes inputs of width E, with `batch_first`. words: number of token ids; 0 is padding.
    Call: inputs (B, T) int64 token ids, lengths (B,) -> logits (B, 1, C).
    """

    def __init__(self, layer: Layer, words: int, embedding_size: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=0)
        self.layer = layer
        self.head = nn.Linear(layer.output_size, classes)

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, output_length: int = 1
    ) -> Tensor:
        if output_length != 1:
            raise ValueError(f"a Classifier gives one answer a text, not {output_length}")
        last = self.layer.reduce(self.embedding(inputs), lengths)
        return self.head(last).unsqueeze(1)
