"""One run's record: written whole or not at all, read back as it was, averaged as by hand."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import treering.records as records_module
from treering._errors import UserError
from treering.records import (
    FILE_NAME,
    Cost,
    CurvePoint,
    Environment,
    Evaluation,
    LengthScore,
    ModelInfo,
    Record,
    TaskInfo,
    baseline_for,
    estimate,
    find_records,
    paired_difference,
    student_t,
    summarise,
    utc_now,
    write_atomically,
)

SCORE = "mean accuracy, lengths 41 to 500 step 20, 512 samples each"


def record(layer: str = "lstm", seed: int = 0, score: float | None = 0.75, **fields: Any) -> Record:
    hidden_size = fields.pop("hidden_size", 64)
    score_name = fields.pop("score_name", SCORE)
    evaluation = None
    if score is not None:
        evaluation = Evaluation(
            by_length=[LengthScore(41, 0.8, 512), LengthScore(61, 0.7, 512)],
            score=score,
            score_name=score_name,
            selected="last step",
        )
    return Record(
        **{
            "run_id": f"parity_check-{layer}-{seed}",
            "created": "2026-01-31T12:00:00+00:00",
            "status": "finished" if score is not None else "interrupted",
            "command": f"treering train parity_check --layers {layer} --seed {seed}",
            "task": TaskInfo(
                name="parity_check",
                kind="generated",
                chance=0.5,
                classes=2,
                training_lengths=(1, 40),
            ),
            "model": ModelInfo(
                layer=layer, hidden_size=hidden_size, parameters=18_000, layer_parameters=17_000
            ),
            "settings": {"steps": 1000, "curriculum": {"shortest": 1, "longest": 40}},
            "seed": seed,
            "environment": Environment(
                python="3.11.9",
                torch="2.10.0",
                treering="0.1.0",
                platform="Linux",
                processor="x86_64",
                threads=2,
                device="cpu",
                dtype="float32",
            ),
            "learning": [
                CurvePoint(step=100, loss=0.7, train_accuracy=0.5, seconds=1.5),
                CurvePoint(step=200, loss=0.3, train_accuracy=0.9, seconds=3.0),
            ],
            "evaluation": evaluation,
            "cost": Cost(
                wall_seconds=3.5,
                train_tokens=512_000,
                tokens_per_second=60_000.0 + seed,
                peak_memory_bytes=2**28 + seed,
                where={"data": 0.1, "forward": 1.0, "backward": 1.5, "optimizer": 0.4},
            ),
            **fields,
        }
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    original = record()
    path = original.save(tmp_path / "new" / "run")
    assert path == tmp_path / "new" / "run" / FILE_NAME
    assert Record.load(path) == original
    assert Record.load(path.parent) == original
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]


def test_a_loss_that_is_not_a_number_survives_and_the_file_is_strict_json(tmp_path: Path) -> None:
    losses = [math.nan, math.inf, -math.inf]
    points = [CurvePoint(step=i, loss=loss, seconds=0) for i, loss in enumerate(losses)]
    path = record(learning=points).save(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    read = [point.loss for point in Record.load(path).learning]
    assert math.isnan(read[0])
    assert read[1:] == [math.inf, -math.inf]


def test_tuples_in_settings_are_kept_as_lists(tmp_path: Path) -> None:
    original = record(settings={"lengths": (41, 500, 20), "nested": {"pair": [(1, 2)]}})
    assert original.settings == {"lengths": [41, 500, 20], "nested": {"pair": [[1, 2]]}}
    assert Record.load(original.save(tmp_path)) == original


def test_a_record_grows_and_every_assignment_is_checked() -> None:
    growing = record(score=None, status="running")
    growing.learning.append(CurvePoint(step=300, loss=0.2, seconds=4.0))
    growing.status = "interrupted"
    assert len(growing.learning) == 3
    with pytest.raises(ValidationError, match="running"):
        growing.status = "done"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="frozen"):
        growing.task.name = "other"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"status": "done"}, "'running', 'interrupted' or 'finished'"),
        ({"run_id": ""}, "at least 1 character"),
        ({"created": "yesterday"}, "'yesterday' is not an ISO-8601 time"),
        ({"created": "2026-01-31T12:00:00"}, "is not in UTC"),
        ({"created": "2026-01-31T12:00:00+02:00"}, "is not in UTC"),
        ({"settings": {"layer": object()}}, "not a valid JSON value"),
        ({"schema_version": 2}, "Input should be 1"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        record(**fields)


def test_the_present_is_written_in_utc() -> None:
    assert record(created=utc_now()).created.endswith("+00:00")


def fail_with(code: int) -> Any:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failing_disk_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = record(score=None)
    path = before.save(tmp_path)
    monkeypatch.setattr(records_module.os, "fsync", fail_with(code))
    with pytest.raises(UserError) as caught:
        record().save(tmp_path)
    assert str(caught.value) == (
        f"cannot write {path}: {os.strerror(code)}; free some space there or choose another folder"
    )
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]
    assert Record.load(path) == before


def test_an_interrupt_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_atomically(path, b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records_module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"page.html": b"old"}


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*run.record\.json: "):
        record().save(tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version": 1,', "is damaged or not a record: not JSON, .* at line 1"),
        (b"", "not JSON, Expecting value at line 1, column 1"),
        (b"\xff\xfe{}", "byte 0 is not UTF-8 text"),
        (b"[" * 100_000, "brackets nested too deep"),
        (b"[1, 2]", "is JSON, but not a treering record: it has no schema_version"),
        (b'{"name": "left-pad"}', "not a treering record"),
        (b'{"schema_version": 7}', "has record schema 7, this treering reads schema 1; "),
        (b'{"schema_version": 1}', r"is a damaged record: run_id: Field required \(and 6 more\)"),
    ],
)
def test_what_is_not_a_record_is_said_with_its_path(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Record.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_cut_out_of_a_record_is_named(tmp_path: Path) -> None:
    path = record().save(tmp_path)
    content = json.loads(path.read_text())
    del content["learning"][1]["loss"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"damaged record: learning\.1\.loss: Field required$"):
        Record.load(path)


def test_a_missing_record_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record at .*record\.json; give the folder of a run"):
        Record.load(tmp_path)


def test_a_record_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record().save(tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: fail_with(errno.EIO)())
    with pytest.raises(UserError, match=f"cannot read .*: {os.strerror(errno.EIO)}"):
        Record.load(path)


def test_find_records_looks_everywhere_and_loads_each_once(tmp_path: Path) -> None:
    for seed in range(3):
        record(seed=seed).save(tmp_path / "a" / "deep" / str(seed))
    single = record(seed=9).save(tmp_path / "b")
    assert [run.seed for run in find_records(tmp_path)] == [0, 1, 2, 9]
    assert [run.seed for run in find_records([single, tmp_path / "a", tmp_path / "a/deep/1"])] == [
        0,
        1,
        2,
        9,
    ]


def test_find_records_in_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record\.json under .*; `treering train`"):
        find_records(tmp_path)
    with pytest.raises(UserError, match=r"no such file or folder: .*missing"):
        find_records(tmp_path / "missing")


def test_a_damaged_record_among_good_ones_is_not_passed_over(tmp_path: Path) -> None:
    record().save(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE_NAME).write_text("{")
    with pytest.raises(UserError, match=r"bad.record\.json is damaged"):
        find_records(tmp_path)


# The printed tables of Student's distribution, two-sided 5%.
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


def test_records_import_without_torch() -> None:
    # The package itself imports torch, so a bare stand-in takes its place: what is tested is that
    # neither this module nor anything below it does.
    package = str(Path(records_module.__file__).parent)
    program = (
        "import sys, types\n"
        "package = types.ModuleType('treering')\n"
        f"package.__path__ = [{package!r}]\n"
        "sys.modules['treering'] = package\n"
        "import treering.records\n"
        "print(any(name.split('.')[0] == 'torch' for name in sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
