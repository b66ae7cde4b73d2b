"""The four regular languages: does the rule hold at lengths never trained on?"""

from treering.experiments.abstract import OPEN, Claim, Experiment, Grid, Option, over
from treering.experiments.judging import all_reach, gains, reaches
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS, REGULAR_TASKS, SOURCE

LAYERS = ("pr-lstm", "lstm")
VARIED = "pr-lstm:schedule=varied-in-training"
ARITHMETIC = "modular_arithmetic"
STEPS = {"even_pairs": 4_000, "parity_check": 4_000, "cycle_navigation": 20_000}
CPU = {
    "hidden_size": 128,
    "learning_rate": 3e-3,
    "learning_rate_schedule": "cosine",
    "warmup_steps": 500,
}
# Products before sums make a span's state far richer than a place on a ring, or a bit. It needs
# many more updates, of all lengths at once; PR-LSTM's kernel is faster in bfloat16.
ARITHMETIC_CPU = {**CPU, "steps": 100_000}


def cpu(task: str, seeds: int, **tested: Option) -> Grid:
    """Both layers on a task other than arithmetic, short lengths first, as two cores have time for.

    tested: lengths of the test in place of 41..500.
    """
    options: dict[str, Option] = {**CPU, "steps": STEPS[task], "curriculum": "growing", **tested}
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
        Claim(
            "With brackets varied in training PR-LSTM is over 99% on modular arithmetic",
            OPEN,
            reaches(ARITHMETIC, VARIED, 0.99),
        ),
        Claim(
            "Brackets varied in training are better than the balanced one alone",
            OPEN,
            gains(ARITHMETIC, VARIED, "pr-lstm"),
        ),
    ),
    cpu=(
        *(cpu(task, 5) for task in STEPS),
        # Two seeds: these runs are the longest by far.
        Grid(ARITHMETIC, ("pr-lstm", VARIED), 2, {**ARITHMETIC_CPU, "precision": "bfloat16"}),
        Grid(ARITHMETIC, ("lstm",), 2, ARITHMETIC_CPU),
    ),
    paper=(
        *over(REGULAR_TASKS, LAYERS, PAPER_SEEDS, **PAPER),
        Grid(ARITHMETIC, (VARIED,), PAPER_SEEDS, PAPER),
    ),
    reading="Under a balanced tree 40 tokens are six merges deep and 500 are nine. Varied brackets"
    " are our addition: every other update, on average, under a random tree over pairs of tokens;"
    " tests are under the balanced tree. On the budget `cpu` the products of PR-LSTM's training on"
    " modular arithmetic are in bfloat16.",
)
