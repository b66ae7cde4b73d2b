"""Gradients by position and gates: what order and nonlinear gates change inside."""

from treering.experiments.abstract import OPEN, Claim, Experiment
from treering.experiments.judging import measures_more
from treering.experiments.measures import gate_mean, gate_saturation, gradient_reach
from treering.experiments.tree_order import protocol
from treering.experiments.tree_order.protocol import READING, SOURCE, TASKS

NONLINEAR = "nonlinear-gate-lstm"
LAYERS = ("lstm", "lstm+tree-order", NONLINEAR)
REACH, FORGET, SATURATED = (
    "log10 of early over last gradient",
    "mean of the forget gate",
    "share of saturated forget gates",
)

INSIDE = Experiment(
    name="tree-order/inside",
    title="Gradients by position, and gates",
    source=SOURCE,
    claims=tuple(
        Claim(what, published, measures_more(task, layer, "lstm", measure), where=task)
        for task in TASKS
        for what, published, layer, measure in (
            (
                "The tree order lets more of the gradient reach the first tokens",
                "longer memory",
                "lstm+tree-order",
                REACH,
            ),
            ("Nonlinear forget gates stay further open", OPEN, NONLINEAR, FORGET),
            (
                "Nonlinear forget gates are more often fully open or shut",
                OPEN,
                NONLINEAR,
                SATURATED,
            ),
        )
    ),
    cpu=protocol.cpu(*LAYERS),
    paper=protocol.paper(*LAYERS),
    measures={REACH: gradient_reach, FORGET: gate_mean("f"), SATURATED: gate_saturation("f")},
    reading=READING,
)
