"""R8: where it is looked for, its format, and the download against a server on loopback."""

import gzip
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.tasks.text import load_r8, locate, r8

from .conftest import Server, serving

LABELS = ("acq", "earn", "trade")
TRAIN = "\n".join(f"{LABELS[i % 3]}\tdoc{i} the {LABELS[i % 3]} word" for i in range(60))
TEST = "earn\tdoc1 the earn word\nearn\tnew the\nacq\tthe\ntrade\tdoc2 the trade word"
FILES = {"train.txt": TRAIN.encode(), "test.txt": TEST.encode()}


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(FILES) as served:
        monkeypatch.setattr(r8, "ADDRESS", served.address)
        digests = {name: hashlib.sha256(body).hexdigest() for name, body in FILES.items()}
        monkeypatch.setattr(r8, "SHA256", digests)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


def put(folder: Path, *, packed: bool) -> Path:
    (folder / "r8").mkdir(parents=True)
    for name, content in FILES.items():
        if packed:
            (folder / "r8" / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / "r8" / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("where", ["variable", "cache"])
def test_found_on_disk(tmp_path: Path, cache: Path, monkeypatch, packed: bool, where: str):
    if where == "variable":
        monkeypatch.setenv(locate.VARIABLE, str(put(tmp_path / "data", packed=packed)))
    else:
        monkeypatch.setenv(locate.VARIABLE, str(tmp_path))  # a folder without r8
        put(cache, packed=packed)
    task = load_r8()
    assert (task.name, task.labels, task.output_size) == ("r8", LABELS, 3)
    assert task.train.labels.bincount().tolist() == [18, 18, 18]
    assert task.validation.labels.bincount().tolist() == [2, 2, 2]
    assert task.test.labels.tolist() == [1, 1, 0, 2]
    assert task.test.lengths.tolist() == [4, 2, 1, 4]
    assert task.left_out == 0


def test_options(cache: Path):
    put(cache, packed=True)
    assert load_r8(max_tokens=2).train.tokens.shape == (54, 2)
    assert load_r8(max_words=1).vocabulary.words == ("the",)
    assert torch.equal(load_r8(seed=3).validation.tokens, load_r8(seed=3).validation.tokens)
    assert load_r8(seed=3).vocabulary.words != load_r8(seed=4).vocabulary.words


def test_wrong_format(cache: Path):
    put(cache, packed=False)
    (cache / "r8" / "test.txt").write_text("earn\ta b\nacq no tab\n")
    with pytest.raises(UserError, match=r"test\.txt, line 2: no tab; R8 has label<TAB>text"):
        load_r8()


def test_variable_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "typo"))
    with pytest.raises(UserError, match=r"TREERING_DATA is '.*typo', which is not a folder"):
        load_r8()


def test_download_once(server: Server, cache: Path, capfd: pytest.CaptureFixture[str]):
    first = load_r8()
    assert sorted(server.asked) == ["/test.txt", "/train.txt"]
    assert {p.name: p.read_bytes() for p in (cache / "r8").iterdir()} == FILES
    assert torch.equal(load_r8().train.tokens, first.train.tokens)
    assert len(server.asked) == 2
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal(server: Server, cache: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load_r8()
    out, err = capsys.readouterr()
    assert out == ""
    assert "train.txt" in err


def test_other_bytes_are_refused(server: Server, cache: Path):
    server.spoil = lambda body: (body[:-1] + b"!", len(body))
    with pytest.raises(UserError, match=r"train\.txt: .*hash.* put the file at .*train\.txt"):
        load_r8()
    assert list((cache / "r8").iterdir()) == []
    server.spoil = lambda body: (body, len(body))
    assert load_r8().name == "r8"


def test_interrupted_download_leaves_nothing(server: Server, cache: Path):
    server.spoil = lambda body: (body[: len(body) // 2], len(body))
    with pytest.raises(UserError, match=r"cannot download .*; try again"):
        load_r8()
    assert list((cache / "r8").iterdir()) == []


def test_not_found(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(r8, "ADDRESS", server.address + "moved/")
    with pytest.raises(UserError, match=r"cannot download .*404") as caught:
        load_r8()
    assert "\n" not in str(caught.value)
    assert list((cache / "r8").iterdir()) == []


def test_no_server(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(r8, "ADDRESS", "http://127.0.0.1:1/")
    with pytest.raises(UserError, match=r"cannot download .*refused"):
        load_r8()


def test_cache_that_cannot_be_written(server: Server, cache: Path):
    cache.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot download .* to .*train"):
        load_r8()


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert locate.cache_folder().name == "treering"
    assert locate.cache_folder().is_absolute()


def test_pinned_address_and_checksums():
    assert r8.ADDRESS.count("/962223652e9bb164ac2d83cd09fc7b8845ce860b/") == 1
    assert {len(digest) for digest in r8.SHA256.values()} == {64}
