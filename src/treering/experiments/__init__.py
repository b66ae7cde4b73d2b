"""Every claim of the founding papers as an experiment: `get`, `names`, `all_of`."""

from treering._errors import UserError, nearest
from treering.experiments import best, pr_lstm, ql_lstm, tree_order
from treering.experiments.abstract import Budget as Budget
from treering.experiments.abstract import Claim as Claim
from treering.experiments.abstract import Experiment as Experiment
from treering.experiments.abstract import Finding as Finding
from treering.experiments.abstract import Grid as Grid
from treering.experiments.abstract import Search as Search
from treering.experiments.outcome import Outcome as Outcome
from treering.experiments.outcome import Row as Row

_EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        *pr_lstm.EXPERIMENTS,
        *ql_lstm.EXPERIMENTS,
        *tree_order.EXPERIMENTS,
        *best.EXPERIMENTS,
    )
}


def names() -> tuple[str, ...]:
    """Names of all experiments, paper by paper."""
    return tuple(_EXPERIMENTS)


def get(name: str) -> Experiment:
    """The experiment of that name; UserError with the nearest names if there is none."""
    if name not in _EXPERIMENTS:
        raise UserError(nearest(name, _EXPERIMENTS, "experiment"))
    return _EXPERIMENTS[name]
