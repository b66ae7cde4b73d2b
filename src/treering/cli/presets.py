"""What a command uses for options that were not given, by kind of task."""

from typing import Any

GENERATED: dict[str, Any] = {
    "hidden_size": 64,
    "steps": 10_000,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "clip": 1.0,
    "train_length": 40,
    "test_length": 500,
    # An odd distance, so that odd and even lengths are both judged.
    "test_every": 17,
    "test_samples": 512,
}
"""The benchmark's protocol with a smaller model, fewer steps and a coarser grid of lengths."""

R8: dict[str, Any] = {
    "max_tokens": 32,
    "embedding_size": 100,
    "hidden_size": 50,
    "epochs": 50,
    "batch_size": 128,
    "learning_rate": 0.01,
    "clip": 1.0,
}
"""arXiv 2509.00087's settings; it says nothing of batch size and clipping."""

FINE_FOODS: dict[str, Any] = R8
"""The same paper's second data set, with the same settings."""

IMDB: dict[str, Any] = {
    "max_tokens": 500,
    "max_words": 20_000,
    "embedding_size": 100,
    "hidden_size": 128,
    "epochs": 5,
    "batch_size": 64,
    "bucket": 20,
    "learning_rate": 1e-3,
    "clip": 1.0,
}
"""Our choice: arXiv 2512.06582, which uses this data set, does not publish its own."""

SST: dict[str, Any] = {
    "embedding_size": 100,
    "hidden_size": 128,
    "epochs": 10,
    "batch_size": 32,
    "bucket": 20,
    "learning_rate": 1e-3,
    "clip": 1.0,
}
"""Our choice, for training from scratch."""

LOGICAL_INFERENCE: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_size": 128,
    "epochs": 20,
    "batch_size": 128,
    "bucket": 20,
    "learning_rate": 1e-3,
    "clip": 1.0,
}
"""Batch, learning rate and clipping of Shen et al., "Ordered Memory" (2019), with a smaller model
and fewer epochs."""

FILE: dict[str, Any] = {
    "max_tokens": 128,
    "embedding_size": 64,
    "hidden_size": 64,
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "clip": 1.0,
}
"""For a file of some hundred or some ten thousand texts."""

LISTOPS: dict[str, Any] = {
    "max_tokens": 128,
    "embedding_size": 128,
    "hidden_size": 128,
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "clip": 1.0,
}
"""Trained on the eleven in twelve expressions that have at most 128 tokens, tested on all."""

TEXT: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_size": 128,
    "epochs": 10,
    "batch_size": 32,
    "truncate": 64,
    "learning_rate": 3e-3,
    "clip": 1.0,
}
"""For a language model of a continuous text of some hundred thousand characters or words."""

WIKITEXT2: dict[str, Any] = {
    **TEXT,
    "embedding_size": 200,
    "hidden_size": 200,
    "epochs": 6,
    "batch_size": 20,
    "truncate": 35,
    "learning_rate": 1e-3,
}
"""Sizes, streams and tokens an update of PyTorch's example of a word language model; with Adam."""

BY_KIND: dict[str, dict[str, Any]] = {
    "generated": GENERATED,
    "file": FILE,
    "r8, fine-foods": R8,
    "imdb": IMDB,
    "listops": LISTOPS,
    "sst": SST,
    "logical-inference": LOGICAL_INFERENCE,
    "text": TEXT,
    "wikitext2": WIKITEXT2,
}
"""As `--help` names them."""
