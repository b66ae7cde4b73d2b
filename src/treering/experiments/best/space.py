"""What is searched for the best accuracy: layer, pooling, sizes, regularisation."""

from collections.abc import Mapping

from treering.experiments.abstract import Option, Suggest

LAYERS = (
    "lstm:bidirectional=true",
    "gru:bidirectional=true",
    # Without bounds it diverges over hundreds of words.
    "ql-lstm:bounded=true:bidirectional=true",
    "min-gru:bidirectional=true",
)
BEST = "best of all layers, searched"


def draw(trial: Suggest) -> tuple[str, dict[str, Option]]:
    """One setting, of a layer in both directions over whole documents."""
    rate = trial.suggest_float("learning rate", 5e-4, 5e-3, log=True)
    decay = trial.suggest_float("weight decay", 1e-4, 1.0, log=True)
    layer = trial.suggest_categorical("layer", LAYERS)
    options: Mapping[str, Option] = {
        "pooling": trial.suggest_categorical("pooling", ("max", "mean")),
        "hidden_size": trial.suggest_categorical("hidden size", (64, 128)),
        "embedding_size": trial.suggest_categorical("embedding size", (100, 200)),
        "dropout": trial.suggest_categorical("dropout", (0.2, 0.3, 0.5, 0.6)),
        "learning_rate": float(f"{rate:.2e}"),
        "weight_decay": float(f"{decay:.2e}"),
        "learning_rate_schedule": "cosine",
        "bucket": 20,
    }
    return layer, dict(options)
