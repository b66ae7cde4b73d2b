"""`treering demo`: the three systems learn parity, in minutes."""

from treering.cli.options import RunOptions, TrainingOptions
from treering.cli.output import show
from treering.cli.runs import prepare, run_all
from treering.cli.specs import parse_list

TASK = "parity_check"
LAYERS = "lstm,ql-lstm,pr-lstm"
BUDGET = TrainingOptions(steps=1500, test_every=51, test_samples=256)
"""Small enough for two cores and four minutes; what does not learn in it is shown as it is."""


def demo_(*, run_options: RunOptions | None = None) -> None:
    """Watch an LSTM, a QL-LSTM and a PR-LSTM learn parity, and test them to length 500.

    Example: treering demo

    Parity of up to 40 bits is trained on: does the model find the rule, and does the rule hold on
    sequences ten times longer? One seed, a small budget: a first look, not a verdict.
    """
    protocol = prepare(TASK, None, None, BUDGET, run_options)
    records = run_all(protocol, parse_list(LAYERS), [0])
    page = protocol.run.out / "demo.html"
    show(records, page, "treering demo: parity, trained to length 40", protocol.run.json)
