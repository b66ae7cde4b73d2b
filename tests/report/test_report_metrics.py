"""Scores of which the lower is the better: order, signs, words, plots."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from treering.records import ACCURACY, BITS, METRICS, PERPLEXITY, Evaluation, Record, TaskInfo
from treering.report import markdown_table, render_html, wording
from treering.report.sections import sections
from treering.report.statistics import Estimate

MakeRecord = Callable[..., Record]
MINUS = "\N{MINUS SIGN}"


def of(make: MakeRecord, layer: str, seed: int, score: float, metric: str, **fields: Any) -> Record:
    chance = {"bits per character": 4.85, "perplexity": 900.0}[metric]
    task = TaskInfo(
        name="text", kind="stream", chance=chance, classes=66, training_lengths=None, metric=metric
    )
    plain = make(layer, seed, 0.5, kind="dataset", task="text", **fields)
    points = [
        point.model_copy(update={"train_score": score + 1 / n, "validation_score": score + 2 / n})
        for n, point in enumerate(plain.learning, start=1)
    ]
    evaluation = Evaluation(score=score, score_name=f"test {metric}", selected="last step")
    # All at once: a score of 2 is none while the record is still one of accuracy.
    content = plain.model_dump() | {"task": task, "learning": points, "evaluation": evaluation}
    return Record.model_validate(content)


def three(make: MakeRecord, metric: str, scale: float = 1.0) -> list[Record]:
    return [
        of(make, layer, seed, scale * (score + seed / 100), metric)
        for layer, score in (("lstm", 1.6), ("pr-lstm", 1.5), ("gru", 1.7))
        for seed in range(3)
    ]


def test_the_lowest_comes_first_and_is_said_to_be_best(make_record: MakeRecord) -> None:
    (section,) = sections(three(make_record, "bits per character"))
    assert [row.label for row in section.rows] == ["pr-lstm", "lstm", "gru"]
    assert wording.headline(section) == (
        "pr-lstm is best on text: 1.510 ± 0.025 bits per character, ahead of lstm by 0.100 bits "
        "(95% interval +0.100 to +0.100)."
    )
    assert not wording.findings(section)


def test_a_gain_over_the_baseline_is_a_saving(make_record: MakeRecord) -> None:
    more = [of(make_record, "gru", seed, 1.55, "bits per character") for seed in range(3)]
    records = [r for r in three(make_record, "bits per character") if r.model.layer != "gru"]
    (section,) = sections(records + more)
    assert "Against the baseline lstm, pr-lstm saves 0.100 bits" in wording.findings(section)[0]


def test_a_lead_that_may_be_luck(make_record: MakeRecord) -> None:
    scores = {"lstm": (1.60, 1.50, 1.70), "gru": (1.62, 1.56, 1.61)}
    (section,) = sections(
        of(make_record, layer, seed, score, "bits per character")
        for layer, per_seed in scores.items()
        for seed, score in enumerate(per_seed)
    )
    text = wording.headline(section)
    assert text.startswith("gru scores best on text, 1.597 ± 0.080 bits per character, but its")
    assert "lead over lstm, +0.003 bits (95% interval " in text


def test_tables_say_which_way_is_better(make_record: MakeRecord) -> None:
    table = markdown_table(three(make_record, "perplexity", 100))
    assert f"| pr-lstm | 151.0 ± 2.5 | 3 | {MINUS}10.0 ± 0.0 |" in table
    assert "Score: test perplexity, lower is better; mean ± 95% interval" in table
    assert "Minus lstm: seed by seed, below 0 is better." in table
    assert "Chance, guessing by frequency: 900.0." in table


def test_nothing_learnt_is_near_chance_from_either_side(make_record: MakeRecord) -> None:
    for score in (4.84, 5.2):
        (section,) = sections([of(make_record, "lstm", 0, score, "bits per character")])
        assert wording.headline(section) == (
            f"lstm did not learn text: it scores {score:.3f} bits per character, guessing 4.850."
        )


def test_the_page_draws_the_score_and_not_the_loss_beside_it(make_record: MakeRecord) -> None:
    records = three(make_record, "bits per character")
    page = render_html(records)
    assert "Training bits per character against epochs" in page
    assert "Validation bits per character against epochs" in page
    assert "Validation bits per character against time" in page
    assert "Loss against" not in page
    assert "%" not in page[page.index('<table class="results">') : page.index('class="explain"')]
    assert "Each seed: a dot from 1.489 to 1.731." in page
    both = render_html([*records, make_record("lstm")])
    assert "<small>bits per character, lower is better</small>" in both
    assert "<strong>1.510</strong>" in both


def test_two_metrics_of_one_text_are_two_sections(make_record: MakeRecord) -> None:
    records = three(make_record, "perplexity", 100) + three(make_record, "bits per character")
    assert [section.title for section in sections(records)] == [
        "text, test bits per character",
        "text, test perplexity",
    ]


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        (0.987, ACCURACY, "98.7%"),
        (1.6234, BITS, "1.623"),
        (104.26, PERPLEXITY, "104.3"),
        (33278.0, PERPLEXITY, "33,278.0"),
    ],
)
def test_numbers_are_written_as_their_metric_is_read(value, metric, expected) -> None:
    assert wording.number(value, metric) == expected


def test_signs_and_widths_are_in_the_metrics_unit() -> None:
    assert wording.signed(-0.05, BITS) == f"{MINUS}0.050"
    assert wording.signed(0.0001, BITS) == "0.000"
    assert wording.half_width(0.0001, BITS) == "<0.001"
    assert wording.half_width(0.0, PERPLEXITY) == "0.0"
    assert wording.difference(Estimate(2, 1234.5, 3.25, 0, 0), PERPLEXITY) == "+1,234.5 ± 3.2"
    assert wording.exact(0.5, ACCURACY) == "0.5000"
    assert wording.exact(1.5, BITS) == "1.5000"
    assert wording.exact(95.678, PERPLEXITY) == "95.68"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_gain_and_way_know_the_direction(metric) -> None:
    chance = 0.5 if metric is ACCURACY else 5.0
    middle = (chance + metric.perfect) / 2
    assert metric.gain(metric.perfect, chance) > 0
    assert metric.gain(chance, metric.perfect) == -metric.gain(metric.perfect, chance)
    assert metric.way(chance, chance) == 0
    assert metric.way(metric.perfect, chance) == 1
    assert 0 < metric.way(middle, chance) < 1
    assert metric.way(2 * chance - middle, chance) < 0


def test_perplexity_of_a_diverged_model_is_infinite() -> None:
    assert PERPLEXITY.of_loss is not None
    assert PERPLEXITY.of_loss(1e9) == float("inf")


def test_an_accuracy_above_one_is_refused(make_record: MakeRecord) -> None:
    record = make_record()
    assert record.evaluation is not None
    with pytest.raises(ValidationError, match=r"an accuracy of 1.5 is above 1"):
        record.evaluation = record.evaluation.model_copy(update={"score": 1.5})
    with pytest.raises(ValidationError, match="'loss' is no metric of accuracy, bits per"):
        TaskInfo(name="t", kind="stream", chance=1, classes=2, metric="loss")
