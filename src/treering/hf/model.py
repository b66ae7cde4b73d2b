"""The base of all treering models: token embedding and recurrent layer.

Legend: B batch, T time, E embedding size, O output size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from treering._errors import UserError
from treering.hf.cache import RecurrentCache
from treering.hf.configuration import TreeringConfig
from treering.hf.padding import Stretch, read_mask
from treering.layers import Recurrent


@dataclass
class TreeringOutput(ModelOutput):
    """What `TreeringModel` returns.

    last_hidden_state: the layer's outputs (B, T, O), zero at padding; None with `last_only`.
    pooler_output: with `last_only`, the layer's last output of each row, (B, O).
    cache_params: the state to go on with, if the cache is in use.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    cache_params: RecurrentCache | None = None


class TreeringPreTrainedModel(PreTrainedModel):
    """Initialisation, saving and loading for all treering models.

    No gradient checkpointing: a layer runs all its levels in one call, and there is nothing
    between them to checkpoint; `activation_checkpointing_enable` says so.
    """

    config_class = TreeringConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The layer's own initialisation; transformers' for embedding and heads."""
        if not isinstance(module, Recurrent):
            super()._init_weights(module)
            return
        # A layer draws all of its parameters; those that a file has filled get their values back.
        loaded = [
            (parameter, parameter.clone())
            for parameter in module.parameters()
            if getattr(parameter, "_is_hf_initialized", False)
        ]
        module.reset_parameters()
        for parameter, value in loaded:
            parameter.copy_(value)


class TreeringModel(TreeringPreTrainedModel):
    """Token embedding -> recurrent layer, without a head.

    Call: input_ids (B, T) -> `TreeringOutput`. See `forward` for what else it takes.
    Cost: the layer's. When not to use it: inside plain PyTorch code, where the layer itself is
    all one needs.
    """

    def __init__(self, config: TreeringConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        self.layer = config.new_layer()
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache_params: RecurrentCache | None = None,
        use_cache: bool | None = None,
        last_only: bool = False,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> TreeringOutput | tuple[Any, ...]:
        """Outputs at every position, or only each row's last.

        input_ids (B, T) or inputs_embeds (B, T, E): one of the two.
        attention_mask: (B, T), 0 for padding at the left, the right or both; padding is never
            read and holes are refused. None reads everything.
        position_ids: (B, T); only their zeros matter: a token at position 0 starts a sequence
            anew, so that several sequences may follow each other in one row.
        cache_params: what an earlier call returned, to go on behind it.
        use_cache: return the state; by default in evaluation mode, where it costs nothing. What
            Trainer writes into the configuration under this name is not looked at.
        last_only: only each row's last output, cheaper where the schedule allows, without cache.

        Errors: ValueError, in one line, for inputs that do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("give exactly one of input_ids and inputs_embeds")
        if (
            self.config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states
        ):
            raise UserError(
                "output_hidden_states is not offered: a treering layer runs all its levels in one"
                " call; last_hidden_state holds the last level's outputs"
            )
        if inputs_embeds is None:
            assert input_ids is not None
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
            inputs_embeds = self.embed_tokens(input_ids)
        assert inputs_embeds is not None
        use_cache = self._uses_cache(use_cache, cache_params, last_only)
        B, T = inputs_embeds.shape[:2]
        seen = 0 if cache_params is None else cache_params.seen
        state = None if cache_params is None else cache_params.state
        stretch = read_mask(attention_mask, B, T, seen)
        reset = None if position_ids is None else _starts(position_ids, B, T)
        if stretch is not None:
            inputs_embeds = stretch.to_front(inputs_embeds)
            reset = None if reset is None else stretch.to_front(reset)
        lengths = None if stretch is None else stretch.lengths
        output = (
            TreeringOutput(pooler_output=self.layer.reduce(inputs_embeds, lengths, state, reset))
            if last_only
            else self._everywhere(inputs_embeds, state, stretch, reset, seen + T, use_cache)
        )
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()

    def _everywhere(
        self,
        x: Tensor,
        state: Any,
        stretch: Stretch | None,
        reset: Tensor | None,
        seen: int,
        use_cache: bool,
    ) -> TreeringOutput:
        y, state = self.layer(x, state, None if stretch is None else stretch.lengths, reset)
        return TreeringOutput(
            last_hidden_state=y if stretch is None else stretch.to_place(y),
            cache_params=RecurrentCache(state, seen) if use_cache else None,
        )

    def _uses_cache(
        self, wanted: bool | None, given: RecurrentCache | None, last_only: bool
    ) -> bool:
        """Whether to return the state; refuses what only a causal model can do."""
        if self.config.bidirectional and (wanted or given is not None):
            raise UserError(
                "a bidirectional model cannot be carried on: its reverse direction starts at the"
                " last token; leave cache_params and use_cache out, or set bidirectional=False"
            )
        if given is not None and not isinstance(given, RecurrentCache):
            raise UserError(
                f"cache_params must be what an earlier call returned, got {type(given).__name__}"
            )
        if last_only or self.config.bidirectional:
            return False
        return not self.training if wanted is None else wanted


def _starts(position_ids: Tensor, B: int, T: int) -> Tensor:
    """(B, T) bool, True at tokens whose position is 0."""
    if position_ids.dim() != 2 or position_ids.shape[0] not in (1, B) or position_ids.shape[1] != T:
        raise UserError(
            f"position_ids must be (batch, time) = {(B, T)}, got {tuple(position_ids.shape)}"
        )
    return (position_ids == 0).expand(B, T)
