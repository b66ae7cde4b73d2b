"""The features of the table in docs/features.md, one check each, run on every registered layer."""

from conformance.features import (
    contract,
    cost,
    elsewhere,
    inner,
    options,
    precision,
    state,
    storage,
    transforms,
    tree_order,
    tutorials,
)
from conformance.features.feature import FEATURES, Feature

__all__ = [
    "FEATURES",
    "Feature",
    "contract",
    "cost",
    "elsewhere",
    "inner",
    "options",
    "precision",
    "state",
    "storage",
    "transforms",
    "tree_order",
    "tutorials",
]
