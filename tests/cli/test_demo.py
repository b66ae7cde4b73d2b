"""The demo at its full length: what its README promises is there to see."""

from pathlib import Path

import pytest

from treering.records import find_records

from .conftest import Call


@pytest.mark.slow
def test_the_demo_shows_a_rule_that_holds_beyond_the_lengths_trained_on(
    call: Call, folder: Path
) -> None:
    outcome = call("demo")
    assert outcome.code == 0
    assert "Report: runs/demo.html" in outcome.out
    scores = {}
    for record in find_records(folder / "runs"):
        assert record.evaluation is not None
        assert record.evaluation.by_length[-1].length == 500
        scores[record.model.layer] = record.evaluation.score
    assert scores.keys() == {"lstm", "ql-lstm", "pr-lstm"}
    assert scores["pr-lstm"] > 0.99
