"""The rules by which scores decide a claim, on scores made for it."""

import pytest

from bench.making import crossover, growth
from treering.bench.record import Crossover, Growth
from treering.experiments import Finding, judging
from treering.experiments.judging import (
    all_reach,
    best_reaches,
    crosses,
    fewer_parameters,
    first_run,
    gains,
    grows_more_slowly,
    keeps_up,
    measures_at_least,
    measures_more,
    reaches,
    reaches_at,
    solves_more,
)
from treering.report.wording import MINUS

from .made_outcomes import measurements, outcome, row

BASE = (0.80, 0.82, 0.81, 0.79, 0.83)


def shifted(by: float, noise: float = 0.0) -> list[float]:
    return [score + by + (noise if k % 2 else -noise) for k, score in enumerate(BASE)]


@pytest.mark.parametrize(
    ("by", "noise", "published", "verdict"),
    [
        (0.02, 0.001, None, "reproduced"),
        (-0.02, 0.001, None, "not reproduced"),
        (0.0, 0.02, None, "undecided"),
        # An interval of about 0.01 around 0 holds the published gain, or does not.
        (0.0, 0.01, 0.009, "undecided"),
        (0.0, 0.001, 0.009, "not reproduced"),
    ],
)
def test_a_gain_is_told_from_zero_and_from_the_published_one(by, noise, published, verdict):
    made = outcome(row("lstm", BASE), row("gru", shifted(by, noise)))
    assert gains("r8", "gru", "lstm", published)(made).verdict == verdict


def test_differences_are_taken_seed_by_seed():
    """Seeds differ by far more than the gain, which is the same for each of them."""
    made = outcome(row("lstm", (0.5, 0.7, 0.9)), row("gru", (0.51, 0.711, 0.911)))
    finding = gains("r8", "gru", "lstm")(made)
    assert finding.verdict == "reproduced"
    assert finding.ours.startswith("+1.1")
    assert "3 seeds" in finding.ours


def test_seeds_that_only_one_has_do_not_count():
    made = outcome(row("lstm", (0.5, 0.5, 0.5)), row("gru", (0.6, 0.6), seeds=[1, 7]))
    finding = gains("r8", "gru", "lstm")(made)
    assert finding.verdict == "undecided"
    assert "one seed" in finding.ours


def test_a_layer_is_compared_with_itself_under_other_options():
    decayed = row("lstm", shifted(0.02), variant="decay")
    made = outcome(row("lstm", BASE), decayed, row("gru", BASE, variant="decay"))
    assert gains("r8", "lstm", "lstm", variant="decay", over_variant="")(made).ours[:4] == "+2.0"
    assert gains("r8", "lstm", "lstm", over_variant="decay")(made).verdict == "not reproduced"
    assert gains("r8", "lstm", "gru", variant="decay")(made).verdict == "reproduced"
    assert gains("r8", "lstm", "gru", over_variant="none")(made).verdict == "not run"


def test_of_two_ways_to_name_a_variant_the_one_that_was_run_is_judged():
    either = first_run(
        gains("r8", "lstm", "lstm", over_variant="plain"),
        gains("r8", "lstm", "lstm", variant="decay", over_variant=""),
    )
    better = shifted(0.02, 0.001)
    named_plain = outcome(row("lstm", better), row("lstm", BASE, variant="plain"))
    named_decay = outcome(row("lstm", BASE), row("lstm", better, variant="decay"))
    assert either(named_plain) == either(named_decay)
    assert either(named_plain).verdict == "reproduced"
    assert either(outcome(row("lstm", BASE))).verdict == "not run"


def test_lower_is_better_where_the_metric_says_so():
    perplexity = {"metric": "perplexity", "chance": 300.0}
    made = outcome(row("lstm", (100, 102), **perplexity), row("gru", (90, 92), **perplexity))
    finding = gains("r8", "gru", "lstm")(made)
    assert finding.verdict == "reproduced"
    assert finding.ours.startswith(f"{MINUS}10.0")
    assert gains("r8", "lstm", "gru")(made).verdict == "not reproduced"


@pytest.mark.parametrize(
    ("by", "noise", "verdict"),
    [
        (-0.002, 0.0005, "reproduced"),
        (-0.03, 0.0005, "not reproduced"),
        (-0.01, 0.005, "undecided"),
        (0.05, 0.001, "reproduced"),
    ],
)
def test_keeping_up_needs_an_interval_above_the_margin(by, noise, verdict):
    made = outcome(row("lstm", BASE), row("ql-lstm", shifted(by, noise)))
    assert keeps_up("r8", "ql-lstm", "lstm", 0.01)(made).verdict == verdict


def test_a_layer_that_diverged_keeps_no_claim():
    part = row("ql-lstm", (0.99,), seeds=[0], diverged=[1, 2])
    made = outcome(row("lstm", (0.5, 0.5, 0.5)), part, row("gru", (), diverged=[0, 1, 2]))
    for judge in (
        gains("r8", "ql-lstm", "lstm"),
        keeps_up("r8", "ql-lstm", "lstm", 0.01),
        reaches("r8", "ql-lstm", 0.9),
    ):
        finding = judge(made)
        assert finding.verdict == "not reproduced"
        assert finding.ours == "diverged with 2 of 3 seeds, otherwise 99.0%"
    assert reaches("r8", "gru", 0.1)(made).ours == "diverged with 3 of 3 seeds"
    better = gains("r8", "lstm", "gru")(made)
    assert better == Finding("reproduced", "gru: diverged with 3 of 3 seeds")


def test_thresholds_of_the_mean_and_of_the_best_run():
    made = outcome(row("lstm", (0.8, 1.0)))
    assert reaches("r8", "lstm", 0.95)(made).verdict == "not reproduced"
    found = best_reaches("r8", "lstm", 0.95)(made)
    assert found == Finding("reproduced", "best of 2 runs 100.0%")
    longer = row("lstm", (0.9,), variant="longer")
    made = outcome(
        row("lstm", (0.8, 0.7)), longer, row("gru", (1.0,)), row("rnn", (), diverged=[0])
    )
    found = best_reaches("r8", "lstm", 0.95)(made)
    assert found == Finding("not reproduced", "best of 3 runs 90.0%, longer")
    assert best_reaches("r8", "gru", 0.95)(made) == Finding("reproduced", "100.0%")
    assert best_reaches("r8", "rnn", 0.0)(made).ours == "diverged with 1 of 1 seeds"
    assert best_reaches("imdb", "lstm", 0.0)(made).verdict == "not run"


def test_all_tasks_must_reach_it_and_the_lowest_is_named():
    made = outcome(
        row("lstm", (1.0, 1.0), task="even_pairs"), row("lstm", (0.9, 1.0), task="parity_check")
    )
    finding = all_reach(dict.fromkeys(("even_pairs", "parity_check"), "lstm"), 0.99)(made)
    assert finding.verdict == "not reproduced"
    assert finding.ours.startswith("1 of 2; lowest parity_check 95.0%")
    assert finding.ours.endswith("best seeds: 2")
    assert all_reach({"even_pairs": "lstm"}, 0.99)(made).verdict == "reproduced"


def test_solved_tasks_are_counted_by_the_best_seed():
    made = outcome(
        *(row("pr-lstm", (0.1, 0.95), task=task) for task in ("a", "b")),
        row("lstm", (0.89, 0.89), task="a"),
        row("lstm", (0.91, 0.1), task="b"),
    )
    finding = solves_more("pr-lstm", ["lstm"], ["a", "b"])(made)
    assert finding.verdict == "reproduced"
    assert finding.ours == "solved: pr-lstm 2, lstm 1"
    assert solves_more("pr-lstm", ["lstm"], ["b"])(made).verdict == "not reproduced"


@pytest.mark.parametrize(("ours", "verdict"), [(52, "reproduced"), (60, "not reproduced")])
def test_parameters_within_two_points(ours, verdict):
    made = outcome(row("lstm", (1.0,)), row("ql-lstm", (1.0,), layer_parameters=ours))
    assert fewer_parameters("r8", "ql-lstm", "lstm", 0.48)(made).verdict == verdict


def test_a_curve_must_cross_at_every_width():
    made = outcome(measurements=measurements())
    finding = crosses("nn.LSTM", "infer")(made)
    assert finding.verdict == "reproduced"
    assert finding.ours == "width 4: from 16 tokens, 2.0x at 32"
    slower = crossover({8: 0.5, 16: 0.9}, case=made.measurements[0].case)
    assert isinstance(slower, Crossover)
    made = outcome(measurements=[*made.measurements, slower])
    assert crosses("nn.LSTM", "infer")(made).verdict == "not reproduced"
    assert crosses("nn.LSTM", "train")(made).verdict == "reproduced"


@pytest.mark.parametrize("cost", ["time", "memory"])
def test_growth_is_judged_by_its_exponents(cost):
    made = outcome(measurements=measurements())
    assert grows_more_slowly("pr-lstm", "transformer", "train", cost)(made) == Finding(
        "reproduced", "T^1.00 beside T^2.00, to 32 and 32 tokens"
    )
    same = grows_more_slowly("transformer", "pr-lstm", "train", cost)(made)
    assert same.verdict == "not reproduced"


def test_a_cost_too_small_to_be_measured_decides_nothing():
    small = [
        growth({8: 0.1, 16: 0.2, 32: 0.4}, bytes_of=lambda T: 0, case=one.case)
        for one in measurements()
        if isinstance(one, Growth)
    ]
    memory = grows_more_slowly("pr-lstm", "transformer", "train", "memory")
    assert memory(outcome(measurements=small)) == Finding(
        "undecided", "no exponent, measured to 32 and 32 tokens"
    )


def test_a_curve_without_any_point_decides_nothing():
    empty = [
        one.model_copy(update={"points": []}) for one in measurements() if isinstance(one, Growth)
    ]
    time = grows_more_slowly("pr-lstm", "transformer", "train", "time")
    assert time(outcome(measurements=empty)) == Finding(
        "undecided", "no exponent, measured to 0 and 0 tokens"
    )


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([0.5, 0.61], "reproduced"), ([0.1, 0.19], "not reproduced"), ([0.4, 0.1], "undecided")],
)
def test_what_inspections_found_is_compared_seed_by_seed(ours, verdict):
    made = outcome(
        row("lstm", (1.0, 1.0), measures={"reach": [0.2, 0.3]}),
        row("gru", (1.0, 1.0), measures={"reach": ours}),
    )
    assert measures_more("r8", "gru", "lstm", "reach")(made).verdict == verdict


def test_a_measure_that_only_one_seed_has_decides_nothing():
    made = outcome(
        row("lstm", (1.0, 1.0), measures={"reach": [0.2, None]}),
        row("gru", (1.0, 1.0), measures={"reach": [0.5, 0.6]}),
    )
    assert "one seed" in measures_more("r8", "gru", "lstm", "reach")(made).ours
    assert measures_at_least("r8", "gru", "reach", 0.55)(made).verdict == "reproduced"
    assert measures_at_least("r8", "lstm", "reach", 0.55)(made).verdict == "not reproduced"


def test_one_length_may_be_asked_for():
    made = outcome(row("lstm", (1.0, 0.9), by_length=[(41, 1.0, 8), (100, 0.95, 8)]))
    assert reaches_at("r8", "lstm", 41, 0.99)(made).verdict == "reproduced"
    assert reaches_at("r8", "lstm", 100, 0.99)(made).verdict == "not reproduced"


@pytest.mark.parametrize(
    "judge",
    [
        gains("r8", "gru", "rnn"),
        measures_more("r8", "gru", "rnn", "reach"),
        measures_at_least("r8", "gru", "reach", 0.5),
        reaches_at("r8", "gru", 41, 0.5),
        crosses("nn.LSTM", "infer"),
        grows_more_slowly("gru", "transformer", "infer", "time"),
        keeps_up("r8", "rnn", "gru", 0.01),
        reaches("r8", "rnn", 0.5),
        reaches("r8", "gru", 0.5, variant="longer"),
        all_reach(dict.fromkeys(("r8", "imdb"), "gru"), 0.5),
        solves_more("gru", ["rnn"], ["r8"]),
        fewer_parameters("r8", "gru", "rnn", 0.5),
    ],
)
def test_without_its_rows_a_claim_was_not_run(judge):
    assert judge(outcome(row("gru", (1.0,)))) == judging.NOT_RUN
