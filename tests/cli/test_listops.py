"""ListOps on the command line: trained, stopped, answered and exported with its own vocabulary."""

import io
import json
import sys
from pathlib import Path

import pytest

from treering.cli.models import load_run
from treering.records import Record
from treering.tasks.listops import ListOpsVocabulary

from .conftest import FAST_TEXT, Call, assert_mistake, files_under

ROWS = ["9\t( ( ( [MAX 5 ) 9 ) ] )", "0\t( ( ( ( [SM 6 ) 1 ) 3 ) ] )", "2\t( ( ( [MED 1 ) 4 ) ] )"]


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "data" / "listops").mkdir(parents=True)
    (folder / "data" / "listops" / "test_d20s.tsv").write_text("\n".join(ROWS) + "\n")
    monkeypatch.setenv("TREERING_DATA", str(folder / "data"))
    monkeypatch.setattr("treering.tasks.listops.load.EXPRESSIONS", 200)


def trained(call: Call, *words: str) -> Path:
    outcome = call("train", "listops", *FAST_TEXT, *words)
    assert outcome.code == 0, outcome.err
    return Path(outcome.out.splitlines()[-1].removeprefix("Record and checkpoint: "))


def predicted(call: Call, monkeypatch: pytest.MonkeyPatch, model: Path, text: str, *words: str):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return call("predict", str(model), *words)


def test_a_run_is_trained_and_its_model_answers(call: Call, monkeypatch: pytest.MonkeyPatch):
    run = trained(call, "--layer=rnn", "--max-tokens=20")
    record = Record.load(run)
    assert (record.task.name, record.task.kind, record.task.classes) == ("listops", "dataset", 10)
    assert record.task.labels == tuple("0123456789")
    assert record.task.max_tokens is None
    assert isinstance(load_run(run).vocabulary, ListOpsVocabulary)
    # Longer than what was trained on, and not cut: its last token still counts.
    deep = " ".join(["[MAX 1"] * 12 + ["]"] * 12)
    text = f"[MAX 5 9 ]\n\n( ( ( [MAX 5 ) 9 ) ] )\n{deep}\n"
    plain, empty, bracketed, long = map(
        json.loads, predicted(call, monkeypatch, run, text, "--json").out.splitlines()
    )
    assert plain["probabilities"].keys() == set("0123456789")
    assert (empty, bracketed["label"]) == (None, plain["label"])
    assert bracketed["probability"] == pytest.approx(plain["probability"], abs=1e-6)
    assert long["probability"] > 0
    assert_mistake(
        predicted(call, monkeypatch, run, "[MAX 5 9\n"), "cannot read '[MAX 5 9'", "not closed"
    )


def test_the_same_command_compares_and_finds_its_runs(call: Call):
    words = ["compare", "listops", "--layers=rnn,gru", "--seeds=1", *FAST_TEXT, "--jobs=1"]
    assert call(*words).code == 0
    again = call(*words)
    assert again.code == 0
    assert again.err.count("finished before") == 2


@pytest.mark.usefixtures("one_table_of_operators")
def test_an_exported_file_answers_alike(call: Call, monkeypatch: pytest.MonkeyPatch):
    run = trained(call, "--layer=rnn")
    assert call("export", str(run), "--out=m.onnx").code == 0
    text = "[MAX 5 9 ]\n[SM 1 [MIN 7 3 4 ] ]\n7\n"
    answers = [predicted(call, monkeypatch, model, text).out for model in (run, Path("m.onnx"))]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--text=a"], ["--text", "listops, a task of expressions"]),
        (["--max-words=9"], ["--max-words", "leave it out"]),
        (["--train-length=9"], ["--train-length", "leave it out"]),
        (["--max-tokens=2"], ["max_tokens is 2", "write 4 or more"]),
    ],
)
def test_mistakes(words: list[str], expected: list[str], call: Call, folder: Path):
    before = files_under(folder)
    assert_mistake(call("train", "listops", *FAST_TEXT, *words), *expected)
    assert files_under(folder) == before
