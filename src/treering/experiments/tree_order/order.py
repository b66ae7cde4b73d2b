"""Centre first: is an LSTM better when it reads the middle of a text first?"""

from treering.experiments.abstract import OPEN, Claim, Experiment
from treering.experiments.judging import gains, reaches
from treering.experiments.tree_order import protocol
from treering.experiments.tree_order.protocol import READING, SOURCE, TASKS

ORDERED = "lstm+tree-order"
LAYERS = ("lstm", ORDERED, "gru", "gru+tree-order", "pr-lstm", "pr-lstm+tree-order")

ORDER = Experiment(
    name="tree-order/order",
    title="Centre first",
    source=SOURCE,
    claims=(
        Claim("An LSTM reaches 84.1% on R8", "84.1%", reaches("r8", "lstm", 0.841)),
        *(
            Claim(
                "The tree order improves an LSTM",
                "+0.9 points" if task == "r8" else "better",
                gains(task, ORDERED, "lstm", published=0.009 if task == "r8" else None),
                where=task,
            )
            for task in TASKS
        ),
        *(
            Claim(
                "PR-LSTM is better than an LSTM on short texts",
                OPEN,
                gains(task, "pr-lstm", "lstm"),
                task,
            )
            for task in TASKS
        ),
    ),
    cpu=protocol.cpu(*LAYERS),
    paper=protocol.paper(*LAYERS),
    published={("r8", "lstm"): 0.841, ("r8", ORDERED): 0.850},
    reading=READING,
)
