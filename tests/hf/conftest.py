"""What has to happen before any test: no hub, and `torch.device` contexts that work.

huggingface_hub reads its variable when it is imported. A device context keeps PyTorch's own
allocating functions from the first time it is used; that must not be the poisoned ones of a test.
"""

import os

import torch

os.environ["HF_HUB_OFFLINE"] = "1"
with torch.device("meta"):
    assert torch.empty(1).is_meta
