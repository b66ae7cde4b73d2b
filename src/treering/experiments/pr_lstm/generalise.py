"""Our addition: does a merge that is nearly associative hold for longer sequences?"""

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import gains
from treering.experiments.pr_lstm.ablation import CPU
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS

TASKS = ("parity_check", "cycle_navigation")
ASSOCIATIVE = "pr-lstm+associativity:weight=0.01"
DRAWN = "pr-lstm:schedule=random-in-training"

GENERALISE = Experiment(
    name="pr-lstm/generalise",
    title="Associativity and drawn brackets",
    source="our addition",
    claims=tuple(
        Claim(
            f"{what} improves PR-LSTM at 41..500", OPEN, gains(task, layer, "pr-lstm"), where=task
        )
        for task in TASKS
        for what, layer in (
            ("An associativity penalty", ASSOCIATIVE),
            ("A bracket drawn at every step of training", DRAWN),
        )
    ),
    cpu=tuple(over(TASKS, ("pr-lstm", ASSOCIATIVE, DRAWN), seeds=3, **CPU)),
    paper=tuple(over(TASKS, ("pr-lstm", ASSOCIATIVE, DRAWN), PAPER_SEEDS, **PAPER)),
)
