"""Language modelling: the next token of a text from all before it.

Legend: B batch, T time, E embedding size, C tokens of the vocabulary.
"""

from typing import Any

from torch import Tensor, nn

from treering._errors import UserError
from treering._types import State
from treering.layers import Reordered
from treering.models.baselines import Baseline
from treering.models.layer import Layer


class LanguageModel(nn.Module):
    """Embedding -> recurrent layer -> linear: at every position, logits for the next token.

    The state goes in and out, so that a text may be read in pieces: cut anywhere, the pieces give
    the logits of the whole. Between updates, detach it (`tr.detach`): see docs/training.md.

    layer: takes inputs of width E, with `batch_first`. words: number of token ids.
    Call: inputs (B, T) int64 token ids, state -> logits (B, T, C), the state to go on with.

    Cost: the head takes B*T*H*C multiplications, most of all for a large vocabulary.

    Raises:
        UserError: a layer whose output at a token depends on later ones, which it would only
            have to copy: bidirectional, or reordered; a layer that is not `batch_first`; a
            baseline of the formal-language benchmark.
    """

    def __init__(self, layer: Layer, words: int, embedding_size: int) -> None:
        super().__init__()
        if isinstance(layer, Baseline):
            raise UserError(
                f"{type(layer).__name__} is a baseline of the formal-language benchmark and reads"
                " whole inputs; for a language model use a layer of treering.layers"
            )
        if isinstance(layer, Reordered):
            raise UserError(
                f"a language model must not see the next token, and a layer in {layer.order} order"
                " does; use the layer itself"
            )
        if layer.bidirectional:
            raise UserError(
                f"a language model must not see the next token, and a bidirectional"
                f" {type(layer).__name__} does; use bidirectional=False"
            )
        if not layer.batch_first:
            raise UserError(
                f"a language model reads (batch, time), and this {type(layer).__name__} reads"
                " (time, batch); build it with batch_first=True"
            )
        self.embedding = nn.Embedding(words, embedding_size)
        self.layer = layer
        self.head = nn.Linear(layer.output_size, words)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        outputs, state = self.layer(self.embedding(inputs), state)
        return self.head(outputs), state
