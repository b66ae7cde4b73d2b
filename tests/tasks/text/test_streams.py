"""Continuous texts as tasks: parts, vocabulary, bytes that cannot be read."""

import gzip
import hashlib
from pathlib import Path

import pytest

from treering._errors import UserError
from treering.tasks.text import (
    StreamVocabulary,
    load_text,
    load_tinyshakespeare,
    load_wikitext2,
    locate,
)
from treering.tasks.text import streams as streams_module

TEXT = "".join(f"Line {n}: the cat saw the dog.\n" for n in range(40))


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    path = tmp_path / "novel.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_characters_are_split_in_order_and_decode_to_the_text(novel: Path):
    task = load_text(novel)
    assert (task.name, task.unit, task.metric) == ("novel.txt", "character", "bits per character")
    parts = [task.train, task.validation, task.test]
    assert "".join(task.vocabulary.decode(part.tolist()) for part in parts) == TEXT
    assert [len(part) for part in parts] == [1071, 59, 60]
    assert task.input_size == task.output_size == len(task.vocabulary) == len(set(TEXT)) + 1
    assert task.train.min() == 1


def test_words_are_lower_case_with_line_ends_and_rare_ones_unknown(novel: Path):
    task = load_text(novel, "word")
    assert task.metric == "perplexity"
    first = task.vocabulary.decode(task.train[:11].tolist())
    # Every line has a number of its own: words that occur once are the unknown word.
    assert first == "line <unk> : the cat saw the dog . \n line"
    assert task.vocabulary.tokens[1] == "the"
    limited = load_text(novel, "word", max_words=2)
    assert len(limited.vocabulary) == 3
    assert (limited.train == 0).double().mean() > 0.5


def test_a_test_file_is_the_test_stream(novel: Path, tmp_path: Path):
    other = tmp_path / "other.txt.gz"
    other.write_bytes(gzip.compress(b"the dog saw a z\r\n"))
    task = load_text(novel, test_path=other)
    assert task.vocabulary.decode(task.test.tolist()) == "the dog saw a <unk>\n"
    assert len(task.train) + len(task.validation) == len(TEXT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"ab", "1 of at least 2 tokens for train; give a longer text"),
        (b"\xff\xfea\0", "UTF-16"),
        (b"abc\xe9" * 20, "line 1: not UTF-8"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, words: str, tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_text(path)


def test_a_limit_of_words_for_characters_is_refused(novel: Path):
    with pytest.raises(UserError, match="max_words = 5 is for words; write unit='word'"):
        load_text(novel, max_words=5)
    with pytest.raises(UserError, match="max_tokens is 0; write a number of at least 1"):
        StreamVocabulary.of_text("a", "words", max_tokens=0)


@pytest.mark.parametrize("split", ["characters", "words", "blanks"])
def test_a_vocabulary_comes_back_from_json(split):
    vocabulary = StreamVocabulary.of_text('é "to be", \u2028 <unk>\nor not\n', split)
    back = StreamVocabulary.from_json(vocabulary.to_json())
    assert (back.tokens, back.split) == (vocabulary.tokens, split)
    assert len(set(vocabulary.tokens)) == len(vocabulary)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "v.json: not JSON"),
        ('{"format": "treering vocabulary 1"}', "v.json: not a stream vocabulary"),
        ('{"format": "treering stream vocabulary 1"}', 'unknown "split" None'),
        (
            '{"format": "treering stream vocabulary 1", "split": "words", "tokens": [1]}',
            '"tokens" is not a list of strings',
        ),
        (
            '{"format": "treering stream vocabulary 1", "split": "words", "tokens": ["a", "a"]}',
            "tokens must differ",
        ),
    ],
)
def test_what_is_no_vocabulary_is_told(text: str, words: str):
    with pytest.raises(UserError, match=words):
        StreamVocabulary.from_json(text, "v.json")


def test_tiny_shakespeare_and_wikitext_are_found_where_data_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TREERING_DATA", str(tmp_path))
    for folder in ("tinyshakespeare", "wikitext2"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(TEXT)
    for name, line in (("train", "a <unk> b"), ("valid", "b c"), ("test", "c d\n \n a")):
        packed = gzip.compress(f" \n {line} \n".encode())
        (tmp_path / "wikitext2" / f"{name}.txt.gz").write_bytes(packed)
    task = load_tinyshakespeare()
    assert task.name == "tinyshakespeare"
    assert task.vocabulary.decode(task.train[:6].tolist()) == TEXT[:6]
    task = load_wikitext2()
    assert task.vocabulary.tokens == ("<unk>", "<eos>", "a", "b")
    assert task.train.tolist() == [1, 2, 0, 3, 1]
    assert task.validation.tolist() == [1, 3, 0, 1]
    assert task.test.tolist() == [1, 0, 0, 1, 1, 2, 1]
    assert task.metric == "perplexity"


def test_what_is_missing_is_downloaded_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(url: str, sha256: str, target: Path) -> Path:
        asked.append((url, sha256, target))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(TEXT)
        return target

    monkeypatch.delenv("TREERING_DATA", raising=False)
    monkeypatch.setattr(locate, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(locate, "download", download)
    load_tinyshakespeare()
    load_wikitext2()
    assert [target.relative_to(tmp_path).as_posix() for _, _, target in asked] == [
        "tinyshakespeare/input.txt",
        "wikitext2/train.txt",
        "wikitext2/valid.txt",
        "wikitext2/test.txt",
    ]
    for url, sha256, target in asked:
        assert url.startswith("https://raw.githubusercontent.com/")
        assert url.endswith(target.name)
        assert len(sha256) == len(hashlib.sha256().hexdigest())
    assert len({sha256 for _, sha256, _ in asked}) == 4
    assert streams_module.SHAKESPEARE[1] == asked[0][1]
