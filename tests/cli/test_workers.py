"""Runs in processes of their own: the same results, stopped and gone on with, failing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from treering._errors import UserError
from treering.cli import runs, workers
from treering.cli.progress import Bars
from treering.cli.workers import IMPORTED, Reporter, run_in_processes
from treering.records import ACCURACY, Record, find_records
from treering.training import Interrupted

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, reviews, write_reviews

COMPARE = ["compare", "parity_check", "--layers=lstm,pr-lstm", "--seeds=2", *FAST, "--threads=1"]


@pytest.fixture(autouse=True)
def one_core() -> None:
    """Not here: processes see the machine as it is."""


def results(out: Path) -> list[dict[str, object]]:
    """Records without times."""
    plain = []
    for record in find_records(out):
        content = record.model_dump(mode="json", exclude={"created", "cost"})
        for point in content["learning"]:
            del point["seconds"]
        plain.append(content)
    return plain


def test_processes_give_the_results_of_one_run_after_the_other(call: Call, folder: Path) -> None:
    assert call(*COMPARE, "--jobs=1", "--out=one").code == 0
    together = call(*COMPARE, "--jobs=2", "--out=two")
    assert together.code == 0
    assert results(folder / "one") == results(folder / "two")
    assert {r["status"] for r in results(folder / "two")} == {"finished"}
    assert sorted(line.split("]")[0] for line in together.err.splitlines()) == [
        f"[{number}/4" for number in (1, 2, 3, 4)
    ]
    again = call(*COMPARE, "--jobs=2", "--out=two")
    assert again.code == 0
    assert again.err.count("finished before") == 4


def test_ctrl_c_saves_all_runs_and_the_same_command_goes_on(call: Call, folder: Path) -> None:
    long = [word for word in COMPARE if not word.startswith("--steps")]
    words = [*long, "--steps=200", "--jobs=2", "--seeds=1"]
    words.remove("--seeds=2")
    assert call(*words, "--out=whole").code == 0

    script = "import sys; from treering.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words, "--out=stopped"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while len(list((folder / "stopped").rglob("record.json"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("treering: stop")
    assert "Traceback" not in err
    states = {record.status for record in find_records(folder / "stopped")}
    assert "running" not in states
    assert "interrupted" in states

    assert call(*words, "--out=stopped").code == 0
    assert results(folder / "stopped") == results(folder / "whole")


def succeed(path: str, progress: Reporter) -> None:
    progress.start(1)
    Path(path).write_text("done", encoding="utf-8")


def make_a_mistake(text: str, progress: Reporter) -> None:
    raise UserError(text)


def die(code: int, progress: Reporter) -> None:
    os._exit(code)


def train_until_stopped(path: str, progress: Reporter) -> None:
    """A run as the training loop is one: it asks after every step whether it should stop."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGINT, ask)
    progress.start(10**6)
    for step in range(10**6):
        progress.advance(step, 0.0, 0.0)
        time.sleep(0.001)
        if asked:
            Path(path).write_text("saved", encoding="utf-8")
            raise Interrupted(Path(path), step)


def a_run(title: str, *arguments: Any) -> workers.Call:
    return workers.Call(title, ACCURACY, arguments, lambda: False)


def test_a_mistake_in_one_run_stops_and_saves_the_others(tmp_path: Path) -> None:
    calls = [
        a_run("long", str(tmp_path / "saved")),
        a_run("wrong", "too large"),
    ]
    with Bars(2, quiet=True) as bars, pytest.raises(UserError, match="too large"):
        run_in_processes(_one_of_two, calls, 2, bars)
    assert (tmp_path / "saved").read_text(encoding="utf-8") == "saved"


def _one_of_two(text: str, progress: Reporter) -> None:
    if text == "too large":
        # Not before the other one is at work.
        time.sleep(2)
        make_a_mistake(text, progress)
    train_until_stopped(text, progress)


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with Bars(1, quiet=True) as bars, pytest.raises(RuntimeError, match=r"lstm seed 0 .* code 7"):
        run_in_processes(die, [a_run("lstm seed 0", 7)], 2, bars)


def look_around(path: str, progress: Reporter) -> None:
    there = {name for name in IMPORTED if name in sys.modules}
    parent = psutil.Process().parent()
    assert parent is not None
    Path(path).write_text(json.dumps([sorted(there), parent.pid]), encoding="utf-8")


@pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
def test_processes_come_from_one_that_has_imported_everything(tmp_path: Path) -> None:
    calls = [a_run(f"run {k}", str(tmp_path / str(k))) for k in range(2)]
    with Bars(2, quiet=True) as bars:
        run_in_processes(look_around, calls, 1, bars)
    one, other = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in "01")
    assert one == other == [sorted(IMPORTED), one[1]]
    assert one[1] != os.getpid()


def test_a_task_is_given_to_a_run_and_not_loaded_again(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_reviews(folder / "reviews.csv", reviews(40))
    words = ["compare", "reviews.csv", *COLUMNS, *FAST_TEXT, "--layers=lstm,gru", "--seeds=1"]
    assert call(*words, "--jobs=1", "--threads=1", "--out=one").code == 0
    loaded = runs.prepare

    def prepare_and_remove(*arguments: Any) -> runs.Protocol:
        protocol = loaded(*arguments)
        file.unlink()
        return protocol

    monkeypatch.setattr("treering.cli.compare.prepare", prepare_and_remove)
    outcome = call(*words, "--jobs=2", "--threads=1", "--out=two")
    assert outcome.code == 0, outcome.err
    assert results(folder / "one") == results(folder / "two")


def test_more_runs_than_processes(tmp_path: Path) -> None:
    calls = [a_run(f"run {k}", str(tmp_path / str(k))) for k in range(3)]
    with Bars(3, quiet=True) as bars:
        run_in_processes(succeed, calls, 2, bars)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_record_says_how_many_threads_a_run_had(call: Call, folder: Path) -> None:
    words = [word for word in COMPARE if not word.startswith("--threads")]
    assert call(*words, "--jobs=2", "--out=runs").code == 0
    for path in (folder / "runs").rglob("record.json"):
        record = Record.load(path)
        threads = record.environment.threads
        assert f"--threads {threads}" in record.command
        assert "--jobs" not in record.command
