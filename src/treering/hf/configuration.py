"""What a treering model is made of, as JSON.

Legend: E embedding size, H hidden size.
"""

import json
from typing import Any

import torch
from transformers import PreTrainedConfig

from treering import layers
from treering._errors import UserError, nearest
from treering.layers import Recurrent
from treering.layers.arguments import check_sizes


class TreeringConfig(PreTrainedConfig):
    """Configuration of an embedding, a recurrent layer and a head; every field has a default.

    layer: registered name of the layer, one of `tr.layers.names()`.
    layer_options: the layer's own options, such as `{"refinements": 2}` for "pr-lstm". Only what
        JSON can hold; a list is given to the layer as a tuple.
    vocab_size, embedding_size E, hidden_size H, num_layers, bias, dropout, bidirectional: as for
        the layer and the embedding in front of it. E is H unless given. `dropout` is nn.LSTM's,
        between the layers. `num_hidden_layers` is another name of `num_layers`. Bidirectional
        models classify; they cannot generate.
    initializer_range: standard deviation of the embedding's and the head's first weights. The
        layer starts from its own initialisation, whatever this says.
    pad_token_id, bos_token_id, eos_token_id, tie_word_embeddings, num_labels, problem_type, ...:
        as everywhere in transformers. The embedding has no padding_idx: what is padding is said
        by the attention mask, and a padding token that is also the end token keeps its gradient.

    The layer's schedule is no part of it: `model.base_model.layer.schedule = tr.Tree("left")`.

    Errors: ValueError or TypeError at construction for an unknown layer, an unknown option, an
        option written beside `layer_options`, or a value the layer refuses.
    """

    model_type = "treering"
    keys_to_ignore_at_inference = ["cache_params"]  # noqa: RUF012 -- transformers' own declaration
    attribute_map = {"num_hidden_layers": "num_layers"}  # noqa: RUF012 -- likewise

    def __init__(
        self,
        layer: str = "lstm",
        layer_options: dict[str, Any] | None = None,
        vocab_size: int = 32_000,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        initializer_range: float = 0.1,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.layer = layer
        self.layer_options = dict(layer_options or {})
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.initializer_range = initializer_range
        embedding_size = hidden_size if embedding_size is None else embedding_size
        check_sizes(vocab_size=vocab_size, embedding_size=embedding_size)
        self.embedding_size = embedding_size
        # Which of these PreTrainedConfig declares differs between releases; it takes them all.
        declared: dict[str, Any] = {
            "pad_token_id": pad_token_id,
            "bos_token_id": bos_token_id,
            "eos_token_id": eos_token_id,
            "tie_word_embeddings": tie_word_embeddings,
        }
        super().__init__(**declared, **kwargs)
        known = layers.get(self.layer).cell_options()
        for name in kwargs:
            if name in known:
                raise UserError(
                    f"{name!r} is an option of the layer {self.layer!r}; write"
                    f" layer_options={{{name!r}: {kwargs[name]!r}}}"
                )
        for name in self.layer_options:
            if name not in known:
                raise UserError(nearest(name, known, f"option of the layer {self.layer!r}"))
        try:
            json.dumps(self.layer_options)
        except TypeError as error:
            raise UserError(
                f"layer_options are saved as JSON and {self.layer_options!r} cannot be: {error};"
                " give numbers, strings, booleans, lists or None"
            ) from error
        # The layer knows what it can be built from; on meta that costs no memory.
        self.new_layer(device="meta")

    def new_layer(self, device: torch.device | str | None = None) -> Recurrent:
        """The layer this describes, batch first, with newly drawn parameters."""
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.layer_options.items()
        }
        return layers.get(self.layer)(
            self.embedding_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            True,
            self.dropout,
            self.bidirectional,
            device=device,
            **options,
        )
