"""`treering predict` and `treering export`: the same answers from a run and from its file."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from treering.cli.models import load_run
from treering.models import Classifier
from treering.tasks import get

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, assert_mistake, reviews, write_reviews

Feed = Callable[[str], None]


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Put text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


def trained(call: Call, *words: str) -> str:
    """The folder of a run, from what `train` prints."""
    outcome = call("train", *words)
    assert outcome.code == 0, outcome.err
    return outcome.out.splitlines()[-1].removeprefix("Record and checkpoint: ")


@pytest.fixture
def classifier(call: Call, folder: Path) -> str:
    write_reviews(folder / "reviews.csv", reviews(60))
    return trained(call, "reviews.csv", *COLUMNS, *FAST_TEXT, "--layer=gru")


def trained_on_a_novel(call: Call, folder: Path, layer: str) -> str:
    (folder / "novel.txt").write_text("the cat sat on the mat\n" * 60)
    return trained(
        call, "novel.txt", "--layer", layer, "--steps=2", "--hidden-size=8",
        "--embedding-size=4", "--batch-size=2", "--truncate=8",
    )  # fmt: skip


@pytest.fixture
def language_model(call: Call, folder: Path) -> str:
    return trained_on_a_novel(call, folder, "pr-lstm")


class TestPredict:
    def test_a_file_is_answered_line_by_line(self, classifier: str, call: Call, folder: Path):
        rows = reviews(70, seed=3)
        texts = [row["review"] for row in rows]
        (folder / "new.txt").write_text("\n".join(texts) + "\n")
        outcome = call("predict", classifier, "new.txt")
        assert outcome.code == 0
        lines = outcome.out.splitlines()
        assert len(lines) == 70
        run = load_run(folder / classifier)
        tokens = [torch.tensor([run.vocabulary.encode([t])[0]]) for t in texts]  # type: ignore[union-attr]
        with torch.no_grad():
            chances = torch.cat([run.model(t).softmax(-1)[0] for t in tokens])
        for line, chance in zip(lines, chances, strict=True):
            label, probability = line.split("\t")
            assert label == run.record.task.labels[int(chance.argmax())]
            assert float(probability) == pytest.approx(float(chance.max()), abs=6e-4)

    def test_standard_input_and_json(self, classifier: str, call: Call, feed: Feed):
        feed("The film was lovely.\r\n\nMy dinner there was stale")
        outcome = call("predict", classifier, "--json")
        first, empty, last = map(json.loads, outcome.out.splitlines())
        assert empty is None
        assert outcome.err == "treering: line 2 has no words\n"
        assert first["probabilities"].keys() == {"good", "bad"}
        assert last["probability"] == max(last["probabilities"].values())

    def test_a_short_line_is_repeated_as_in_training(self, call: Call, folder: Path, feed: Feed):
        write_reviews(folder / "reviews.csv", reviews(60))
        sizes = ["--min-tokens=20", "--max-tokens=20"]
        words = [*COLUMNS, *FAST_TEXT, *sizes, "--bucket=2", "--layer=gru"]
        place = trained(call, "reviews.csv", *words)
        feed("The film was lovely\n")
        (answer,) = map(json.loads, call("predict", place, "--json").out.splitlines())
        run = load_run(folder / place)
        assert run.record.task.min_tokens == 20
        assert run.record.settings["bucket"] == 2
        ids = run.vocabulary.encode(["The film was lovely"])[0] * 5  # type: ignore[union-attr]
        with torch.no_grad():
            chances = run.model(torch.tensor([ids])).softmax(-1).flatten()
        assert [*answer["probabilities"].values()] == pytest.approx(chances.tolist())

    def test_lines_are_answered_as_they_come(
        self, classifier: str, call: Call, monkeypatch: pytest.MonkeyPatch
    ):
        """The second line is not read before the first is answered."""
        printed: list[str] = []

        class Typing(io.StringIO):
            def reconfigure(self, **options: str) -> None:
                pass

            def __next__(self) -> str:
                printed.append(sys.stdout.getvalue())  # type: ignore[attr-defined]
                if len(printed) > 3:
                    raise StopIteration
                return f"line {len(printed)}\n"

        monkeypatch.setattr(sys, "stdin", Typing())
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert call("predict", classifier).code == 0
        assert [text.count("\n") for text in printed] == [0, 1, 2, 3]

    def test_a_language_model_goes_on(self, language_model: str, call: Call, feed: Feed):
        found = []
        for words in ([], [], ["--temperature=1"], ["--temperature=1", "--seed=1"]):
            feed("the cat\nthe\n")
            outcome = call("predict", language_model, "--tokens=20", *words)
            assert outcome.code == 0, outcome.err
            assert len(outcome.out.splitlines()) == 2
            found.append(outcome.out)
        assert found[0] == found[1]
        assert len({*found}) == 3
        feed("the cat\n")
        data = call("predict", language_model, "--tokens=20", "--json").json
        assert len(data["continuation"]) == 20
        assert data["nats_per_token"] > 0

    def test_a_generated_task_says_whether_it_is_right(self, call: Call, feed: Feed):
        run = trained(call, "reverse_string", *FAST, "--layer=lstm")
        feed("0110\n011\n")
        outcome = call("predict", run, "--json")
        wanted = [get("reverse_string").solve(get("reverse_string").encode(t)) for t in
                  ("0110", "011")]  # fmt: skip
        for line, right in zip(outcome.out.splitlines(), wanted, strict=True):
            data = json.loads(line)
            assert len(data["outputs"]) == right.shape[1]
            assert data["right"] == (data["outputs"] == right[0].tolist())
        feed("012\n")
        assert_mistake(call("predict", run), "'2' is no symbol of it")

    def test_answers_along_the_input(self, call: Call, feed: Feed):
        run = trained(call, "word_problem_a5", *FAST, "--layer=lstm")
        text = "01342 12034 43210"
        feed(f"{text}\n  \n{text}\n")
        outcome = call("predict", run, "--json")
        first, empty, again = map(json.loads, outcome.out.splitlines())
        wanted = get("word_problem_a5").solve(get("word_problem_a5").encode(text))
        assert len(first["outputs"]) == 3
        assert first["right"] == (first["outputs"] == wanted[0].tolist())
        assert (empty, again) == (None, first)
        feed(text)
        written, said = call("predict", run).out.rstrip("\n").split("\t")
        assert written == " ".join(map(str, first["outputs"]))
        assert said == ("right" if first["right"] else "wrong")
        feed("01342 01324\n")
        assert_mistake(call("predict", run), "'01324' is no symbol of it", "01234 01342 ")

    def test_what_is_not_asked_is_not_answered(self, call: Call, feed: Feed):
        run = trained(call, "mqar", *FAST, "--layer=gru")
        feed("k1 v1 k2 v2 _ k2 k1\n")
        outcome = call("predict", run, "--json")
        data = outcome.json
        assert data["outputs"][:5] == [None] * 5
        assert data["right"] == (data["outputs"][5:] == [2, 1])
        feed("k1 v1 k2 v2 _ k2 k1\n")
        assert call("predict", run).out.startswith("- - - - - ")
        feed("k1 v1 k2\n")
        assert_mistake(call("predict", run), "mqar: row 0 is 'k1 v1 k2': not pairs")

    def test_mistakes(self, classifier: str, call: Call, folder: Path):
        assert_mistake(call("predict", "nowhere"), "nowhere does not exist", "folder of a run")
        assert_mistake(call("predict", classifier, "nowhere.txt"), "cannot read nowhere.txt")
        (folder / "latin.txt").write_bytes(b"good\nna\xefve\n")
        outcome = call("predict", classifier, "latin.txt")
        assert outcome.code == 2
        assert "latin.txt: after line" in outcome.err
        (folder / "no.onnx").write_bytes(b"no")
        assert_mistake(call("predict", "no.onnx"), "not an ONNX file that onnxruntime can run")
        assert_mistake(call("predict", "none.onnx"), "write it with: treering export RUN")


@pytest.mark.usefixtures("one_table_of_operators")
class TestExport:
    def test_a_classifier_answers_alike(self, classifier: str, call: Call, feed: Feed):
        outcome = call("export", classifier, "--out=m.onnx", "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["difference"] < 1e-5
        assert len(outcome.json["checked"]) == 3
        answers = []
        for model in (classifier, "m.onnx"):
            feed("The film was lovely from start to end\nstale\n\nMy dinner there was a disaster")
            answers.append(call("predict", model).out)
        assert answers[0] == answers[1]

    def test_pooling_and_dropout_are_restored(self, call: Call, folder: Path, feed: Feed):
        write_reviews(folder / "reviews.csv", reviews(60))
        words = [*COLUMNS, *FAST_TEXT, "--pooling=max", "--dropout=0.5", "--layer=gru"]
        run = trained(call, "reviews.csv", *words)
        loaded = load_run(folder / run)
        assert (loaded.record.model.pooling, loaded.record.model.dropout) == ("max", 0.5)
        assert isinstance(loaded.model, Classifier)
        assert (loaded.model.pooling, loaded.model.dropout.p) == ("max", 0.5)
        assert "--pooling max --dropout 0.5" in loaded.record.command
        assert call("export", run, "--out=model.onnx").code == 0
        answers = []
        for place in (run, "model.onnx"):
            feed("The film was lovely\nMy dinner there was stale\n")
            answers.append(call("predict", place).out)
        assert answers[0] == answers[1]
        assert answers[0].count("\n") == 2

    def test_int8_shows_size_score_and_speed(self, classifier: str, call: Call, folder: Path):
        outcome = call("export", classifier, "--int8", "--tokens=8")
        assert outcome.code == 0, outcome.err
        lines = [re.split(r"\s{2,}", line.strip()) for line in outcome.out.splitlines()]
        rows = {name: cells for name, *cells in lines}
        units = {"ONNX file": "MB", "onnxruntime, a call": "ms", "PyTorch, a call": "ms"}
        for name, unit in units.items():
            assert all(re.fullmatch(rf"\d+\.\d+ {unit}", cell) for cell in rows[name][:2])
        run = load_run(folder / classifier)
        assert run.record.evaluation is not None
        full, small = map(float, rows["test accuracy"])
        assert full == pytest.approx(run.record.evaluation.test_score, abs=1e-4)
        assert 0 <= small <= 1

    def test_without_its_data_the_score_is_said_to_be_missing(
        self, classifier: str, call: Call, folder: Path
    ):
        (folder / "reviews.csv").unlink()
        outcome = call("export", classifier, "--int8", "--tokens=8", "--json")
        assert outcome.code == 0, outcome.err
        found = outcome.json["int8"]
        assert found["score_name"].startswith("not measured: cannot read reviews.csv")
        assert found["score_fp32"] is found["score_int8"] is None
        assert found["bytes_int8"] < found["bytes_fp32"]
        assert found["difference"] > 0

    def test_a_language_model_goes_on_alike(self, call: Call, folder: Path, feed: Feed):
        # Trees in ONNX are held by their own tests, and take three times as long to export.
        run = trained_on_a_novel(call, folder, "lstm")
        assert call("export", run, "--out=m.onnx").code == 0
        answers = []
        for model in (run, "m.onnx"):
            feed("the cat\nthe mat on\n")
            answers.append(call("predict", model, "--tokens=12").out)
        assert answers[0] == answers[1]

    def test_a_generated_task_answers_alike(self, call: Call, feed: Feed):
        run = trained(call, "reverse_string", *FAST, "--layer=pr-lstm")
        outcome = call("export", run, "--out=m.onnx")
        assert "largest difference" in outcome.out
        answers = []
        for model in (run, "m.onnx"):
            feed("0110\n011\n1\n")
            answers.append(call("predict", model).out)
        assert answers[0] == answers[1]

    def test_answers_along_the_input_are_alike(self, call: Call, feed: Feed):
        run = trained(call, "mqar", *FAST, "--layer=min-gru")
        assert call("export", run, "--out=m.onnx").code == 0
        answers = []
        for model in (run, "m.onnx"):
            feed("k1 v1 k2 v2 _ k2 k1\nk1 v9 k1\n")
            answers.append(call("predict", model).out)
        assert answers[0] == answers[1]

    def test_mistakes(self, classifier: str, call: Call, folder: Path):
        assert_mistake(call("export", "nowhere"), "no record at nowhere")
        assert_mistake(call("export", classifier, "--out=none/m.onnx"), "cannot write the file")


def test_the_scores_of_a_run_come_from_its_own_command(call: Call, folder: Path, classifier: str):
    """`reproduced.tested` is the test of the record, for a file and for a generated task."""
    from treering.cli.reproduced import tested

    generated = trained(call, "parity_check", *FAST, "--layer=lstm")
    along = trained(call, "mqar", *FAST, "--layer=lstm")
    for place in (classifier, generated, along):
        run = load_run(folder / place)
        assert run.record.evaluation is not None
        assert tested(run.record, run.model) == run.record.evaluation.score
