"""Language modelling and generation.

Legend: B batch, T time, E embedding size, V vocabulary, N positions kept.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.utils.generic import ModelOutput

from treering._errors import UserError
from treering.hf.cache import RecurrentCache
from treering.hf.configuration import TreeringConfig
from treering.hf.model import TreeringModel, TreeringPreTrainedModel


@dataclass
class TreeringCausalLMOutput(ModelOutput):
    """What `TreeringForCausalLM` returns: loss (), logits (B, N, V), the state to go on with."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache_params: RecurrentCache | None = None


class TreeringForCausalLM(TreeringPreTrainedModel, GenerationMixin):
    """Embedding -> layer -> linear over the vocabulary at every position.

    `generate` reads the prompt in one call and then one token at a time from the carried state:
    a constant cost per token, for a tree about two merges, and O(log T) memory. Greedy, sampling
    and beam search; prompts of different lengths are padded at the left. With
    `tie_word_embeddings` the head is the embedding, which needs E equal to the layer's output.

    Errors: ValueError for a bidirectional configuration, and for sizes that cannot be tied.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 -- theirs

    def __init__(self, config: TreeringConfig) -> None:
        super().__init__(config)
        if config.bidirectional:
            raise UserError(
                "a bidirectional layer sees the token it should predict; set bidirectional=False"
                " for TreeringForCausalLM"
            )
        self.model = TreeringModel(config)
        width = self.model.layer.output_size
        if config.tie_word_embeddings and width != config.embedding_size:
            raise UserError(
                f"tie_word_embeddings needs embedding_size ({config.embedding_size}) equal to the"
                f" layer's output size ({width}); set embedding_size={width} or"
                " tie_word_embeddings=False"
            )
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache_params: RecurrentCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> TreeringCausalLMOutput | tuple[Any, ...]:
        """Logits of the next token at every position, and the loss if labels are given.

        labels: (B, T), usually the input_ids; they are shifted here, and -100 is left out.
        logits_to_keep: only the last so many positions (0: all), or the positions in a tensor.
        Everything else as for `TreeringModel`; further keywords go to the loss function.
        """
        output = self.model(
            input_ids,
            attention_mask,
            inputs_embeds,
            position_ids,
            cache_params,
            use_cache,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        result = TreeringCausalLMOutput(loss, logits, output.cache_params)
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return result if wants_dict else result.to_tuple()

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool | None = False,
        cache_params: RecurrentCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The call that reads what the carried state has not seen yet.

        Without a state that is the whole of `input_ids`, or `inputs_embeds` as the prompt;
        afterwards the last token, or what follows a state the caller brought along.
        """
        if past_key_values is not None:
            raise UserError(
                "past_key_values belong to attention; a treering model is carried on with"
                " cache_params=..., as an earlier call returned it"
            )
        seen = 0 if cache_params is None else cache_params.seen
        inputs: dict[str, Any] = {"use_cache": use_cache, "cache_params": cache_params}
        if inputs_embeds is not None and seen < inputs_embeds.shape[1]:
            unread = inputs_embeds[:, seen:]
            inputs["inputs_embeds"] = unread
        else:
            unread = input_ids[:, -1:] if inputs_embeds is not None else input_ids[:, seen:]
            inputs["input_ids"] = unread
        if unread.shape[1] == 0:
            raise UserError(
                f"cache_params has read {seen} tokens and input_ids holds {input_ids.shape[1]};"
                " give generate the whole sequence, with at least one token behind those"
            )
        if attention_mask is not None:
            mask = attention_mask[:, -unread.shape[1] :]
            if not bool(mask[:, -1].all()):
                raise UserError(
                    "generate goes on behind the last position, and attention_mask has padding"
                    " there; pad prompts at the left (tokenizer.padding_side = 'left')"
                )
            inputs["attention_mask"] = mask
        if logits_to_keep is not None:
            inputs["logits_to_keep"] = logits_to_keep
        return inputs

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """`generate` must not make a key-value cache: the state is made by the first call."""
        return False

    def _reorder_cache(self, cache_params: RecurrentCache, beam_idx: Tensor) -> RecurrentCache:
        """The state of the beams that go on; `generate` asks for it under this name."""
        return cache_params.select(beam_idx)

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Any = None,
        **model_kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """One row for every beam; transformers repeats tensors, this also a given state."""
        cache = model_kwargs.get("cache_params")
        if cache is not None and expand_size > 1:
            model_kwargs["cache_params"] = cache.repeat(expand_size)
        return super()._expand_inputs_for_generation(  # pyright: ignore[reportAttributeAccessIssue]
            expand_size=expand_size,
            is_encoder_decoder=is_encoder_decoder,
            input_ids=input_ids,
            **model_kwargs,
        )
