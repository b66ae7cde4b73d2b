"""What a model may have between its inputs and its head."""

from treering.layers import Recurrent, Reordered
from treering.models.baselines import Baseline

Layer = Recurrent | Reordered | Baseline
