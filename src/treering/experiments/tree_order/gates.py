"""Gates with a rectified layer: the forget gate alone, and all four."""

from treering.experiments.abstract import Claim, Experiment
from treering.experiments.judging import gains
from treering.experiments.tree_order.protocol import (
    PAPER_SEEDS,
    READING,
    SEEDS,
    SOURCE,
    TASKS,
    grids,
)

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
    cpu=grids(("lstm", *FORMS.values()), SEEDS),
    paper=grids(("lstm", *FORMS.values()), PAPER_SEEDS),
    reading=READING + " The paper does not spell its formula out; ours is in the layer's page.",
)
