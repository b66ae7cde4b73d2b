"""Words to ids: order, limits, unknown words, and the JSON form."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import WordLevelTrainer

from treering._errors import UserError
from treering.tasks.text import Vocabulary
from treering.tasks.text.vocabulary import words_of

TEXTS = ["b a c", "a B c!", "A d"]


def test_commonest_words_first_then_alphabetical():
    vocabulary = Vocabulary.of_texts(TEXTS)
    assert vocabulary.words == ("a", "b", "c", "!", "d")
    assert len(vocabulary) == 7
    assert vocabulary.encode(["d A zebra", ""]) == [[6, 2, 1], []]


def test_limits():
    assert Vocabulary.of_texts(TEXTS, max_words=2).words == ("a", "b")
    assert Vocabulary.of_texts(TEXTS, min_count=2).words == ("a", "b", "c")
    assert Vocabulary.of_texts(TEXTS, max_words=1).encode(["a b"]) == [[2, 1]]
    with pytest.raises(UserError, match="max_words is 0; write a number of at least 1"):
        Vocabulary.of_texts(TEXTS, max_words=0)
    with pytest.raises(UserError, match="min_count is -1"):
        Vocabulary.of_texts(TEXTS, min_count=-1)


def test_punctuation_and_equivalent_letters():
    vocabulary = Vocabulary.of_texts(["Don't stop!! caf\u00e9"])
    assert set(vocabulary.words) == {"don", "'", "t", "stop", "!!", "caf\u00e9"}
    assert vocabulary.encode(["CAFE\u0301"]) == vocabulary.encode(["caf\u00e9"])


def test_texts_that_are_cut_already_are_cut_at_blanks_alone():
    vocabulary = Vocabulary.of_texts(["Do n't  stop", "a\u00a0b \t"], cut="blanks")
    assert set(vocabulary.words) == {"do", "n't", "stop", "a\u00a0b", "\t"}
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.encode(["do n't !"]) == vocabulary.encode(["DO n't !"])
    assert len(again.encode(["n't"])[0]) == 1
    assert "cut" not in json.loads(Vocabulary(["a"]).to_json())


def test_reserved_names_in_a_text_are_ordinary_words():
    vocabulary = Vocabulary.of_texts(["[PAD] [UNK] x"])
    (ids,) = vocabulary.encode(["[PAD] [UNK]"])
    assert min(ids) >= 2
    assert [vocabulary.words[i - 2] for i in ids] == ["[", "pad", "]", "[", "unk", "]"]


@given(st.lists(st.text(), max_size=20), st.randoms(use_true_random=False))
def test_order_of_texts_does_not_matter_and_json_keeps_all(texts: list[str], random):
    vocabulary = Vocabulary.of_texts(texts)
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert Vocabulary.of_texts(shuffled).words == vocabulary.words
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.words == vocabulary.words
    assert again.encode(texts) == vocabulary.encode(texts)
    assert all(min(ids, default=2) >= 2 for ids in vocabulary.encode(texts))


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_is_cut_as_the_tokenizers_library_cuts_it(text: str):
    normal = Normalizers([NFC(), Lowercase()]).normalize_str(text)
    assert words_of(text) == [word for word, _ in Whitespace().pre_tokenize_str(normal)]


@given(st.lists(st.text(), max_size=20))
def test_the_order_of_words_is_that_of_the_tokenizers_library(texts: list[str]):
    library = Tokenizer(WordLevel({}, unk_token="[UNK]"))
    library.normalizer = Normalizers([NFC(), Lowercase()])
    library.pre_tokenizer = Whitespace()
    trainer = WordLevelTrainer(
        vocab_size=2**31, min_frequency=1, special_tokens=[], show_progress=False
    )
    library.train_from_iterator(texts, trainer)
    ids = library.get_vocab()
    vocabulary = Vocabulary.of_texts(texts)
    assert list(vocabulary.words) == sorted(ids, key=ids.__getitem__)
    encodings = library.encode_batch_fast(texts)
    assert vocabulary.encode(texts) == [[i + 2 for i in found.ids] for found in encodings]


def test_save_and_load(tmp_path: Path):
    path = tmp_path / "words.json"
    vocabulary = Vocabulary.of_texts([*TEXTS, "caf\u00e9"])
    vocabulary.save(path)
    assert Vocabulary.load(path).words == vocabulary.words
    assert [file.name for file in tmp_path.iterdir()] == ["words.json"]


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "words.json"
    Vocabulary(["old"]).save(path)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"words\.json: cannot write .*No space left"):
        Vocabulary(["new"]).save(path)
    monkeypatch.undo()
    assert Vocabulary.load(path).words == ("old",)
    assert [file.name for file in tmp_path.iterdir()] == ["words.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a vocabulary"),
        (b'{"format": "other", "words": []}', "not a vocabulary"),
        (b'{"format": "treering vocabulary 1", "words": [1]}', "not a list of strings"),
        (b'{"format": "treering vocabulary 1"}', "not a list of strings"),
        (b'{"format": "treering vocabulary 1", "words": [], "cut": 1}', 'unknown "cut" 1'),
        (b'{"format": "treering vocabulary 1", "words": ["a", "a"]}', "must differ"),
        (b'{"format": "treering vocabulary 1", "words": ["[PAD]"]}', "must differ"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"words\.json: .*{message}"):
        Vocabulary.load(path)


def test_absent_places(tmp_path: Path):
    with pytest.raises(UserError, match="cannot read the vocabulary: No such file"):
        Vocabulary.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot write the vocabulary: No such file"):
        Vocabulary(["a"]).save(tmp_path / "none" / "words.json")


def test_json_is_readable():
    assert json.loads(Vocabulary(["caf\u00e9"]).to_json())["words"] == ["caf\u00e9"]
    assert "caf\u00e9" in Vocabulary(["caf\u00e9"]).to_json()
