"""The four regular languages: does the rule hold at lengths never trained on?"""

from treering.experiments.abstract import Claim, Experiment, Grid, Option, over
from treering.experiments.judging import all_reach
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS, REGULAR_TASKS, SOURCE

LAYERS = ("pr-lstm", "lstm")
STEPS = {
    "even_pairs": 4_000,
    "parity_check": 4_000,
    "cycle_navigation": 20_000,
    "modular_arithmetic": 150_000,
}
"""Products before sums make a span's state far richer than a place on a ring, or a bit."""


def cpu(task: str, seeds: int, **tested: Option) -> Grid:
    """Both layers on one of the tasks, as two cores have time for.

    tested: lengths of the test in place of 41..500.

    Short lengths first where few updates do. Not on modular arithmetic, which needs all of them at
    the longest: how it goes on beyond them follows its training loss.
    """
    options: dict[str, Option] = {
        "hidden_size": 128,
        "steps": STEPS[task],
        "learning_rate": 3e-3,
        "learning_rate_schedule": "cosine",
        "warmup_steps": 500,
        "curriculum": "uniform" if task == "modular_arithmetic" else "growing",
        **tested,
    }
    return Grid(task, LAYERS, seeds, options)


REGULAR = Experiment(
    name="pr-lstm/regular",
    title="The four regular languages",
    source=f"{SOURCE}, Table 2",
    claims=(
        Claim(
            "PR-LSTM is over 99% at lengths 41..500 on all four regular tasks",
            "100%",
            all_reach(REGULAR_TASKS, "pr-lstm", 0.99),
        ),
        Claim(
            "An LSTM is over 99% on all four as well",
            "100%",
            all_reach(REGULAR_TASKS, "lstm", 0.99),
        ),
    ),
    # Runs of modular arithmetic take as long as those of all other tasks together.
    cpu=tuple(cpu(task, 3 if task == "modular_arithmetic" else 5) for task in REGULAR_TASKS),
    paper=tuple(over(REGULAR_TASKS, LAYERS, PAPER_SEEDS, **PAPER)),
)
