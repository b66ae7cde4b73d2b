"""`treering bench` end to end at sizes of milliseconds."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.making import SESSION
from treering.bench import growth, table
from treering.bench.record import Comparison, Growth, read
from treering.bench.rows import rows
from treering.cli import bench

from .conftest import Call

TINY = ("--budget", "smoke", "--threads", "1")
ROWS = ("lstm-train", "pr-lstm-reduce-train", "step-ql-lstm", "gemm-lstm-infer")


def test_rows_end_to_end(call: Call, tmp_path: Path):
    done = call("bench", *ROWS, *TINY, "--out", str(tmp_path))
    assert done.code == 0, done.err
    kept = read(tmp_path)
    assert sorted(one.name for one in kept) == sorted(ROWS)
    for one in kept:
        assert isinstance(one, Comparison)
        # The authors' code is not a package that tests can ask for.
        assert one.status == "measured" or "not installed" in one.reason or "checkout" in one.reason
        assert one.name in done.out
        assert one.name in done.err
        assert one.command.startswith("treering bench lstm-train ")
        assert one.machine.threads == 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ROWS)
    assert str(tmp_path / "report.html") in done.out


def test_sweeps_end_to_end(call: Call, tmp_path: Path):
    done = call("bench", "crossover", "growth", *TINY, "--out", str(tmp_path), "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    kept = {one.name: one for one in read(tmp_path)}
    assert {one["name"] for one in done.json} == set(kept)
    assert sum(name.startswith("crossover-") for name in kept) == 4
    curves = [one for one in kept.values() if isinstance(one, Growth)]
    assert {(curve.case.layer, curve.case.mode) for curve in curves} == {
        (layer, mode) for layer in ("pr-lstm", "transformer") for mode in ("infer", "train")
    }
    for curve in curves:
        assert [point.time for point in curve.points] == list(growth.LENGTHS["smoke"])
        assert curve.time_exponent is not None
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Where the tree beats a loop" in page
    assert "Growth with length" in page


def test_without_a_word_it_is_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Call
):
    asked: list[str] = []

    def skipped(row: Any, session: table.Session) -> Comparison:
        asked.append(row.name)
        return _skipped(row, session)

    monkeypatch.setattr(table, "compare", skipped)
    assert call("bench", *TINY, "--out", str(tmp_path)).code == 0
    assert len(asked) == len(set(asked)) == len(read(tmp_path)) > 40


def _skipped(row: Any, session: table.Session) -> Comparison:
    fields: Any = session.common
    return Comparison(
        name=row.name,
        group=row.group,
        case=row.case,
        peer=row.peer.title,
        quantity=row.quantity,
        target=row.target,
        status="skipped",
        reason="for a test",
        **fields,
    )


def test_an_unknown_row(call: Call, tmp_path: Path):
    done = call("bench", "growht", *TINY, "--out", str(tmp_path))
    assert done.code == 2
    assert "unknown measurement 'growht'; did you mean 'growth'?" in done.err
    assert not list(tmp_path.iterdir())


def test_stopped_keeps_what_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Call
):
    def compare(row: Any, session: table.Session) -> Comparison:
        if row.name == "lstm-infer":
            raise KeyboardInterrupt
        return _skipped(row, session)

    monkeypatch.setattr(table, "compare", compare)
    done = call("bench", "lstm-*", *TINY, "--out", str(tmp_path))
    assert done.code == 130
    assert "1 of 2 measurements are kept" in done.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lstm-train.json", "report.html"]


def test_stopped_leaves_no_process_behind(tmp_path: Path):
    words = ["bench", "growth", "--budget", "quick", "--threads", "1", "--out", str(tmp_path)]
    code = "import sys; from treering.cli import main; sys.exit(main(sys.argv[1:]))"
    program = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    watched = psutil.Process(program.pid)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not children and time.monotonic() < deadline and program.poll() is None:
        # A child may end between being listed and being asked.
        with suppress(psutil.NoSuchProcess):
            children = [p for p in watched.children() if "treering.bench.alone" in p.cmdline()]
        time.sleep(0.05)
    assert children
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert b"measurements are kept" in err
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.glob(".*"))


def test_rows_and_curves_by_pattern_are_in_the_order_of_the_table():
    def asked(*what: str) -> list[str]:
        return [work.name for work in bench.planned(what, SESSION)]

    assert asked("ql-lstm-infer", "lstm-*") == ["lstm-train", "lstm-infer", "ql-lstm-infer"]
    assert asked("growth", "crossover-left-*")[-1] == "growth-transformer-train"
    assert asked("growth-*") == asked("growth")
    assert asked("growth-pr*") == ["growth-pr-lstm-infer", "growth-pr-lstm-train"]
    assert asked() == asked("table") == [row.name for row in rows()]


def test_json_is_all_there_is_on_standard_output(call: Call, tmp_path: Path):
    done = call("bench", "lstm-infer", *TINY, "--out", str(tmp_path), "--json")
    (one,) = json.loads(done.out)
    assert one["status"] == "measured"
    assert one["ratio"]["median"] > 0
