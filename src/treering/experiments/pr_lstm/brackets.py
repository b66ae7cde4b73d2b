"""What the referee asked: the tree without its merge, the merge without its tree."""

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import gains
from treering.experiments.pr_lstm.ablation import CPU
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS, REGULAR_TASKS, SOURCE

LEFT = "pr-lstm:schedule=left"
# With a refinement after it a sum is not linear any more; without one it is.
PLAIN = tuple(
    f"pr-lstm:merging={merging}:refinements={refinements}"
    for merging in ("sum", "linear")
    for refinements in (0, 1)
)
LAYERS = ("pr-lstm", LEFT, "pr-lstm:schedule=random", *PLAIN)

BRACKETS = Experiment(
    name="pr-lstm/brackets",
    title="The tree without its merge, the merge without its tree",
    source=f"{SOURCE}; asked in its review, open",
    claims=(
        *(
            Claim(
                "The balanced tree is better than the same merge from left to right",
                OPEN,
                gains(task, "pr-lstm", LEFT),
                where=task,
            )
            for task in REGULAR_TASKS
        ),
        *(
            Claim(
                "The gated merge is better than a sum with a refinement after it",
                OPEN,
                gains(task, "pr-lstm", "pr-lstm:merging=sum:refinements=1"),
                where=task,
            )
            for task in REGULAR_TASKS
        ),
    ),
    cpu=tuple(over(REGULAR_TASKS, LAYERS, seeds=3, **CPU)),
    paper=tuple(over(REGULAR_TASKS, LAYERS, PAPER_SEEDS, **PAPER)),
    reading="`sum` adds both states, `linear` maps them without gates; `refinements=0` leaves"
    " nothing after it. `left` is a loop, `random` one random tree for all sequences.",
)
