"""An Lp penalty on each of an LSTM's eight matrices, with p of 0.5, 1 and 2; on all; learned."""

from treering.experiments.abstract import Claim, Experiment
from treering.experiments.judging import gains
from treering.experiments.tree_order import protocol
from treering.experiments.tree_order.protocol import READING, SOURCE, TASKS

MATRICES = tuple(f"{letter}_{gate}" for letter in "UW" for gate in "ifgo")
EXPONENTS = (0.5, 1.0, 2.0)
ALL = tuple(f"lstm+lp:exponents={p}" for p in EXPONENTS)
LEARNED = "lstm+lp:exponents=1.0:learned=true"
ALONE = tuple(f"lstm+lp:exponents={p}:matrices={m}" for m in MATRICES for p in EXPONENTS)

PENALTIES = Experiment(
    name="tree-order/penalties",
    title="Lp penalties",
    source=SOURCE,
    claims=(
        *(
            Claim(
                "An Lp penalty on all eight matrices improves an LSTM",
                "better",
                gains(task, layer, "lstm"),
                where=f"{task} with p = {p:g}",
            )
            for task in TASKS
            for p, layer in zip(EXPONENTS, ALL, strict=True)
        ),
        *(
            Claim(
                "Weights and exponents learned with the loss improve an LSTM",
                "better",
                gains(task, LEARNED, "lstm"),
                where=task,
            )
            for task in TASKS
        ),
    ),
    cpu=protocol.cpu("lstm", *ALL, LEARNED, *ALONE),
    paper=protocol.paper("lstm", *ALL, LEARNED, *ALONE),
    reading=READING + " Every penalty has the weight 1e-4.",
)
