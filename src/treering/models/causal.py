"""Which layers give an output that later tokens cannot change."""

from treering._errors import UserError
from treering.layers import Reordered
from treering.models.baselines import Baseline
from treering.models.layer import Layer


def refuse_baseline(layer: Layer, model: str) -> None:
    """UserError for a baseline of the formal-language benchmark, which answers after its input."""
    if isinstance(layer, Baseline):
        raise UserError(
            f"{type(layer).__name__} is a baseline of the formal-language benchmark and reads"
            f" whole inputs; for {model} use a layer of treering.layers"
        )


def refuse_later_tokens(layer: Layer, rule: str) -> None:
    """UserError, opening with `rule`, for a layer whose output at a token depends on later ones."""
    if isinstance(layer, Reordered):
        raise UserError(f"{rule}, and a layer in {layer.order} order does; use the layer itself")
    if layer.bidirectional:
        raise UserError(
            f"{rule}, and a bidirectional {type(layer).__name__} does; use bidirectional=False"
        )


def refuse_trees(layer: Layer, model: str) -> None:
    """UserError for a layer that merges along trees that come with the inputs; `model` has none."""
    if getattr(layer, "reads_ranks", False):
        raise UserError(
            f"{model} has no trees for a layer under Tree('given'); use another schedule, or a"
            " Classifier"
        )


def refuse_time_first(layer: Layer, model: str) -> None:
    """UserError for a layer that does not read (batch, time), as `model` does."""
    inner = layer.layer if isinstance(layer, Reordered) else layer
    if not inner.batch_first:
        raise UserError(
            f"{model} reads (batch, time), and this {type(inner).__name__} reads (time, batch);"
            " build it with batch_first=True"
        )
