"""Every feature of the table in docs/features.md on every registered layer."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import treering as tr

from .cases import REGISTERED, Case
from .features import FEATURES, Feature
from .features.page import THEMES, page

ROOT = Path(__file__).parents[2]
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
ELSEWHERE = [feature for feature in FEATURES if feature.tests is not None]


@pytest.mark.parametrize(("feature", "case"), RUNS)
def test_feature(feature: Feature, case: Case):
    feature.run(case)


# Longest first, so that "lstm" is not found in "ql-lstm".
A_LAYER = re.compile("|".join(sorted(tr.layers.names(), key=len, reverse=True)))


def collected(files: list[str]) -> list[str]:
    """Node ids in these files, slow tests too."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def layers_of(feature: Feature, ids: list[str]) -> set[str]:
    """The layers that the tests of a row run on."""
    path, _, test = str(feature.tests).partition("::")
    mine = [line for line in ids if line.partition("[")[0] == f"{path}::{test}"]
    if feature.over_layers_in is None or not mine:
        return {name for line in mine for name in A_LAYER.findall(line.partition("[")[2])}
    functions = [
        node
        for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == feature.over_layers_in
    ]
    goes_over_all = "for name in tr.layers.names()" in ast.unparse(functions[0])
    return set(tr.layers.names()) if goes_over_all else set()


def test_what_a_row_points_to_exists_for_every_layer():
    ids = collected(sorted({str(feature.tests).partition("::")[0] for feature in ELSEWHERE}))
    for feature in ELSEWHERE:
        assert layers_of(feature, ids) >= set(tr.layers.names()), feature.tests


def test_every_theme_is_on_the_page():
    assert {feature.theme for feature in FEATURES} == set(THEMES)


def test_rows_have_names_of_their_own():
    assert len({feature.place for feature in FEATURES}) == len(FEATURES)
    titles = [(feature.theme, feature.title) for feature in FEATURES]
    assert len(set(titles)) == len(titles)


def test_the_page_is_what_the_features_say():
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    assert text == page(), "run make tables"
