"""Whole models: something in front of a recurrent layer and something behind it."""

from treering.models import baselines as baselines
from treering.models.classifier import Classifier as Classifier
from treering.models.language_model import LanguageModel as LanguageModel
from treering.models.pair_classifier import PairClassifier as PairClassifier
from treering.models.tagger import Tagger as Tagger
from treering.models.transducer import Transducer as Transducer
