"""SST: trees are read whole or refused by their line; the archive gives what the files give."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from treering._errors import UserError
from treering.tasks.text import load_sst, locate, sst
from treering.tasks.text.sst import parse

from .conftest import Server, serving

WORDS = ("dull", "slow", "so-so", "good", "n't")
CONTENT = {
    "train": "".join(
        f"({i % 5} (2 It) ({i % 5} (2 is) ({i % 5} {WORDS[i % 5]})))\n" for i in range(20)
    ),
    "dev": "(0 (2 It) (0 dull))\n(2 so-so)\n",
    "test": "(4 (4 good) (2 New\u00a0Word))\n(1 slow)\n(2 is)",
}


def archive(**changes: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in (CONTENT | changes).items():
            zipped.writestr(f"trees/{name}.txt", content)
        zipped.writestr("trees/README", "other")
    return buffer.getvalue()


PUBLISHED = archive()

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving({sst.ARCHIVE: PUBLISHED}) as served:
        monkeypatch.setattr(sst, "ADDRESS", served.address + sst.ARCHIVE)
        monkeypatch.setattr(sst, "SHA256", hashlib.sha256(PUBLISHED).hexdigest())
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


def put(folder: Path, **changes: str) -> Path:
    (folder / "sst_trees").mkdir(parents=True)
    for name, content in (CONTENT | changes).items():
        path = folder / "sst_trees" / f"{name}.txt"
        if name == "train":
            path.with_name("train.txt.gz").write_bytes(gzip.compress(content.encode()))
        else:
            path.write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("where", ["variable", "cache"])
def test_found_on_disk(tmp_path: Path, cache: Path, monkeypatch, where: str):
    folder = put(cache if where == "cache" else tmp_path / "data")
    if where == "variable":
        monkeypatch.setenv(locate.VARIABLE, str(folder))
    task = load_sst()
    assert (task.name, task.output_size) == ("sst", 5)
    assert task.labels[0] == "very negative"
    assert task.train.labels.bincount().tolist() == [4] * 5
    assert task.validation.labels.tolist() == [0, 2]
    assert task.test.labels.tolist() == [4, 1, 2]
    # Words are the treebank's own: cut at blanks alone, and in lower case.
    assert set(task.vocabulary.words) == {"it", "is", *WORDS}
    assert task.test.lengths.tolist() == [2, 1, 1]
    assert task.test.tokens[0].tolist() == [*task.vocabulary.encode(["good"])[0], 1]
    # It (is dull): nothing is below the root before the second boundary.
    assert task.train.ranks is not None
    assert task.train.ranks.tolist() == [[0, -1, 0]] * 20
    batch = task.batch(task.validation, torch.tensor([1, 0]))
    assert batch.ranks is not None
    assert batch.ranks.tolist() == [[0, 0], [0, 0]]


def test_two_classes(cache: Path):
    put(cache)
    task = load_sst(binary=True)
    assert (task.name, task.labels) == ("sst-binary", ("negative", "positive"))
    assert task.train.labels.bincount().tolist() == [8, 8]
    assert task.validation.labels.tolist() == [0]
    assert task.test.labels.tolist() == [1, 0]
    assert task.train.ranks is not None
    assert task.train.ranks.shape == task.train.tokens.shape


def test_downloaded_once(server: Server, cache: Path):
    first = load_sst()
    assert server.asked == [f"/{sst.ARCHIVE}"]
    again = load_sst()
    assert len(server.asked) == 1
    (cache / "sst_trees" / sst.ARCHIVE).unlink()
    (cache / "sst_trees").rmdir()
    put(cache)
    of_files = load_sst()
    for task in (again, of_files):
        assert task.vocabulary.words == first.vocabulary.words
        assert torch.equal(task.test.tokens, first.test.tokens)


@pytest.mark.parametrize("content", [b"no archive", PUBLISHED])
def test_another_archive(cache: Path, monkeypatch, content: bytes):
    (cache / "sst_trees").mkdir(parents=True)
    (cache / "sst_trees" / sst.ARCHIVE).write_bytes(content)
    with pytest.raises(UserError, match=r"PTB\.zip is not the published archive: its SHA-256 is"):
        load_sst()
    monkeypatch.setattr(sst, "SHA256", hashlib.sha256(content).hexdigest())
    if content == PUBLISHED:
        assert load_sst().name == "sst"
    else:
        with pytest.raises(UserError, match=r"not the published archive .*; delete it"):
            load_sst()


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ("good", "no label from 0 to 4"),
        ("(5 good)", "no label"),
        ("(good)", "no label"),
        ("(3 )", "no word"),
        ("(3 good film)", "no word"),
        ("(3 good", "no word"),
        ("(3 (2 good))", "one child"),
        ("(3 (2 good)(2 film))", "one child"),
        ("(3 (2 a) (2 b) (2 c))", "a third child"),
        ("(3 (2 a) (2 b)", "a third child, or no end"),
        ("(3 (2 a) ", "one child"),
        ("(3 a) (2 b)", "follows its end"),
    ],
)
def test_a_bad_tree_is_named(cache: Path, tree: str, reason: str):
    put(cache, dev=f"(2 fine)\n\n{tree}\n")
    with pytest.raises(UserError, match=rf"dev\.txt, line 3: no tree: .*({reason})"):
        load_sst()


tree = st.recursive(
    st.text("ab-.'\u00a0", min_size=1).map(lambda word: ([word], f"(2 {word})")),
    lambda inner: st.tuples(inner, inner).map(
        lambda both: (both[0][0] + both[1][0], f"(3 {both[0][1]} {both[1][1]})")
    ),
)


def merged(words: list[str], depths: list[int]) -> str:
    """The tree again: the deepest boundaries are merged first, from left to right."""
    trees = [f"(2 {word})" for word in words]
    while depths:
        at = depths.index(max(depths))
        trees[at : at + 2] = [f"(3 {trees[at]} {trees[at + 1]})"]
        del depths[at]
    return trees[0]


@given(tree)
def test_any_tree_is_read_and_written_again(drawn: tuple[list[str], str]):
    words, text = drawn
    found, depths = parse(text)
    assert found == words
    assert merged(found, depths) == text


@given(tree, st.data())
def test_a_tree_that_lacks_a_bracket_is_none(drawn: tuple[list[str], str], data: st.DataObject):
    _, text = drawn
    places = [place for place, character in enumerate(text) if character in "()"]
    place = data.draw(st.sampled_from(places))
    with pytest.raises(ValueError, match=r"no label|no word|no end|one child|not end|follows"):
        parse(text[:place] + text[place + 1 :])


def test_pinned_address_and_checksum():
    assert sst.ADDRESS == "https://nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip"
    assert len(sst.SHA256) == 64
