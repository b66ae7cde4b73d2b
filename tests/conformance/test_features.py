"""Every feature of the table in docs/features.md on every registered layer."""

import pytest

import treering as tr

from .cases import REGISTERED, Case
from .features import FEATURES, Feature

RUNS = [
    pytest.param(
        feature,
        case,
        id=f"{feature.place}-{case}",
        marks=[pytest.mark.slow] if feature.slow(tr.layers.get(case.name)) else [],
    )
    for feature in FEATURES
    if feature.check is not None
    for case in REGISTERED
]


@pytest.mark.parametrize(("feature", "case"), RUNS)
def test_feature(feature: Feature, case: Case):
    feature.run(case)
