"""Language modelling: the next token of a text from all before it.

Legend: B batch, T time, E embedding size, C tokens of the vocabulary.
"""

from typing import Any

from torch import Tensor, nn

from treering._types import State
from treering.models.causal import (
    refuse_baseline,
    refuse_later_tokens,
    refuse_time_first,
    refuse_trees,
)
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
            baseline of the formal-language benchmark; a layer under `Tree("given")`.
    """

    def __init__(self, layer: Layer, words: int, embedding_size: int) -> None:
        super().__init__()
        refuse_baseline(layer, "a language model")
        refuse_trees(layer, "a language model")
        refuse_later_tokens(layer, "a language model must not see the next token")
        refuse_time_first(layer, "a language model")
        self.embedding = nn.Embedding(words, embedding_size)
        self.layer = layer
        self.head = nn.Linear(layer.output_size, words)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, Any]:
        outputs, state = self.layer(self.embedding(inputs), state)
        return self.head(outputs), state
