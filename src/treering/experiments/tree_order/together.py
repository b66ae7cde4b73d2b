"""The paper's open questions 1 and 2: with both directions, and all three parts together."""

from treering.experiments.abstract import OPEN, Claim, Experiment
from treering.experiments.judging import gains
from treering.experiments.tree_order import protocol
from treering.experiments.tree_order.protocol import READING, SOURCE, TASKS

BOTH_WAYS = "lstm:bidirectional=true"
BOTH_ORDERED = "lstm:bidirectional=true+tree-order"
THREE = "nonlinear-gate-lstm+tree-order+lp"
THREE_BOTH = "nonlinear-gate-lstm:bidirectional=true+tree-order+lp"

TOGETHER = Experiment(
    name="tree-order/together",
    title="All three together, and in both directions",
    source=f"{SOURCE}, its open questions 1 and 2",
    claims=tuple(
        Claim(what, OPEN, gains(task, layer, base), where=task)
        for task in TASKS
        for what, layer, base in (
            ("The tree order improves a bidirectional LSTM", BOTH_ORDERED, BOTH_WAYS),
            ("All three together improve an LSTM", THREE, "lstm"),
            ("All three together improve a bidirectional LSTM", THREE_BOTH, BOTH_WAYS),
        )
    ),
    cpu=protocol.cpu("lstm", BOTH_WAYS, BOTH_ORDERED, THREE, THREE_BOTH),
    paper=protocol.paper("lstm", BOTH_WAYS, BOTH_ORDERED, THREE, THREE_BOTH),
    reading=READING,
)
