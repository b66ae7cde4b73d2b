"""`treering train novel.txt`, `treering compare` on a text, and the model that lies in a folder."""

import random
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.cli.models import load_run
from treering.models import Classifier, LanguageModel, Transducer
from treering.tasks.text import StreamVocabulary, Vocabulary, load_text
from treering.training import evaluate_stream

from .conftest import (
    COLUMNS,
    FAST,
    FAST_TEXT,
    Call,
    assert_mistake,
    files_under,
    reviews,
    write_reviews,
)

SMALL = ["--hidden-size=16", "--embedding-size=8", "--batch-size=4", "--truncate=16"]


@pytest.fixture(autouse=True)
def novel(folder: Path) -> Path:
    """A text whose words say what follows their first letter: far fewer bits than by frequency."""
    draw = random.Random(0)
    words = ("alpha", "bridge", "candle", "dog", "evening")
    lines = [" ".join(draw.choices(words, k=8)) for _ in range(120)]
    path = folder / "novel.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_text_file_becomes_a_language_model_of_its_characters(call: Call, folder: Path) -> None:
    words = ["train", "novel.txt", "--layer=lstm", "--steps=200", *SMALL]
    outcome = call(*words)
    assert outcome.code == 0, outcome.err
    assert "lstm on novel.txt, seed 0: test bits per character: " in outcome.out
    assert "best validation bits per character (epoch " in outcome.out
    record = call(*words, "--json").json
    assert record["task"]["kind"] == "stream"
    assert record["task"]["metric"] == "bits per character"
    assert record["settings"]["truncate"] == 16
    evaluation = record["evaluation"]
    assert evaluation["score"] < 1.5 < 3.5 < record["task"]["chance"]
    assert f"{evaluation['score']:.4f} (guessing: {record['task']['chance']:.4f}; vali" in (
        outcome.out
    )
    assert record["cost"]["tokens_per_second"] > 0


def test_words_are_judged_by_perplexity(call: Call) -> None:
    outcome = call("train", "novel.txt", "--unit=word", "--layer=gru", "--steps=30", *SMALL)
    assert outcome.code == 0, outcome.err
    assert "test perplexity: " in outcome.out


def test_compare_says_which_way_is_better(call: Call, folder: Path) -> None:
    words = ["compare", "novel.txt", "--layers=lstm,pr-lstm", "--seeds=2", "--steps=20", *SMALL]
    outcome = call(*words)
    assert outcome.code == 0, outcome.err
    assert "lower is better" in outcome.out
    results = call(*words, "--json").json["results"]
    assert [row["better"] for row in results] == ["lower", "lower"]
    assert results[0]["score"] < results[1]["score"]
    page = (folder / "runs" / "novel.txt" / "report.html").read_text(encoding="utf-8")
    assert "Validation bits per character against" in page
    assert "Chance, guessing by frequency: " in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["novel.txt", "--layer=lstm+tree-order"], ["next token", "'lstm+tree-order'"]),
        (["novel.txt", "--layer=lstm:bidirectional=true"], ["bidirectional=False"]),
        (["novel.txt", "--text=a"], ["--text", "novel.txt, a continuous text"]),
        (["novel.txt", "--train-length=9"], ["--train-length", "a continuous text"]),
        (["novel.txt", "--max-words=9"], ["--max-words", "--unit word"]),
        (["novel.txt", "--min-tokens=9"], ["--min-tokens", "a continuous text"]),
        (["novel.txt", "--pooling=max"], ["--pooling", "a continuous text"]),
        (["novel.txt", "--dropout=0.1"], ["--dropout", "a continuous text"]),
        (["novel.txt", "--bucket=9"], ["--bucket", "a continuous text"]),
        (["novel.txt", "--batch-size=99999"], ["99999 streams", "batch size"]),
        (["novel.txt", "--epochs=1"], ["--steps or --epochs"]),
        (["wikitext2", "--unit=word"], ["--unit", "wikitext2 has its own"]),
        (["parity_check", "--truncate=9"], ["--truncate", "a generated task"]),
        (["r8", "--truncate=9"], ["--truncate", "a data set"]),
        (["r8", "--unit=word"], ["--unit", "a data set"]),
        (["missing.txt"], ["missing.txt", "No such file"]),
    ],
)
def test_mistakes(words: list[str], expected: list[str], call: Call, folder: Path) -> None:
    before = files_under(folder)
    assert_mistake(call("train", *words, "--steps=1"), *expected)
    assert files_under(folder) == before


def test_a_language_model_is_rebuilt_from_its_folder_alone(call: Call, folder: Path) -> None:
    call("train", "novel.txt", "--layer=pr-lstm:num_layers=2", "--steps=5", *SMALL)
    task = load_text("novel.txt")
    (folder / "novel.txt").unlink()
    (run,) = (folder / "runs" / "novel.txt").glob("*/*")
    loaded = load_run(run)
    assert isinstance(loaded.model, LanguageModel)
    assert isinstance(loaded.vocabulary, StreamVocabulary)
    assert not loaded.model.training
    assert loaded.vocabulary.tokens == task.vocabulary.tokens
    evaluation = loaded.record.evaluation
    assert evaluation is not None
    metric = loaded.record.task.measure
    assert metric.of_loss is not None
    assert metric.of_loss(evaluate_stream(loaded.model, task.test)) == evaluation.score


def test_a_classifier_is_rebuilt_from_its_folder_alone(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(40))
    words = [*COLUMNS, *FAST_TEXT, "--max-tokens=9", "--layer=lstm+tree-order"]
    assert call("train", "reviews.csv", *words).code == 0
    (run,) = (folder / "runs" / "reviews.csv").glob("*/*")
    loaded = load_run(run)
    assert isinstance(loaded.model, Classifier)
    assert isinstance(loaded.vocabulary, Vocabulary)
    assert loaded.record.task.labels == ("bad", "good")
    assert loaded.record.task.max_tokens == 9
    ids = torch.tensor(loaded.vocabulary.encode(["The film was wonderful"]))
    assert loaded.model(ids).shape == (1, 1, 2)


def test_a_generated_tasks_model_is_rebuilt_from_its_folder_alone(call: Call, folder: Path) -> None:
    assert call("train", "parity_check", "--layer=ql-lstm:shared_blocks=1", *FAST).code == 0
    (run,) = (folder / "runs" / "parity_check").glob("*/*")
    loaded = load_run(run)
    assert isinstance(loaded.model, Transducer)
    assert loaded.vocabulary is None
    assert loaded.model(torch.tensor([[0, 1, 1]])).shape == (1, 1, 2)


def test_a_folder_that_lacks_a_part_is_told(call: Call, folder: Path) -> None:
    call("train", "novel.txt", "--layer=rnn", "--steps=2", *SMALL)
    (run,) = (folder / "runs" / "novel.txt").glob("*/*")
    vocabulary = (run / "vocabulary.json").read_text()
    (run / "vocabulary.json").write_text(vocabulary.replace('["', '["surplus", "'))
    with pytest.raises(UserError, match=r"holds another model: model\.embedding\.weight is"):
        load_run(run)
    (run / "vocabulary.json").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"vocabulary\.json is damaged: not UTF-8"):
        load_run(run)
    (run / "vocabulary.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*vocabulary\.json: No such file"):
        load_run(run)
    (run / "vocabulary.json").write_text(vocabulary)
    load_run(run)
