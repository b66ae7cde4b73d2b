"""Whole sentences and pairs of them: trained, told by operators, rebuilt, exported."""

import io
import sys
from pathlib import Path

import pytest
import torch

from treering.cli.models import load_run
from treering.models import Classifier, PairClassifier
from treering.records import Record
from treering.tasks.text import Vocabulary

from .conftest import FAST_TEXT, Call, assert_mistake, files_under


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few rows of each data set, in the files' own format."""
    place = folder / "data"
    for name in ("logical_inference", "sst_trees"):
        (place / name).mkdir(parents=True)
    for part, count in (("train", 7), ("test", 13)):
        for number in range(count):
            rows = [
                f"{'<>'[i % 2]}\t{'( ' * number}{'abcdef'[i % 6]}{' and b )' * number}\t( not "
                f"{'abcdef'[i // 6]} )\n"
                for i in range(12)
            ]
            (place / "logical_inference" / f"{part}{number}.tsv").write_text("".join(rows))
    for part in ("train", "dev", "test"):
        trees = [f"({i % 5} (2 word{i}) ({i % 5} kind{i % 5}))\n" for i in range(20)]
        (place / "sst_trees" / f"{part}.txt").write_text("".join(trees))
    monkeypatch.setenv("TREERING_DATA", str(place))
    return folder


def the_run(folder: Path) -> Path:
    (record,) = (folder / "runs").rglob("record.json")
    return record.parent


@pytest.mark.usefixtures("data")
def test_logical_inference_is_told_by_operators(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--layer=gru", "--pooling=max", *FAST_TEXT]
    assert call("train", "logical-inference", *words).code == 0
    run = load_run(the_run(folder))
    assert isinstance(run.model, PairClassifier)
    assert run.model.pooling == "max"
    task, evaluation = run.record.task, run.record.evaluation
    assert evaluation is not None
    assert (task.size, task.training_lengths, task.separator) == ("operators", (0, 6), ";")
    assert [at.length for at in evaluation.by_length] == list(range(13))
    assert {at.samples for at in evaluation.by_length} == {12}
    mean = sum(at.accuracy for at in evaluation.by_length) / 13
    assert mean == pytest.approx(evaluation.score)
    assert evaluation.score_name == "test accuracy"

    assert call("export", str(the_run(folder)), "--out=pairs.onnx").code == 0
    answers = []
    for place in (str(the_run(folder)), "pairs.onnx"):
        text = "( a and b ) ; ( not b )\na ; b\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        answers.append(call("predict", place).out)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"( a and b )\n")))
        assert_mistake(call("predict", place), "is no pair of sentences", "';'")
    assert answers[0] == answers[1]
    assert answers[0].count("\n") == 2


@pytest.mark.usefixtures("data")
def test_the_report_says_what_is_counted(call: Call, folder: Path) -> None:
    assert call("train", "logical-inference", "--layer=gru", *FAST_TEXT).code == 0
    assert call("report", "runs").code == 0
    page = next(folder.rglob("report.html")).read_text(encoding="utf-8")
    assert "Accuracy against operators" in page
    assert "Shaded: the operators trained on." in page
    assert "Accuracy against length" not in page


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(("word", "classes"), [("sst", 5), ("sst-binary", 2)])
def test_sst(word: str, classes: int, call: Call, folder: Path) -> None:
    assert call("train", word, "--layer=pr-lstm", *FAST_TEXT).code == 0
    run = load_run(the_run(folder))
    assert type(run.model) is Classifier
    assert run.record.task.classes == classes
    assert run.record.task.size == "length"
    assert isinstance(run.vocabulary, Vocabulary)
    ids = run.vocabulary.encode(["word1 kind1"])
    assert run.model(torch.tensor(ids)).shape == (1, 1, classes)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("option", ["--max-tokens=5", "--min-tokens=5", "--text=a", "--unit=word"])
def test_no_text_is_cut_or_lengthened(option: str, call: Call, folder: Path) -> None:
    before = files_under(folder)
    flag = option.split("=")[0]
    outcome = call("train", "sst", option, *FAST_TEXT)
    assert_mistake(outcome, f"{flag} means nothing for sst, a data set of whole sentences")
    assert files_under(folder) == before


@pytest.mark.usefixtures("data")
def test_the_usual_layers_are_compared(call: Call, folder: Path) -> None:
    assert call("compare", "sst-binary", "--seeds=1", *FAST_TEXT).code == 0
    layers = {Record.load(path).model.layer for path in folder.rglob("record.json")}
    assert layers == {"lstm", "ql-lstm", "pr-lstm"}
