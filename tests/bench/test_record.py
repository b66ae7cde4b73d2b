"""Records: written, read back, refused; and what they say of themselves."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from treering._errors import UserError
from treering.bench.record import Measurement, Middle, read

from .making import comparison, crossover, growth


@pytest.mark.parametrize(
    "one",
    [
        comparison(),
        comparison(None),
        crossover({8: 0.5, 32: 2.0}),
        growth({8: 0.1, 16: 0.2, 32: 0.4}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_is_written_is_read_back(one: Measurement, tmp_path: Path):
    path = one.save(tmp_path)
    assert path.name == f"{one.name}.json"
    assert read(tmp_path) == [one]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_measured_again_replaces(tmp_path: Path):
    comparison(None).save(tmp_path)
    comparison().save(tmp_path)
    assert read(tmp_path) == [comparison()]


def test_no_folder_has_no_measurements(tmp_path: Path):
    assert read(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "damaged"),
        ("[]", "schema None"),
        ('{"schema_version": 99}', "schema 99"),
        ('{"schema_version": 1, "kind": "comparison"}', "damaged measurement"),
    ],
)
def test_a_damaged_file_is_named(content: str, says: str, tmp_path: Path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        read(tmp_path)
    assert "bad.json" in str(caught.value)


def test_unknown_fields_are_refused(tmp_path: Path):
    content = json.loads(comparison().model_dump_json()) | {"speed": 1}
    (tmp_path / "more.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="speed"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["../up", "", "Upper", "a b"])
def test_a_name_is_a_file_of_the_folder(name: str):
    with pytest.raises(ValidationError):
        comparison(name=name)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        ((2.0, 1.95, 2.05), "reached"),
        ((1.5, 1.5, 1.5), "reached"),
        ((1.2, 1.15, 1.25), "missed"),
        ((1.55, 1.4, 1.6), "reached, within the spread"),
        ((1.45, 1.4, 1.6), "missed, within the spread"),
        ((3.0, 2.0, 4.0), "reached, noisy"),
        ((1.0, 0.6, 1.2), "missed, noisy"),
        (None, "skipped"),
    ],
)
def test_verdicts(ratio: tuple[float, float, float] | None, verdict: str):
    assert comparison(ratio).verdict == verdict


def test_the_rate_is_operations_over_the_median_time():
    assert comparison().rate == pytest.approx(1e9 / 0.01)
    assert comparison(quantity="memory").rate is None
    assert comparison(None).rate is None


def test_curves_know_their_crossing_and_exponents():
    assert crossover({8: 0.5, 32: 2.0}).crossing == pytest.approx(16)
    curve = growth({8: 0.1, 16: 0.2, 32: 0.4})
    assert curve.time_exponent == pytest.approx(1)
    assert curve.memory_exponent == pytest.approx(1)


def test_a_middle_is_a_median():
    assert Middle.of([3.0, 1.0, 2.0]) == Middle(median=2.0, low=1.5, high=2.5)
