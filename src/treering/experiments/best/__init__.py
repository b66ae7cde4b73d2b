"""How far the library's own layers get from scratch, without pretrained vectors."""

from treering.experiments.best.imdb import IMDB
from treering.experiments.best.r8 import R8

EXPERIMENTS = (R8, IMDB)
