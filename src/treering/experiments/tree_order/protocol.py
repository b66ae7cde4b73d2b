"""What the experiments on R8 and Amazon Fine Food Reviews share."""

from treering.experiments.abstract import Grid

SOURCE = "arXiv 2509.00087"
TASKS = ("r8", "fine-foods")
SEEDS, PAPER_SEEDS = 5, 10
READING = (
    "32 tokens, embedding 100, hidden 50, learning rate 0.01, 50 epochs are the paper's; batch size"
    " 128, clipping at 1 and Adam are ours. Of the reviews 10,210 different ones are used, not the"
    " 568,454 of the whole set."
)


def grids(layers: tuple[str, ...], seeds: int) -> tuple[Grid, ...]:
    """The layers on both data sets, with the paper's settings, which are the presets."""
    return tuple(Grid(task, layers, seeds) for task in TASKS)
