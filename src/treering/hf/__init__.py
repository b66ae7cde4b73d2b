"""treering's layers as Hugging Face transformers models.

    import treering.hf  # registers the model type "treering" with the Auto classes
    from treering.hf import TreeringConfig, TreeringForCausalLM

    model = TreeringForCausalLM(TreeringConfig(layer="pr-lstm", vocab_size=64, hidden_size=32))
    model.save_pretrained("folder")
    model = transformers.AutoModelForCausalLM.from_pretrained("folder")

`TreeringModel` is an embedding and a layer, `TreeringForSequenceClassification` reads the layer's
last output, `TreeringForCausalLM` predicts the next token and generates. Configurations hold the
layer by its registered name, so a folder can be loaded wherever treering is installed.

Needs the extra: pip install 'treering[hf]'. `import treering` alone never loads transformers.
"""

from treering.hf import _extra as _extra
from treering.hf.cache import RecurrentCache as RecurrentCache
from treering.hf.causal_lm import TreeringCausalLMOutput as TreeringCausalLMOutput
from treering.hf.causal_lm import TreeringForCausalLM as TreeringForCausalLM
from treering.hf.classification import (
    TreeringForSequenceClassification as TreeringForSequenceClassification,
)
from treering.hf.configuration import TreeringConfig as TreeringConfig
from treering.hf.model import TreeringModel as TreeringModel
from treering.hf.model import TreeringOutput as TreeringOutput
from treering.hf.model import TreeringPreTrainedModel as TreeringPreTrainedModel
from treering.hf.registration import register

register()
del register
