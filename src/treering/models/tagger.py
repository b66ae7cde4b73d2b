"""An answer at every symbol of the input.

Legend: B batch, T time, C classes, S input symbols.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from treering._errors import UserError
from treering.models.causal import (
    refuse_baseline,
    refuse_later_tokens,
    refuse_time_first,
    refuse_trees,
)
from treering.models.layer import Layer


class Tagger(nn.Module):
    """One-hot symbols -> recurrent layer -> linear: at every symbol, logits for its answer.

    What a `Transducer` says after the whole input, a Tagger says along it: there are no empty
    tokens, and the answer at a symbol is read from the layer's output there. A one-hot input has
    the layer's input matrix for its embedding, and a tree merges blocks of equal symbols once.
    The head takes the output as it is: where it is below 0 it says as much as where it is above.

    layer: takes inputs of width `symbols`, with `batch_first`.
    causal: whether an answer may depend on no later symbol. True is for what is computed on the
        way, such as a state that is tracked; False for tags that their right context may decide.
    Call: inputs (B, T) int64 symbols, lengths (B,) -> logits (B, T, C).

    Cost: B*T*S numbers for the input. When not to use it: thousands of symbols, which an embedding
    would read without their zeros.

    Raises:
        UserError: with `causal`, a layer whose output at a token depends on later ones:
            bidirectional, or reordered; a layer that is not `batch_first`; a
            baseline of the formal-language benchmark; a layer under `Tree("given")`.
    """

    def __init__(self, layer: Layer, symbols: int, classes: int, *, causal: bool = True) -> None:
        super().__init__()
        refuse_baseline(layer, "answers along the input")
        refuse_trees(layer, "a Tagger")
        if causal:
            refuse_later_tokens(layer, "an answer along the input must not see later tokens")
        refuse_time_first(layer, "a Tagger")
        self.symbols = symbols
        self.layer = layer
        self.head = nn.Linear(layer.output_size, classes)

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, output_length: int | None = None
    ) -> Tensor:
        if output_length is not None and output_length != inputs.shape[1]:
            raise UserError(
                f"a Tagger gives one answer a symbol, {inputs.shape[1]} here and not"
                f" {output_length}; use a Transducer for answers after the input"
            )
        x = F.one_hot(inputs, self.symbols).to(self.head.weight.dtype)
        return self.head(self.layer(x, lengths=lengths)[0])
