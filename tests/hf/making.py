"""Small models, batches and a tokenizer for these tests.

Legend: B batch, T time.
"""

from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from treering.hf import TreeringConfig, TreeringPreTrainedModel

VOCABULARY, PAD = 23, 0
M = TypeVar("M", bound=TreeringPreTrainedModel)


def config(layer: str, **changes: Any) -> TreeringConfig:
    """Two layers, sizes that differ, weights large enough for outputs to differ."""
    options: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "embedding_size": 5,
        "hidden_size": 6,
        "num_layers": 2,
        "initializer_range": 4.0,
        "pad_token_id": PAD,
    }
    return TreeringConfig(layer=layer, **(options | changes))


def model(kind: type[M], layer: str, **changes: Any) -> M:
    """A model in float64, in evaluation mode."""
    return kind(config(layer, **changes)).double().eval()


def tokens(B: int, T: int, seed: int = 0) -> Tensor:
    """Tokens (B, T) that are no padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (B, T), generator=generator)


def padded(rows: list[Tensor], before: list[int], T: int) -> tuple[Tensor, Tensor]:
    """Rows of tokens in a batch (B, T), row b after before[b] paddings; and its mask."""
    batch = torch.full((len(rows), T), PAD)
    mask = torch.zeros(len(rows), T, dtype=torch.int64)
    for b, (row, start) in enumerate(zip(rows, before, strict=True)):
        batch[b, start : start + len(row)] = row
        mask[b, start : start + len(row)] = 1
    return batch, mask


def tokenizer() -> PreTrainedTokenizerFast:
    """A word tokenizer: w1 ... w22, padding 0."""
    words = {"<pad>": PAD, **{f"w{k}": k for k in range(1, VOCABULARY)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>")
