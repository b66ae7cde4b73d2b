"""A file becomes a task: splits, classes, ids, batches."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treering._errors import UserError
from treering.tasks.abstract import DatasetTask, Split
from treering.tasks.text import TextTask, Vocabulary, load_file
from treering.tasks.text.dataset import encode, hold_out, same_text_key
from treering.tasks.text.files import Rows


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def load(path: Path, **options) -> TextTask:
    return load_file(path, "text", "label", **options)


def rows_of(texts: list[str], labels: list[str]) -> Rows:
    return Rows(Path("a.csv"), texts, labels, list(range(2, len(texts) + 2)))


def texts_of(task: TextTask, split: Split) -> list[str]:
    words = ("", "?", *task.vocabulary.words)
    rows = zip(split.tokens.tolist(), split.lengths.tolist(), strict=True)
    return [" ".join(words[i] for i in ids[:length]) for ids, length in rows]


LONG = [(f"word{i} common", "yes" if i % 4 == 0 else "no") for i in range(200)]


def test_splits_are_stratified_and_complete(tmp_path: Path):
    task = load(table(tmp_path / "reviews.csv", LONG))
    assert isinstance(task, DatasetTask)
    assert (task.name, task.labels, task.output_size) == ("reviews.csv", ("no", "yes"), 2)
    counts = [
        split.labels.bincount().tolist() for split in (task.train, task.validation, task.test)
    ]
    assert counts == [[120, 40], [15, 5], [15, 5]]
    assert task.chance == 0.75
    assert (task.padding, task.left_out) == (0, 0)


def test_labels_follow_their_texts(tmp_path: Path):
    rows = [(f"{'good' if i % 3 else 'bad'} n{i}", str(i % 3 > 0)) for i in range(90)]
    task = load(table(tmp_path / "a.csv", rows))
    for split in (task.train, task.validation, task.test):
        for text, label in zip(texts_of(task, split), split.labels.tolist(), strict=True):
            assert task.labels[label] == str(text.startswith("good"))


def test_vocabulary_is_of_the_training_split_alone(tmp_path: Path):
    task = load(table(tmp_path / "a.csv", LONG))
    assert task.input_size == len(task.vocabulary) == 2 + 160 + 1
    assert set(task.test.tokens.flatten().tolist()) == {1, 2}  # unknown word, "common"
    assert int(task.train.tokens.max()) == task.input_size - 1
    assert 1 not in task.train.tokens


def test_options(tmp_path: Path):
    path = table(tmp_path / "a.csv", LONG)
    short = load(path, max_tokens=1)
    assert short.train.tokens.shape == (160, 1)
    assert load(path, max_words=1).vocabulary.words == ("common",)
    first, again, other = load(path), load(path), load(path, seed=1)
    assert torch.equal(first.test.tokens, again.test.tokens)
    assert torch.equal(first.train.tokens, again.train.tokens)
    assert other.vocabulary.words != first.vocabulary.words
    with pytest.raises(UserError, match="max_tokens is 0"):
        load(path, max_tokens=0)
    with pytest.raises(UserError, match="max_words is 0"):
        load(path, max_words=0)


def test_truncation_keeps_the_first_words(tmp_path: Path):
    rows = [(f"a b c d e{i}", "xy"[i % 2]) for i in range(20)]
    task = load(table(tmp_path / "a.csv", rows), max_tokens=3)
    assert set(texts_of(task, task.train)) == {"a b c"}
    assert set(task.train.lengths.tolist()) == {3}


@given(
    words=st.lists(st.integers(2, 9), min_size=1, max_size=12),
    limits=st.tuples(st.integers(1, 15), st.integers(1, 15)).map(sorted),
)
def test_a_short_text_is_repeated_and_its_last_copy_cut(words: list[int], limits: list[int]):
    fewest, most = limits
    vocabulary = Vocabulary([f"w{number}" for number in range(2, 10)])
    text = " ".join(f"w{number}" for number in words)
    tokens, lengths = encode(vocabulary, [text, "w2"], most, fewest)
    kept = words[:most]
    size = max(fewest, len(kept))
    assert lengths.tolist() == [size, fewest]
    assert tokens[0, :size].tolist() == [kept[place % len(kept)] for place in range(size)]
    assert not tokens[0, size:].any()


def test_fewest_words(tmp_path: Path):
    path = table(tmp_path / "a.csv", LONG)
    task = load(path, min_tokens=5, max_tokens=5)
    assert set(task.train.lengths.tolist()) == {5}
    first = texts_of(task, task.train)[0].split()
    assert first == [*first[:2], *first[:2], first[0]]
    tokens, lengths = task.encode(["common", "common unheard"])
    assert (tokens.tolist(), lengths.tolist()) == ([[2, 2, 2, 2, 2], [2, 1, 2, 1, 2]], [5, 5])
    with pytest.raises(UserError, match=r"min_tokens is 6; .* from 1 to max_tokens, 5"):
        load(path, min_tokens=6, max_tokens=5)
    with pytest.raises(UserError, match="min_tokens is 0"):
        load(path, min_tokens=0)
    with pytest.raises(UserError, match=r"text 0 \(' '\) has no words"):
        task.encode([" "])


def test_batches_are_trimmed(tmp_path: Path):
    rows = [(" ".join(["w"] * (1 + i % 7)) + f" n{i}", "xy"[i % 2]) for i in range(60)]
    task = load(table(tmp_path / "a.csv", rows))
    chosen = task.train.lengths.argsort()[:5]
    inputs, targets, mask, lengths, ranks = task.batch(task.train, chosen)
    assert lengths is not None
    assert ranks is None
    assert torch.equal(lengths, task.train.lengths[chosen])
    assert inputs.shape == (5, int(lengths.max()))
    assert inputs.shape[1] < task.train.tokens.shape[1]
    assert torch.equal(targets, task.train.labels[chosen][:, None])
    assert mask.tolist() == [[True]] * 5
    padding = torch.arange(inputs.shape[1]) >= lengths[:, None]
    assert torch.equal(inputs == task.padding, padding)


def test_given_test_file(tmp_path: Path):
    test = [("seen before", "no"), ("only here", "yes"), ("only there", "no")]
    train = [*LONG, ("Seen  BEFORE", "no"), ("seen before", "yes")]
    path, test_path = table(tmp_path / "a.csv", train), table(tmp_path / "t.csv", test)
    task = load(path, test_path=test_path)
    assert task.left_out == 2
    assert [len(split.labels) for split in (task.train, task.validation, task.test)] == [180, 20, 3]
    assert task.test.labels.tolist() == [0, 1, 0]
    assert task.chance == pytest.approx(2 / 3)
    assert "seen" not in task.vocabulary.words

    table(test_path, [*test, ("x", "maybe")])
    with pytest.raises(UserError, match=r"t\.csv, line 5: the label 'maybe' does not .*no, yes"):
        load(path, test_path=test_path)


def test_new_texts_are_read_the_same_way(tmp_path: Path):
    task = load(table(tmp_path / "a.csv", LONG), max_tokens=2)
    tokens, lengths = task.encode(["COMMON unheard common", "common"])
    assert tokens.tolist() == [[2, 1], [2, 0]]
    assert lengths.tolist() == [2, 1]
    with pytest.raises(UserError, match=r"text 1 \(' '\) has no words"):
        task.encode(["common", " "])
    with pytest.raises(UserError, match="no texts"):
        task.encode([])


def test_one_class(tmp_path: Path):
    with pytest.raises(UserError, match=r"a\.csv: every row has the label 'no'"):
        load(table(tmp_path / "a.csv", [(f"t{i}", "no") for i in range(20)]))


def test_too_few_rows(tmp_path: Path):
    rows = [("a", "x"), ("b", "x"), ("c", "y"), ("c", "y"), ("C ", "y")]
    with pytest.raises(UserError, match=r"5 rows with 3 different texts are too few .* 3 parts"):
        load(table(tmp_path / "a.csv", rows))
    rows = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")]
    task = load(table(tmp_path / "a.csv", rows))
    assert [len(split.labels) for split in (task.train, task.validation, task.test)] == [2, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=30, max_size=120),
    seed=st.integers(0, 5),
)
def test_equal_texts_never_straddle(rows: list[tuple[int, int]], seed: int):
    texts = [("Text  %d" if i % 2 else "text %d ") % number for i, (number, _) in enumerate(rows)]
    texts += ["x", "y", "z", "u", "v", "w"]
    labels = [str(label) for _, label in rows] + ["0", "0", "0", "1", "1", "1"]
    parts = hold_out(rows_of(texts, labels), (0.1, 0.1), seed)
    keys = [{same_text_key(text) for text in part.texts} for part in parts]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    together = Counter(
        t for part in parts for t in zip(part.texts, part.labels, part.lines, strict=True)
    )
    assert together == Counter(zip(texts, labels, range(2, len(texts) + 2), strict=True))
    assert all(part.lines == sorted(part.lines) for part in parts)
    # Held-out parts never take more than their share by more than one group per label.
    largest = max(Counter(map(same_text_key, texts)).values())
    assert all(len(part.texts) <= 0.1 * len(texts) + 3 * (largest + 1) for part in parts[1:])


def test_a_much_repeated_text_stays_in_training():
    texts = ["again"] * 50 + [f"t{i}" for i in range(50)] + ["other", "more", "most"]
    labels = ["a"] * 100 + ["b"] * 3
    for seed in range(10):
        rest, *held_out = hold_out(rows_of(texts, labels), (0.1, 0.1), seed)
        assert "again" in rest.texts
        assert [part.labels.count("a") for part in held_out] == [10, 10]
        assert [part.labels.count("b") for part in held_out] == [1, 1]
