"""The best accuracy on R8 that these layers reach, chosen on validation alone."""

from collections.abc import Mapping
from functools import partial

from treering.experiments.abstract import OPEN, Claim, Experiment, Option, Search, Suggest
from treering.experiments.best import space
from treering.experiments.judging import reaches


def _draw(trial: Suggest, epochs: int) -> tuple[str, Mapping[str, Option]]:
    layer, options = space.draw(trial)
    return layer, {**options, "max_tokens": 1000, "epochs": epochs, "batch_size": 32}


R8 = Experiment(
    name="best/r8",
    title="R8, whole documents, from scratch",
    source="our question; the best graph method reports 97.07%",
    claims=(
        Claim("A layer of this library reaches 97% on R8", OPEN, reaches("r8", space.BEST, 0.97)),
    ),
    cpu=(),
    paper=(),
    searches={
        "cpu": (Search("r8", space.BEST, partial(_draw, epochs=10), 16, 5),),
        "paper": (Search("r8", space.BEST, partial(_draw, epochs=30), 100, 10),),
    },
    reading="No pretrained vectors. Documents of up to 1,000 words, which is all of each.",
)
