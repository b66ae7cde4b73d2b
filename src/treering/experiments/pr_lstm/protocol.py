"""What the PR-LSTM experiments share: the paper's settings and what two cores have time for."""

from collections.abc import Mapping

from treering.experiments.abstract import Option

SOURCE = "arXiv 2605.17108"
REGULAR_TASKS = ("even_pairs", "modular_arithmetic", "parity_check", "cycle_navigation")
TASKS = (
    *REGULAR_TASKS,
    "stack_manipulation",
    "reverse_string",
    "modular_arithmetic_brackets",
    "solve_equation",
    "duplicate_string",
    "missing_duplicate_string",
    "odds_first",
    "binary_addition",
    "binary_multiplication",
    "compute_sqrt",
    "bucket_sort",
)

PAPER: Mapping[str, Option] = {
    "hidden_size": 256,
    "steps": 1_000_000,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "train_length": 40,
    "test_length": 500,
    "test_every": 1,
    "test_samples": 512,
}
"""The paper's: all 460 lengths 41..500, one million updates."""
PAPER_SEEDS = 10
"""The benchmark's; the authors' code has one."""
