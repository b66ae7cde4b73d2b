"""What the experiments on R8 and Amazon Fine Food Reviews share."""

from treering.experiments.abstract import Grid

SOURCE = "arXiv 2509.00087"
FOODS = "fine-foods-binary"
TASKS = ("r8", FOODS)
SEEDS, PAPER_SEEDS = 5, 10
FOODS_EPOCHS = 10
"""Of the budget `cpu`: after the first epochs these layers only learn the reviews by heart."""
READING = (
    "32 tokens, embedding 100, hidden 50, learning rate 0.01, 50 epochs are the paper's; batch size"
    " 128, clipping at 1 and Adam are ours. Of the reviews 10,210 different ones are used, not the"
    " 568,454 of the whole set, in two classes, five stars or fewer: of five classes no layer of"
    " these sizes learnt more than to answer five stars. On them the budget `cpu` ends after"
    f" {FOODS_EPOCHS} epochs; validation chooses among all epochs everywhere."
)


def cpu(*layers: str) -> tuple[Grid, ...]:
    """The layers on both data sets, with the paper's settings, which are the presets.

    But on Fine Foods for fewer epochs.
    """
    return Grid("r8", layers, SEEDS), Grid(FOODS, layers, SEEDS, {"epochs": FOODS_EPOCHS})


def paper(*layers: str) -> tuple[Grid, ...]:
    """The layers on both data sets, with the paper's settings, which are the presets."""
    return tuple(Grid(task, layers, PAPER_SEEDS) for task in TASKS)
