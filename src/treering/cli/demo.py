"""`treering demo`: the three systems learn parity, in minutes."""

from treering.cli.options import RunOptions, TrainingOptions
from treering.cli.output import show
from treering.cli.queue import run_all
from treering.cli.runs import prepare
from treering.cli.specs import parse_list

TASK = "parity_check"
LAYERS = "lstm,ql-lstm,pr-lstm"
BUDGET = TrainingOptions(
    steps=4000, validate_every=200, stop_at=1.0, test_every=51, test_samples=256
)
"""For two cores and four minutes: a model that has learnt stops, one that has not is shown so."""


def demo_(*, run_options: RunOptions | None = None) -> None:
    """Watch an LSTM, a QL-LSTM and a PR-LSTM learn parity, and test them to length 500.

    Example: treering demo

    Parity of up to 40 bits is trained on: does the model find the rule, and does the rule hold on
    sequences twelve times longer? One seed, a small budget: a first look, not a verdict.
    """
    protocol = prepare(TASK, None, None, BUDGET, run_options)
    records = run_all(protocol, parse_list(LAYERS), [0])
    page = protocol.run.out / "demo.html"
    show(records, page, "treering demo: parity, trained to length 40", protocol.run.json)
