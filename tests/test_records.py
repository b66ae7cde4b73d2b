"""One run's record: written whole or not at all, read back as it was."""

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
from made_records import record
from treering._errors import UserError
from treering.records import (
    FILE_NAME,
    CurvePoint,
    Record,
    find_records,
    utc_now,
    write_atomically,
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
        ({"status": "done"}, "'running', 'interrupted', 'diverged' or 'finished'"),
        ({"run_id": ""}, "at least 1 character"),
        ({"created": "yesterday"}, "'yesterday' is not an ISO-8601 time"),
        ({"created": "2026-01-31T12:00:00"}, "is not in UTC"),
        ({"created": "2026-01-31T12:00:00+02:00"}, "is not in UTC"),
        ({"settings": {"layer": object()}}, "not a valid JSON value"),
        ({"schema_version": 1}, "Input should be 2"),
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
    monkeypatch.setattr(os, "fsync", fail_with(code))
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

    monkeypatch.setattr(os, "fsync", interrupt)
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
        (b'{"schema_version": 7}', "has record schema 7, this treering reads schema 2; "),
        (b'{"schema_version": 2}', r"is a damaged record: run_id: Field required \(and 6 more\)"),
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
