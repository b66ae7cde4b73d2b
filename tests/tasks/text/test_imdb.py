"""IMDB: lines and the published archive give the same rows; nothing is unpacked to the disk."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.tasks.text import imdb, load_imdb, locate

from .conftest import Server, serving

Review = tuple[str, str, int, int, str]
REVIEWS: list[Review] = [
    (part, label, number, rating, f"film {number} was{middle}{label} <br /><br />to me {part}")
    for part in ("train", "test")
    for label, rating in (("neg", 2), ("pos", 9))
    # Beyond 9, so that the order of numbers and that of names differ.
    for number, middle in ((n, "\t" if n % 7 == 0 else " ") for n in range(20))
]


def lines(part: str) -> bytes:
    rows = [(label, n, rating, text) for p, label, n, rating, text in REVIEWS if p == part]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()


def archive(reviews: list[Review], *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for part, label, number, rating, text in reviews:
            member = tarfile.TarInfo(f"aclImdb/{part}/{label}/{number}_{rating}.txt")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for member in others:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


def other(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    if kind == tarfile.REGTYPE:
        member.size = 3
    else:
        member.linkname = "/etc/hostname"
    return member


# As published: another order, other files, the unlabelled reviews; and what a bad one might have.
PUBLISHED = archive(
    REVIEWS[::-1],
    other("aclImdb/README"),
    other("aclImdb/train/unsup/0_0.txt"),
    other("aclImdb/train/urls_pos.txt"),
    other("/aclImdb/train/pos/900_9.txt"),
    other("../aclImdb/train/pos/901_9.txt"),
    other("aclImdb/train/pos/902_9.txt", tarfile.SYMTYPE),
)


@pytest.fixture(autouse=True)
def digest(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(imdb, "SHA256", hashlib.sha256(PUBLISHED).hexdigest())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving({imdb.ARCHIVE: PUBLISHED}) as served:
        monkeypatch.setattr(imdb, "ADDRESS", served.address + imdb.ARCHIVE)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


def put(folder: Path, **files: bytes) -> Path:
    (folder / "imdb").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / "imdb" / f"{name}.tsv.gz").write_bytes(gzip.compress(content))
    return folder


def put_archive(folder: Path, content: bytes) -> None:
    (folder / "imdb").mkdir(parents=True)
    (folder / "imdb" / imdb.ARCHIVE).write_bytes(content)


@pytest.mark.parametrize("where", ["variable", "cache"])
def test_found_on_disk(tmp_path: Path, cache: Path, monkeypatch, where: str):
    folder = cache if where == "cache" else tmp_path / "data"
    put(folder, train=lines("train"), test=lines("test"))
    if where == "variable":
        monkeypatch.setenv(locate.VARIABLE, str(folder))
    task = load_imdb()
    assert (task.name, task.labels, task.chance) == ("imdb", ("neg", "pos"), 0.5)
    parts = (task.train, task.validation, task.test)
    assert [part.labels.bincount().tolist() for part in parts] == [[18, 18], [2, 2], [20, 20]]
    # A text with a tab is whole, and a line break is no word.
    assert set(task.test.lengths.tolist()) == {7}
    assert not {"<", "br", "/>"} & set(task.vocabulary.words)


def test_the_archive_gives_the_same_as_lines(cache: Path):
    put(cache, train=lines("train"), test=lines("test"))
    of_lines = load_imdb()
    for path in (cache / "imdb").iterdir():
        path.unlink()
    (cache / "imdb").rmdir()
    put_archive(cache, PUBLISHED)
    of_archive = load_imdb()
    assert of_archive.vocabulary.words == of_lines.vocabulary.words
    for part in ("train", "validation", "test"):
        one, another = getattr(of_archive, part), getattr(of_lines, part)
        assert all(torch.equal(*pair) for pair in zip(one[:3], another[:3], strict=True))
        assert one.ranks is another.ranks is None


def test_downloaded_once_and_never_unpacked(server: Server, cache: Path):
    first = load_imdb()
    assert server.asked == [f"/{imdb.ARCHIVE}"]
    assert torch.equal(load_imdb().test.tokens, first.test.tokens)
    assert len(server.asked) == 1
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [imdb.ARCHIVE]
    assert len(first.test.labels) == 40


def test_other_bytes_are_refused(server: Server, cache: Path):
    server.spoil = lambda body: (body[:-1] + b"!", len(body))
    with pytest.raises(UserError, match=r"aclImdb_v1\.tar\.gz: .*hash.* put the file at"):
        load_imdb()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_an_archive_that_is_not_the_published_one(cache: Path):
    put_archive(cache, archive(REVIEWS))
    with pytest.raises(UserError, match=r"not the published archive: its SHA-256 is .*delete it"):
        load_imdb()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "damaged or not a gzipped tar archive"),
        (
            archive([*REVIEWS, ("train", "pos", 50, 9, " ")]),
            r"aclImdb/train/pos/50_9\.txt: .*empty",
        ),
    ],
)
def test_a_bad_archive(cache: Path, monkeypatch, content: bytes, message: str):
    monkeypatch.setattr(imdb, "SHA256", hashlib.sha256(content).hexdigest())
    put_archive(cache, content)
    with pytest.raises(UserError, match=message):
        load_imdb()


def test_an_archive_with_other_bytes_than_utf8(cache: Path, monkeypatch):
    member = other("aclImdb/test/neg/9_1.txt")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(member, io.BytesIO(b"a\xffb"))
    monkeypatch.setattr(imdb, "SHA256", hashlib.sha256(buffer.getvalue()).hexdigest())
    put_archive(cache, buffer.getvalue())
    with pytest.raises(UserError, match="not UTF-8"):
        load_imdb()


@pytest.mark.parametrize(
    "line",
    ["pos\t1\t9", "pos 1 9 text", "good\t1\t9\ttext", "pos\tone\t9\ttext", "pos\t1\t\ttext", ""],
)
def test_a_bad_line_is_named(cache: Path, line: str):
    spoilt = lines("train") + line.encode() + b"\n" + lines("test")
    put(cache, train=spoilt, test=lines("test"))
    with pytest.raises(UserError, match=r"train\.tsv\.gz, line 41: .*label<TAB>id<TAB>rating"):
        load_imdb()


def test_an_empty_text_is_named(cache: Path):
    put(cache, train=lines("train"), test=b"pos\t1\t9\t<br />\n")
    with pytest.raises(UserError, match=r"test\.tsv\.gz, line 1: the text is empty"):
        load_imdb()


def test_options(cache: Path):
    put(cache, train=lines("train"), test=lines("test"))
    assert load_imdb(max_tokens=3).train.tokens.shape == (36, 3)
    assert len(load_imdb(max_words=4).vocabulary) == 6
    assert set(load_imdb(min_tokens=30).test.lengths.tolist()) == {30}
    assert load_imdb(seed=3).vocabulary.words != load_imdb(seed=4).vocabulary.words


def test_pinned_address_and_checksum(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert imdb.ADDRESS == "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    assert len(imdb.SHA256) == 64
