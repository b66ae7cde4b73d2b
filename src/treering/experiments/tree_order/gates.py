"""Gates with a rectified layer: the forget gate alone, and all four."""

from treering.experiments.abstract import Claim, Experiment
from treering.experiments.judging import gains
from treering.experiments.tree_order import protocol
from treering.experiments.tree_order.protocol import READING, SOURCE, TASKS

FORMS = {
    "A nonlinear forget gate improves": "nonlinear-gate-lstm:gates=f",
    "Four nonlinear gates improve": "nonlinear-gate-lstm",
}

GATES = Experiment(
    name="tree-order/gates",
    title="Nonlinear gates",
    source=SOURCE,
    claims=tuple(
        Claim(f"{what} an LSTM", "better", gains(task, layer, "lstm"), where=task)
        for task in TASKS
        for what, layer in FORMS.items()
    ),
    cpu=protocol.cpu("lstm", *FORMS.values()),
    paper=protocol.paper("lstm", *FORMS.values()),
    reading=READING + " The paper does not spell its formula out; ours is in the layer's page.",
)
