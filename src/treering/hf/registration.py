"""Which class transformers' Auto classes build for the model type "treering"."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from treering.hf.causal_lm import TreeringForCausalLM
from treering.hf.classification import TreeringForSequenceClassification
from treering.hf.configuration import TreeringConfig
from treering.hf.model import TreeringModel


def register() -> None:
    """Make the Auto classes know treering's models; doing it again changes nothing."""
    AutoConfig.register(TreeringConfig.model_type, TreeringConfig, exist_ok=True)
    AutoModel.register(TreeringConfig, TreeringModel, exist_ok=True)
    AutoModelForCausalLM.register(TreeringConfig, TreeringForCausalLM, exist_ok=True)
    AutoModelForSequenceClassification.register(
        TreeringConfig, TreeringForSequenceClassification, exist_ok=True
    )
