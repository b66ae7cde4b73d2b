"""One answer a sequence.

Legend: B batch, T time, E embedding size, C labels.
"""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from treering.hf.configuration import TreeringConfig
from treering.hf.model import TreeringModel, TreeringPreTrainedModel


class TreeringForSequenceClassification(TreeringPreTrainedModel):
    """Embedding -> layer -> linear on each row's last output (for two directions, both lasts).

    The loss follows `config.problem_type`, or is chosen from labels and `num_labels` as
    everywhere in transformers: regression, one label, several labels.
    Cost: `layer.reduce`, for a tree T - 1 merges instead of about 2 T.
    """

    # The loss is a mean over the batch, so Trainer has to average over accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: TreeringConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = TreeringModel(config)
        self.score = nn.Linear(self.model.layer.output_size, config.num_labels or 0, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Logits (B, C), and the loss if labels are given: (B,) classes, or (B, C) numbers.

        input_ids, attention_mask, inputs_embeds: as for `TreeringModel`. Without an attention
        mask every token is read, whatever `pad_token_id` says.
        """
        output = self.model(
            input_ids, attention_mask, inputs_embeds, last_only=True, return_dict=True, **kwargs
        )
        logits = self.score(output.pooler_output)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, pooled_logits=logits, config=self.config
            )
        output = SequenceClassifierOutput(loss=loss, logits=logits)
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()
