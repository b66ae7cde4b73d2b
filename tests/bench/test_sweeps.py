"""Crossover and growth: where they stop, and that numbers come first."""

import dataclasses
from typing import Any

import pytest

from treering import layers
from treering.bench import crossover, growth
from treering.bench.alone import Alone, EndedError
from treering.bench.timing import BUDGETS

from .making import SESSION

FULL = dataclasses.replace(SESSION, budget=BUDGETS["full"])
CURVE = growth.Curve("lstm", "train")


def alone(seconds: float, peak: int = 1000) -> Any:
    return lambda case, *_, **__: Alone(peak * case.time, [seconds * case.time], "what ran")


def test_every_layer_and_a_transformer_grow_in_both_modes():
    names = {curve.name for curve in growth.curves("full")}
    assert len(names) == 2 * (len(layers.names()) + 1)
    assert max(growth.LENGTHS["full"]) == 262_144


def test_a_curve_is_given_after_each_length(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "measure", alone(1e-5))
    seen = list(growth.measure_curve(CURVE, FULL))
    assert [len(one.points) for one in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].reason == ""
    assert seen[-1].time_exponent == pytest.approx(1)
    assert seen[-1].ran == "what ran"


def test_it_stops_where_the_next_call_would_take_too_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "measure", alone(FULL.budget.longest_call / 10_000))
    *_, last = growth.measure_curve(CURVE, FULL)
    assert [point.time for point in last.points] == [1024, 4096]
    assert "stopped after T = 4,096, where a call takes 122.9 s" in last.reason


def test_attention_is_expected_to_grow_as_the_square(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "measure", alone(FULL.budget.longest_call / 10_000))
    *_, last = growth.measure_curve(growth.Curve("transformer", "infer"), FULL)
    assert [point.time for point in last.points] == [1024]


def test_it_stops_where_memory_would_not_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "measure", alone(1e-6, peak=2**40))
    *_, last = growth.measure_curve(CURVE, FULL)
    assert len(last.points) == 1
    assert "the next would not fit in memory" in last.reason


def test_what_the_system_ends_is_told(monkeypatch: pytest.MonkeyPatch):
    def measure(case: Any, *_: Any, **__: Any) -> Alone:
        if case.time > 1024:
            raise EndedError("the process ended by signal 9")
        return alone(1e-6)(case)

    monkeypatch.setattr(growth, "measure", measure)
    *_, last = growth.measure_curve(CURVE, FULL)
    assert len(last.points) == 1
    assert last.reason == "at T = 4,096 the process ended by signal 9"


def test_a_crossover_compares_numbers_at_every_length(monkeypatch: pytest.MonkeyPatch):
    curve = crossover.Curve("left", "infer", 1, 4)
    seen = list(crossover.measure(curve, SESSION))
    assert [point.time for point in seen[-1].points] == list(crossover.LENGTHS["smoke"])
    assert all(one.status == "measured" for one in seen)

    monkeypatch.setattr("treering.bench.agreement._error", lambda *_: 1.0)
    monkeypatch.setattr(crossover, "paired", lambda *_: pytest.fail("it was timed"))
    (one,) = crossover.measure(curve, SESSION)
    assert one.status == "disagrees"
    assert one.points == []


def test_a_crossover_stops_where_calls_get_too_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(crossover, "paired", lambda *_: ([1.0], [2.0]))
    *_, last = crossover.measure(crossover.Curve("left", "infer", 1, 4), SESSION)
    assert len(last.points) == 1
    assert last.reason == "at T = 4 a call takes 2.0 s"
