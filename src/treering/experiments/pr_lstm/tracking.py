"""State tracking and recall: group word problems, streaming parity, key-value pairs."""

from treering.experiments.abstract import OPEN, Claim, Experiment, over
from treering.experiments.judging import gains, reaches

GROUPS = ("word_problem_s3", "word_problem_a5", "word_problem_s5")
TASKS = ("streaming_parity", *GROUPS, "mqar")
LAYERS = ("pr-lstm", "lstm", "gru", "min-gru")
CPU = {
    "hidden_size": 128,
    "steps": 3_000,
    "learning_rate": 3e-3,
    "train_length": 40,
    "test_length": 120,
    "test_every": 13,
    "test_samples": 128,
}

TRACKING = Experiment(
    name="pr-lstm/tracking",
    title="State tracking and recall",
    source="our addition; tasks: Merrill et al. 2024, Arora et al. 2023",
    claims=(
        *(
            Claim(
                "PR-LSTM tracks the state at 41..120",
                OPEN,
                reaches(task, "pr-lstm", 0.9),
                where=task,
            )
            for task in ("streaming_parity", *GROUPS)
        ),
        *(
            Claim(
                "PR-LSTM is better than an LSTM at tracking and recall",
                OPEN,
                gains(task, "pr-lstm", "lstm"),
                where=task,
            )
            for task in TASKS
        ),
    ),
    cpu=tuple(over(TASKS, LAYERS, 1, **CPU)),
    paper=tuple(over(TASKS, LAYERS, 5, **{**CPU, "steps": 100_000, "test_length": 500})),
    reading="An answer at every symbol; the score is its accuracy at all positions of the lengths.",
)
