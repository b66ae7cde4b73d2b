"""What the referee asked: the tree without its merge, the merge without its tree."""

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import gains
from treering.experiments.pr_lstm.ablation import CPU
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS, REGULAR_TASKS, SOURCE

TASKS = REGULAR_TASKS
LAYERS = (
    "pr-lstm",
    "pr-lstm:schedule=left",
    "pr-lstm:schedule=random",
)

BRACKETS = Experiment(
    name="pr-lstm/brackets",
    title="The tree without its merge, the merge without its tree",
    source=f"{SOURCE}; asked in its review, open",
    claims=tuple(
        Claim(
            f"The balanced tree is better than the same merge from left to right ({task})",
            OPEN,
            gains(task, "pr-lstm", "pr-lstm:schedule=left"),
        )
        for task in TASKS
    ),
    cpu=tuple(over(TASKS, LAYERS, seeds=3, **CPU)),
    paper=tuple(over(TASKS, LAYERS, PAPER_SEEDS, **PAPER)),
)
