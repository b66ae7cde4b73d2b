"""Models that the formal-language benchmark compares with, to be trained beside treering's layers.

They are no recurrent layers of the register: no schedules, kernels, directions, `step` or export.
"""

from treering._errors import UserError, nearest
from treering.models.baselines.abstract import Baseline
from treering.models.baselines.stack_rnn import StackRNN
from treering.models.baselines.tape_rnn import TapeRNN
from treering.models.baselines.transformer import TransformerEncoder

_BASELINES: dict[str, type[Baseline]] = {
    "transformer": TransformerEncoder,
    "stack-rnn": StackRNN,
    "tape-rnn": TapeRNN,
}


def get(name: str) -> type[Baseline]:
    """The class known by `name` on the command line; UserError with the nearest names otherwise."""
    if name not in _BASELINES:
        raise UserError(nearest(name, _BASELINES, "baseline"))
    return _BASELINES[name]


def names() -> tuple[str, ...]:
    """All names."""
    return tuple(_BASELINES)


__all__ = ["Baseline", "StackRNN", "TapeRNN", "TransformerEncoder", "get", "names"]
