"""Our addition: trained to length 40, tested to length 10,000."""

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import gains, reaches_at
from treering.experiments.pr_lstm.protocol import PAPER, PAPER_SEEDS
from treering.experiments.pr_lstm.regular import LAYERS, cpu

TASKS = ("parity_check", "even_pairs", "cycle_navigation")
LENGTHS = {"test_length": 10_000, "test_every": 2_489}

LONG = Experiment(
    name="pr-lstm/long",
    title="Lengths to 10,000",
    source="our addition",
    claims=(
        *(
            Claim(
                f"{layer} is over 99% at length 9,997",
                OPEN,
                reaches_at(task, layer, 9_997, 0.99),
                where=task,
            )
            for task in TASKS
            for layer in LAYERS
        ),
        *(
            Claim("PR-LSTM holds better than an LSTM", OPEN, gains(task, *LAYERS), where=task)
            for task in TASKS
        ),
    ),
    cpu=tuple(
        cpu(task, 3, layer, test_samples=64, **LENGTHS) for task in TASKS for layer in LAYERS
    ),
    paper=tuple(over(TASKS, LAYERS, PAPER_SEEDS, **{**PAPER, **LENGTHS})),
)
