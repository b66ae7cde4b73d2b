"""Means and intervals over seeds, against numbers computed by hand."""

import pytest

from made_records import SCORE, record
from treering.report.statistics import (
    baseline_for,
    estimate,
    paired_difference,
    student_t,
    summarise,
)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (5, 2.57058),
        (9, 2.26216),
        (10, 2.22814),
        (29, 2.04523),
        (30, 2.04227),
        (120, 1.97993),
    ],
)
def test_student_t_is_the_printed_table(degrees: int, expected: float) -> None:
    assert student_t(degrees) == pytest.approx(expected, abs=6e-5 if degrees == 1 else 6e-6)


def test_student_t_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="at least 1 degree of freedom, got 0"):
        student_t(0)


def test_the_interval_is_the_one_computed_by_hand() -> None:
    # 0.7, 0.8, 0.9: mean 0.8, s = sqrt((0.01 + 0 + 0.01) / 2) = 0.1,
    # half width 4.302653 * 0.1 / sqrt(3) = 0.2484137.
    result = estimate([0.7, 0.8, 0.9])
    assert (result.n, result.minimum, result.maximum) == (3, 0.7, 0.9)
    assert result.mean == pytest.approx(0.8, abs=1e-12)
    assert result.half_width == pytest.approx(0.2484137, abs=1e-7)
    assert result.interval == pytest.approx((0.5515863, 1.0484137), abs=1e-7)
    assert result.excludes_zero


def test_one_value_has_no_interval() -> None:
    result = estimate([0.7])
    assert (result.mean, result.half_width, result.interval) == (0.7, None, None)
    assert not result.excludes_zero


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert estimate([0.5, 0.5]).interval == (0.5, 0.5)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="estimate of no values"):
        estimate([])


def test_summarise_averages_over_seeds_alone() -> None:
    runs = [
        *(record("lstm", seed, 0.6 + 0.1 * seed) for seed in (2, 0, 1)),
        record("gru", 0, 0.9),
        record("lstm", 0, 0.9, hidden_size=128),
        record("lstm", 0, 0.9, settings={"steps": 2000}),
        record("lstm", 0, 0.9, score_name="mean accuracy, lengths 41 to 100"),
    ]
    summaries = summarise(runs)
    assert [(s.layer, s.seeds) for s in summaries] == [
        ("lstm", (0, 1, 2)),
        ("lstm", (0,)),
        ("gru", (0,)),
        ("lstm", (0,)),
        ("lstm", (0,)),
    ]
    first = summaries[0]
    assert first.score is not None
    assert first.score.mean == pytest.approx(0.7)
    assert (first.score.minimum, first.score.maximum) == (0.6, 0.8)
    assert first.tokens_per_second is not None
    assert first.tokens_per_second.mean == 60_001
    assert first.peak_memory_bytes == 2**28 + 2
    assert first.score_name == SCORE
    assert summaries[2].score is not None
    assert summaries[2].score.half_width is None


def test_how_a_kernel_explains_itself_does_not_split_a_group() -> None:
    other = record(seed=1)
    other.model = other.model.model_copy(update={"explain": "another kernel"})
    assert [s.seeds for s in summarise([record(seed=0), other])] == [(0, 1)]


def test_unfinished_runs_are_kept_and_in_no_mean() -> None:
    summaries = summarise(
        [record(seed=0, score=0.6), record(seed=1, score=None), record("gru", 0, None)]
    )
    assert [s.seeds for s in summaries] == [(0,), ()]
    assert [run.seed for run in summaries[0].unfinished] == [1]
    assert summaries[0].score is not None
    assert summaries[0].score.mean == 0.6
    assert summaries[1].score is None
    assert summaries[1].score_name == ""
    assert [run.model.layer for run in summaries[1].unfinished] == ["gru"]


def test_a_seed_that_ran_twice_counts_once_and_the_newest() -> None:
    old = record(seed=0, score=0.5, run_id="old", created="2026-01-01T00:00:00+00:00")
    new = record(seed=0, score=0.9, run_id="new", created="2026-01-02T00:00:00+00:00")
    (summary,) = summarise([new, old])
    assert [run.run_id for run in summary.runs] == ["new"]
    assert [run.run_id for run in summary.repeated] == ["old"]
    assert summary.score is not None
    assert summary.score.n == 1


def test_the_paired_difference_is_over_common_seeds_alone() -> None:
    # Differences 0.1, 0.2, 0.3 on seeds 0, 1, 2: mean 0.2, half width 4.302653 * 0.1 / sqrt(3).
    # The means over all seeds differ by something else.
    baseline = [record("lstm", seed, score) for seed, score in enumerate([0.5, 0.6, 0.6, 0.1])]
    better = [record("gru", seed, score) for seed, score in enumerate([0.6, 0.8, 0.9])]
    first, second = summarise([*baseline, *better])
    difference = paired_difference(second, first)
    assert difference is not None
    assert difference.n == 3
    assert difference.mean == pytest.approx(0.2)
    assert difference.half_width == pytest.approx(0.2484137, abs=1e-7)


def test_without_a_common_seed_there_is_no_difference() -> None:
    first, second = summarise([record("lstm", 0), record("gru", 1)])
    assert paired_difference(second, first) is None


def test_scores_of_different_names_are_not_subtracted() -> None:
    first, second = summarise([record("lstm"), record("gru", score_name="another grid")])
    with pytest.raises(ValueError, match=r"cannot compare gru .*another grid.* with lstm"):
        paired_difference(second, first)


def test_the_baseline_is_of_the_same_settings_and_size() -> None:
    small, large, short, ours, odd = summarise(
        [
            record("lstm", hidden_size=64),
            record("lstm", hidden_size=128),
            record("lstm", hidden_size=64, settings={"steps": 10}),
            record("gru", hidden_size=128),
            record("gru", hidden_size=96),
        ]
    )
    everything = [small, large, short, ours, odd]
    assert baseline_for(ours, everything) is large
    assert baseline_for(odd, everything) is None
    assert baseline_for(odd, [small, odd]) is small
    assert baseline_for(ours, [short, ours]) is None
    assert baseline_for(small, everything, layer="gru") is None
