"""Runs of the command line: stopped and gone on with, damaged, repeated from their records."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from treering.cli import progress
from treering.records import Record, find_records
from treering.training import Curriculum

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, assert_mistake, reviews, write_reviews

TRAIN = ["train", "parity_check", "--layer=pr-lstm", *FAST]
COMPARE = ["compare", "parity_check", "--layers=lstm,pr-lstm", "--seeds=1", *FAST, "--jobs=1"]


def the_run(out: Path, layer: str = "pr-lstm") -> Path:
    """The folder of the only run of a layer."""
    (record,) = out.rglob(f"{layer}/*/record.json")
    return record.parent


def content(run: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """All of a run that must not depend on when it was stopped: no times, no speed."""
    record = Record.load(run).model_dump(mode="json", exclude={"created", "cost"})
    for point in record["learning"]:
        del point["seconds"]
    (tensors,) = run.glob("*.safetensors")
    return record, load_file(tensors)


def assert_same_run(one: Path, other: Path) -> None:
    (record, tensors), (other_record, other_tensors) = content(one), content(other)
    assert record == other_record
    assert record["status"] == "finished"
    assert tensors.keys() == other_tensors.keys()
    assert any(name.startswith("model.") for name in tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Send this process SIGINT when the command's step number `at` (from 1) is done."""
    steps = 0
    advance = progress.RunBar.advance

    def counted(bar: progress.RunBar, step: int, loss: float, score: float) -> None:
        nonlocal steps
        steps += 1
        advance(bar, step, loss, score)
        if steps == at:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.RunBar, "advance", counted)


@pytest.mark.parametrize("task", ["word_problem_s3", "mqar"])
def test_answers_along_the_input_go_on_and_are_compared(
    task: str, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare", task, "--layers=lstm,pr-lstm", "--seeds=1", *FAST, "--jobs=1"]
    assert call(*words, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, 3 + 2)
        assert call(*words, "--out=stopped").code == 130
    assert call(*words, "--out=stopped").code == 0
    for layer in ("lstm", "pr-lstm"):
        assert_same_run(the_run(folder / "whole", layer), the_run(folder / "stopped", layer))
    record = Record.load(the_run(folder / "whole"))
    assert record.evaluation is not None
    assert {entry.length for entry in record.evaluation.by_length} >= {7, 10}
    assert record.task.training_lengths == (3 if task == "mqar" else 1, 6)
    assert task in (folder / "whole" / task / "report.html").read_text()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_train_goes_on_after_ctrl_c_as_if_never_stopped(
    at: int, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*TRAIN, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, at)
        outcome = call(*TRAIN, "--out=stopped")
    assert (outcome.code, outcome.out) == (130, "")
    again = shlex.join(["treering", *TRAIN, "--out=stopped"])
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("treering: ")]
    assert line.startswith(f"treering: stopped after step {at}, saved in stopped/")
    assert line.endswith(f"the same command goes on from there: {again}")
    assert Record.load(the_run(folder / "stopped")).status == "interrupted"

    assert call(*shlex.split(again)[1:]).code == 0
    assert_same_run(the_run(folder / "whole"), the_run(folder / "stopped"))


def test_drawn_brackets_and_an_associativity_penalty_go_on_as_if_never_stopped(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = "pr-lstm:schedule=random-in-training+associativity:weight=0.5"
    words = ["train", "parity_check", f"--layer={layer}", *FAST]
    assert call(*words, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, 2)
        assert call(*words, "--out=stopped").code == 130
    assert call(*words, "--out=stopped").code == 0
    assert_same_run(*(the_run(folder / out, "pr-lstm*") for out in ("whole", "stopped")))
    assert call(*words[:2], "--layer=pr-lstm", *FAST, "--out=plain").code == 0
    losses = [
        [point.loss for point in Record.load(the_run(folder / out, "pr-lstm*")).learning]
        for out in ("whole", "plain")
    ]
    assert losses[0] != losses[1]


def test_a_long_specification_has_a_folder(call: Call, folder: Path) -> None:
    numbers = "/".join(f"{side}_{gate}@0.12345678901234567" for side in "UW" for gate in "ifgo")
    layer = f"lstm+lp:weights={numbers}:exponents={numbers}"
    outcome = call("train", "parity_check", f"--layer={layer}", *FAST)
    assert outcome.code == 0
    assert Record.load(the_run(folder, "lstm*")).model.layer.count("@") == 16


def test_compare_goes_on_in_the_middle_of_its_second_run(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*COMPARE, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, 3 + 2)
        outcome = call(*COMPARE, "--out=stopped")
    assert (outcome.code, outcome.out) == (130, "")
    assert "stopped after step 2" in outcome.err
    assert not (folder / "stopped/parity_check/report.html").exists()
    assert Record.load(the_run(folder / "stopped", "lstm")).status == "finished"

    outcome = call(*COMPARE, "--out=stopped")
    assert outcome.code == 0
    assert outcome.err.startswith("[1/2] lstm seed 0: finished before\n[2/2] pr-lstm seed 0: ")
    for layer in ("lstm", "pr-lstm"):
        assert_same_run(the_run(folder / "whole", layer), the_run(folder / "stopped", layer))


def test_a_process_stopped_by_a_signal_says_how_to_go_on(folder: Path) -> None:
    words = ["train", "parity_check", "--layer=lstm", *FAST[1:], "--steps=1000000"]
    script = "import sys; from treering.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while not list(folder.rglob("record.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.startswith("treering: stopped after step ")
    assert err.endswith(f": {shlex.join(['treering', *words])}\n")
    assert err.count("\n") == 1


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writes", range(6))
def test_a_full_disk_at_any_write(
    writes: int, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*TRAIN, "--out=whole").code == 0
    done = 0

    def full_after(_: int) -> None:
        nonlocal done
        done += 1
        if done > writes:
            raise FULL

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full_after)
        outcome = call(*TRAIN, "--out=full")
    assert done == writes + 1
    assert_mistake(outcome, "cannot write full/", "No space left on device")
    assert not list(folder.rglob("*.part"))
    for record in folder.glob("full/**/record.json"):
        assert Record.load(record).status == "running"

    assert call(*TRAIN, "--out=full").code == 0
    assert_same_run(the_run(folder / "whole"), the_run(folder / "full"))


def test_a_full_disk_under_the_report(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*TRAIN).code == 0

    def full(_: int) -> None:
        raise FULL

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        assert_mistake(call("report"), "cannot write report.html", "No space left on device")
    assert not list(folder.glob("*report*"))


def cut_tensors(run: Path) -> str:
    (tensors,) = run.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-7])
    return "SHA-256"


def lose_tensors(run: Path) -> str:
    (tensors,) = run.glob("*.safetensors")
    tensors.unlink()
    return "is missing"


def break_json(run: Path) -> str:
    (run / "checkpoint.json").write_text("{")
    return "not JSON"


def break_encoding(run: Path) -> str:
    (run / "checkpoint.json").write_bytes(b"\xff\xfe{")
    return "checkpoint.json is damaged"


def edit_position(run: Path) -> str:
    path = run / "checkpoint.json"
    path.write_text(path.read_text().replace('"step": ', '"step": "a", "steps": '))
    return "position.step"


def edit_settings(run: Path) -> str:
    path = run / "checkpoint.json"
    path.write_text(path.read_text().replace('"batch_size": 4', '"batch_size": 5'))
    return "settings.batch_size is 5 there, 4 here"


def lose_header(run: Path) -> str:
    (run / "checkpoint.json").unlink()
    return "checkpoint.json is missing"


def break_record(run: Path) -> str:
    (run / "record.json").write_text('{"schema_version": 2}')
    return "damaged record"


@pytest.mark.parametrize(
    "damage",
    [
        cut_tensors,
        lose_tensors,
        break_json,
        break_encoding,
        edit_position,
        edit_settings,
        lose_header,
        break_record,
    ],
)
def test_a_damaged_run_is_refused_and_left_as_it_is(damage: Any, call: Call, folder: Path) -> None:
    assert call(*TRAIN).code == 0
    run = the_run(folder)
    expected = damage(run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert_mistake(call(*TRAIN), expected, str(run.relative_to(folder)))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_train_and_compare_share_their_runs(call: Call, folder: Path) -> None:
    assert call(*TRAIN).code == 0
    outcome = call(*COMPARE)
    assert "[2/2] pr-lstm seed 0: finished before" in outcome.err
    assert len(find_records(folder)) == 2
    assert (folder / "runs/parity_check/report.html").exists()


def test_spelling_and_order_of_options_do_not_make_another_run(call: Call, folder: Path) -> None:
    for layer in ("lstm+lp:weights=1e-3+tree-order", "lstm+tree-order+lp:weights=0.001"):
        assert call("train", "parity_check", "--layer", layer, *FAST).code == 0
    assert len(find_records(folder)) == 1


EVERYTHING = [
    "--text=review",
    "--label=stars",
    "--test=more reviews.csv",
    "--max-tokens=5",
    "--min-tokens=4",
    "--max-words=30",
    "--hidden-size=3",
    "--embedding-size=5",
    "--pooling=mean",
    "--dropout=0.25",
    "--epochs=2",
    "--batch-size=7",
    "--bucket=2",
    "--learning-rate=0.02",
    "--learning-rate-schedule=cosine",
    "--warmup-steps=2",
    "--weight-decay=0.01",
    "--precision=bfloat16",
    "--clip=0.5",
    "--threads=1",
    "--device=cpu:0",
]


def test_a_growing_curriculum_is_trained_and_recorded(call: Call) -> None:
    records = []
    for words in (["--curriculum=growing"], ["--curriculum=uniform"], []):
        assert call("train", "parity_check", *FAST, *words).code == 0
        records = find_records("runs")
    # One that grows is a run of its own; uniform is what no word means.
    found = [Curriculum.model_validate(record.settings["curriculum"]).kind for record in records]
    assert sorted(found) == ["growing", "uniform"]


def test_low_precision_is_trained_and_recorded_with_what_runs_under_it(call: Call) -> None:
    for precision in ("bfloat16", "float32"):
        words = [*FAST, "--layer=lstm", f"--precision={precision}"]
        assert call("train", "parity_check", *words).code == 0
    records = {str(record.settings["precision"]): record for record in find_records("runs")}
    assert {name: "autocast" in run.model.explain for name, run in records.items()} == {
        "bfloat16": True,
        "float32": False,
    }
    losses = [[point.loss for point in run.learning] for run in records.values()]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "words",
    [
        ["parity_check", *FAST],
        ["parity_check", "--steps=2", "--learning-rate=0.01", "--clip=0.3", *FAST[1:]],
        ["parity_check", "--curriculum=growing", *FAST],
        ["reviews.csv", *COLUMNS, *FAST_TEXT],
        ["reviews.csv", *EVERYTHING],
    ],
    ids=["defaults", "generated", "curriculum", "file", "everything"],
)
def test_the_command_in_a_record_repeats_the_run(
    words: list[str], call: Call, folder: Path
) -> None:
    threads = torch.get_num_threads()
    write_reviews(folder / "reviews.csv", reviews(40))
    write_reviews(folder / "more reviews.csv", reviews(10, seed=1))
    layers = "--layers=lstm,gru:bidirectional=true+tree-order+lp:weights=1e-5"
    assert call("compare", *words, layers, "--seeds=2", "--out=first").code == 0
    records = find_records("first")
    assert len(records) == 4
    for record in records:
        name, *command = shlex.split(record.command)
        assert name == "treering"
        assert call(*command, "--out=first").err.endswith(": finished before\n")
        assert call(*command).code == 0
    torch.set_num_threads(threads)
    for run in (folder / "first").rglob("record.json"):
        inside = run.parent.relative_to(folder / "first")
        assert_same_run(run.parent, folder / "runs" / inside)


def test_the_command_has_every_option_that_was_given(call: Call, folder: Path) -> None:
    threads = torch.get_num_threads()
    write_reviews(folder / "reviews.csv", reviews(40))
    write_reviews(folder / "more reviews.csv", reviews(10, seed=1))
    assert call("train", "reviews.csv", *EVERYTHING, "--seed=7", "--out=x", "--json").code == 0
    torch.set_num_threads(threads)
    (record,) = find_records("x")
    command = shlex.split(record.command)
    assert "x" not in command
    for option in (*EVERYTHING, "--layer=pr-lstm", "--seed=7"):
        name, _, value = option.partition("=")
        assert command[command.index(name) + 1] == value
