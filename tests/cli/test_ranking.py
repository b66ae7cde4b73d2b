"""Which combination is best: validation alone decides, and diverging counts against one."""

import math

import pytest

from made_records import record
from treering.cli.grids import Combination
from treering.cli.ranking import Entry, best_by_layer, ranked, verdict
from treering.cli.specs import LayerSpec
from treering.records import Evaluation, TaskInfo

STREAM = TaskInfo(name="novel", kind="stream", chance=4.0, classes=30, metric="bits per character")


def entry(
    rate: str,
    validations: list[float | None],
    score: float = 0.5,
    layer: str = "lstm",
    task: TaskInfo | None = None,
) -> Entry:
    """Runs with these validations by seed; None for one that diverged."""
    records = []
    for seed, validation in enumerate(validations):
        made = record(layer, seed, None, **({"task": task} if task else {}))
        if validation is not None:
            made.evaluation = Evaluation(
                score=score, score_name="s", selected="last step", validation_score=validation
            )
            made.status = "finished"
        records.append(made)
    combination = Combination({"learning_rate": float(rate)}, (rate,))
    return Entry(combination, LayerSpec.parse(layer), tuple(records))


def rates(entries: list[Entry]) -> list[str]:
    return [one.combination.texts[0] for one in entries]


def test_validation_decides_and_never_the_test() -> None:
    entries = [entry("1", [0.6, 0.6], score=1.0), entry("2", [0.8, 0.7], score=0.0)]
    assert rates(ranked(entries)) == ["2", "1"]
    equal = [entry("1", [0.6], score=0.1), entry("2", [0.6], score=0.9)]
    assert rates(ranked(equal)) == ["1", "2"]


def test_lower_is_better_where_it_is() -> None:
    entries = [entry("1", [2.5], task=STREAM), entry("2", [1.5], task=STREAM)]
    assert rates(ranked(entries)) == ["2", "1"]
    endless = entry("3", [math.inf], task=STREAM)
    assert rates(ranked([endless, *entries])) == ["2", "1", "3"]


def test_what_diverged_comes_after_all_that_did_not() -> None:
    entries = [
        entry("3", [None, None]),
        entry("2", [1.0, None]),
        entry("1", [0.1, 0.1]),
    ]
    assert rates(ranked(entries)) == ["1", "2", "3"]
    assert entries[1].diverged == (1,)
    assert entries[0].validation is None
    assert entries[0].score is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([[0.9, 0.8, 0.85]], "validation 85.0% ± 12.4, score 50.0% ± 0.0."),
        ([[0.9, 0.8], [0.9, 0.8], [0.1, 0.1]], "; 1 other with the same validation."),
        ([[0.9], [0.8]], "; one seed does not tell whether its lead is luck."),
        ([[0.9, 0.8], [0.1, 0.0]], "; before the next by +80.0 ± 0.0 points."),
        ([[0.9, 0.3], [0.3, 0.8]], "; its lead over the next, learning-rate=2, may be luck."),
        ([[0.9, 0.8], [0.9, None]], "score 50.0% ± 0.0."),
        ([[0.9, None], [None, None]], "; but of every combination runs diverged."),
        ([[None], [None]], "No combination of lstm could be trained: every run diverged."),
    ],
)
def test_a_sentence_says_what_the_seeds_tell(
    entries: list[list[float | None]], expected: str
) -> None:
    made = [entry(str(k + 1), values) for k, values in enumerate(entries)]
    sentence = verdict("lstm", ranked(made))
    assert sentence.endswith(expected)
    if entries[0][0] is not None:
        assert sentence.startswith("Best for lstm: learning-rate=1, validation ")


def test_a_lead_is_a_gain_where_lower_is_better() -> None:
    made = [entry("1", [2.0, 2.5], task=STREAM), entry("2", [1.0, 1.5], task=STREAM)]
    sentence = verdict("lstm", ranked(made))
    assert sentence.startswith("Best for lstm: learning-rate=2, validation 1.250 ± ")
    assert sentence.endswith("before the next by +1.000 ± 0.000 bits.")


def test_each_layer_has_its_own_best() -> None:
    made = ranked(
        [
            entry("1", [0.9], layer="gru"),
            entry("2", [0.8], layer="gru"),
            entry("1", [0.5], layer="lstm"),
            entry("2", [0.95], layer="lstm"),
        ]
    )
    best = {layer: rates(entries)[0] for layer, entries in best_by_layer(made).items()}
    assert list(best.items()) == [("lstm", "2"), ("gru", "1")]
