"""The page docs/features.md, from the registered features."""

import treering as tr
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

THEMES = (
    contract.THEME,
    tutorials.THEME,
    state.THEME,
    inner.THEME,
    options.THEME,
    tree_order.THEME,
    elsewhere.COMPILE,
    transforms.THEME,
    precision.THEME,
    storage.THEME,
    elsewhere.PROCESSES,
    elsewhere.HUGGING_FACE,
    cost.THEME,
)

INTRODUCTION = """\
# Features, layer by layer

<!-- made by `make tables`, from tests/conformance/features; a test compares -->

Every mark is a test that ran: `yes` holds to numbers, `no` is refused in a message that says why, \
`n/a` is tested to be absent. The reasons are below each table, and the names of its checks: \
`pytest -m "" tests/conformance/test_features.py -k contract.hx` runs one for every layer. A layer \
that is registered is held to all of them the same day.

Numbers are compared with something else than the code that made them: the token-by-token run, \
each sequence alone, torch.nn, the cell's formula, finite differences; in float64 to 1e-9 or \
closer but for the rows that are about low precision. How other libraries do on the checks that \
they can take is in [peers](peers.md).
"""


SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def cell(feature: Feature, name: str, notes: list[str]) -> str:
    exception = feature.exception(name)
    if exception is None:
        return "yes"
    if exception.why not in notes:
        notes.append(exception.why)
    # A short word, so that all layers fit on a page.
    mark = feature.mark(name).replace("refused", "no")
    return mark + SUPERSCRIPTS[notes.index(exception.why) + 1]


def section(theme: str, features: list[Feature]) -> list[str]:
    names = tr.layers.names()
    notes: list[str] = []
    lines = [f"## {theme}", "", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for feature in features:
        marks = [cell(feature, name, notes) for name in names]
        lines.append(f"| {feature.title} | {' | '.join(marks)} |")
    lines.append("")
    if notes:
        lines += [f"{k}. {why}" for k, why in enumerate(notes, 1)] + [""]
    checks = ", ".join(f"`{feature.place.rpartition('::')[2]}`" for feature in features)
    return [*lines, f"Checks, row by row: {checks}.", ""]


def page() -> str:
    lines = [INTRODUCTION]
    for theme in THEMES:
        lines += section(theme, [feature for feature in FEATURES if feature.theme == theme])
    elsewhere = sorted({f.tests.partition("::")[0] for f in FEATURES if f.tests})
    files = ", ".join(f"`{path}`" for path in elsewhere)
    lines += [f"Checks whose name begins with `test_` are in {files}.", ""]
    return "\n".join(lines)
