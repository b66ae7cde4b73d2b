"""The order of paired calls, and processes of their own."""

import gc
import sys
from pathlib import Path

import pytest

from treering.bench import alone, timing
from treering.bench.peers.abstract import Prepared
from treering.bench.record import Case
from treering.bench.timing import Budget, paired

CALLS = Budget("test", pairs=4, most=4, seconds=0.0, block=0.0, longest_call=1.0)


def test_neither_side_is_always_first():
    order = ""

    def side(letter: str) -> Prepared:
        def call() -> None:
            nonlocal order
            order += letter

        return Prepared(call, None)

    mine, others = paired(side("a"), side("b"), CALLS)
    assert len(mine) == len(others) == 4
    # Brief calls: each timed one follows one that is not.
    assert order.endswith("aabbbbaaaabbbbaa")
    assert gc.isenabled()


def test_the_collector_is_off_between_the_first_pair_and_the_last():
    seen: list[bool] = []
    one = Prepared(lambda: seen.append(gc.isenabled()), None)
    paired(one, one, CALLS)
    timed = 2 * CALLS.pairs * 2
    assert not any(seen[-timed:])
    assert all(seen[:-timed])


class Clock:
    """Time that passes only in calls: a thousandth of a second in each."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def call(self) -> None:
        self.now += 1e-3
        self.calls += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "perf_counter", made)
    return made


def test_times_are_of_one_call_and_scaled(clock: Clock):
    budget = Budget("test", pairs=2, most=2, seconds=0.0, block=1e-2, longest_call=1.0)
    mine, others = paired(Prepared(clock.call, None, scale=0.1), Prepared(clock.call, None), budget)
    assert mine == pytest.approx([1e-4, 1e-4])
    assert others == pytest.approx([1e-3, 1e-3])
    # Each side: four calls to begin with, then twice one that is not timed and ten that are.
    assert clock.calls == 2 * (4 + 2 * (1 + 10))


def test_it_goes_on_until_its_time_is_used(clock: Clock):
    """A pair of brief calls takes four, of which two are timed."""
    budget = Budget("test", pairs=1, most=10**6, seconds=0.0399, block=0.0, longest_call=1.0)
    one = Prepared(clock.call, None)
    assert len(paired(one, one, budget)[0]) == 10


CASE = Case(layer="lstm", mode="train", batch=8, time=2048, input_size=16, hidden_size=64)


def test_peak_memory_is_that_of_the_call():
    """At least the outputs and their gates, which a backward pass needs; not the process itself."""
    found = alone.measure(CASE, "auto", threads=1, calls=1, seconds=0.0, patience=120.0)
    outputs = 4 * CASE.batch * CASE.time * CASE.hidden_size
    assert 2 * outputs < found.peak_bytes < 40 * outputs
    assert len(found.seconds) == 1
    assert "LSTM" in found.ran or "lstm" in found.ran


def test_a_process_that_takes_too_long():
    with pytest.raises(alone.EndedError, match=r"no answer in 0.01 s"):
        alone.measure(CASE, "auto", threads=1, calls=1, seconds=0.0, patience=0.01)


@pytest.mark.parametrize(
    ("script", "says"),
    [("kill -9 $$", "by signal 9"), ("echo 'ValueError: of memory' >&2; exit 1", "of memory")],
)
def test_a_process_that_the_system_ends(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(alone.EndedError, match=says):
        alone.measure(CASE, "auto", threads=1, calls=1, seconds=0.0, patience=60.0)
