"""The best accuracy on IMDB that these layers reach, chosen on validation alone."""

from collections.abc import Mapping
from functools import partial

from treering.experiments.abstract import OPEN, Claim, Experiment, Option, Search, Suggest
from treering.experiments.best import space
from treering.experiments.judging import reaches


def _draw(trial: Suggest, epochs: int, tokens: int) -> tuple[str, Mapping[str, Option]]:
    layer, options = space.draw(trial)
    return layer, {**options, "max_tokens": tokens, "epochs": epochs, "batch_size": 64}


IMDB = Experiment(
    name="best/imdb",
    title="IMDB from scratch",
    source="our question",
    claims=(
        Claim(
            "A layer of this library reaches 90% on IMDB",
            OPEN,
            reaches("imdb", space.BEST, 0.90),
        ),
    ),
    cpu=(),
    paper=(),
    searches={
        "cpu": (Search("imdb", space.BEST, partial(_draw, epochs=3, tokens=400), 8, 3),),
        "paper": (Search("imdb", space.BEST, partial(_draw, epochs=10, tokens=2000), 60, 10),),
    },
    reading="No pretrained vectors, none of the unlabelled reviews.",
)
