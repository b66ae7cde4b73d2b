"""Logical inference: pairs in one row, splits, operators, and the download against loopback."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.tasks.text import load_logical_inference, locate, logical_inference

from .conftest import Server, serving


def sentence(number: int, operators: int) -> str:
    """One of many: every operator asks for one letter more."""
    text = "abcdef"[number % 6]
    for step in range(operators):
        number //= 6
        text = f"( {text} ( {'and' if number % 2 else 'or'} {'abcdef'[(number + step) % 6]} ) )"
    return text


def lines(operators: int, count: int) -> bytes:
    """Two relations in turn, one pair a line."""
    pairs = [
        f"{'#<'[i % 2]}\t{sentence(i, operators)}\t{sentence(i // 6, 0)}\n" for i in range(count)
    ]
    return "".join(pairs).encode()


FILES = {f"train{n}": lines(n, 40 if n else 12) for n in range(7)} | {
    f"test{n}": lines(n, n + 1) for n in range(13)
}

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    def digests(part: str, count: int) -> list[str]:
        return [hashlib.sha256(FILES[f"{part}{n}"]).hexdigest() for n in range(count)]

    with serving(FILES) as served:
        monkeypatch.setattr(logical_inference, "ADDRESS", served.address)
        monkeypatch.setattr(logical_inference, "TRAIN_SHA256", digests("train", 7))
        monkeypatch.setattr(logical_inference, "TEST_SHA256", digests("test", 13))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


def put(folder: Path, **changes: bytes) -> Path:
    (folder / "logical_inference").mkdir(parents=True)
    for number, (name, content) in enumerate((FILES | changes).items()):
        path = folder / "logical_inference" / f"{name}.tsv"
        if number % 2:
            path.write_bytes(content)
        else:
            path.with_name(f"{name}.tsv.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.mark.parametrize("where", ["variable", "cache"])
def test_found_on_disk(tmp_path: Path, cache: Path, monkeypatch, where: str):
    folder = put(cache if where == "cache" else tmp_path / "data")
    if where == "variable":
        monkeypatch.setenv(locate.VARIABLE, str(folder))
    task = load_logical_inference()
    assert (task.name, task.labels) == ("logical-inference", ("<", ">", "=", "^", "|", "#", "v"))
    sizes = [len(part.labels) for part in (task.train, task.validation, task.test)]
    assert sum(sizes[:2]) == 12 + 6 * 40
    assert sizes[1:] == [26, sum(range(1, 14))]
    assert task.sizes is not None
    assert (task.sizes.name, task.sizes.trained) == ("operators", (0, 6))
    assert task.sizes.test.bincount().tolist() == list(range(1, 14))
    assert task.test.labels.bincount().tolist() == [42, 0, 0, 0, 0, 49]


def test_a_row_is_both_sentences_with_brackets(cache: Path):
    put(cache)
    task = load_logical_inference()
    words = ("", "?", *task.vocabulary.words)
    texts = [" ".join(words[i] for i in row if i) for row in task.test.tokens.tolist()]
    assert texts[:3] == ["a ; a", "( a ( or a ) ) ; a", "( b ( or a ) ) ; a"]
    assert task.separator == ";"
    assert (task.test.tokens == task.vocabulary.encode([";"])[0][0]).sum(1).unique().tolist() == [1]
    assert set(task.vocabulary.words) <= {"(", ")", ";", "and", "or", "not", *"abcdef"}
    operators = [text.count("and") + text.count("or") for text in texts]
    assert task.sizes is not None
    assert operators == task.sizes.test.tolist()
    assert task.max_tokens is None


def test_seeds(cache: Path):
    put(cache)
    first, again, other = (load_logical_inference(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.validation.tokens, again.validation.tokens)
    assert not torch.equal(first.validation.labels, other.validation.labels) or not torch.equal(
        first.validation.lengths, other.validation.lengths
    )


def test_download_once(server: Server, cache: Path):
    first = load_logical_inference()
    assert sorted(server.asked) == sorted(f"/{name}" for name in FILES)
    assert torch.equal(load_logical_inference().test.tokens, first.test.tokens)
    assert len(server.asked) == 20
    names = {path.name for path in (cache / "logical_inference").iterdir()}
    assert names == {f"{name}.tsv" for name in FILES}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#\ta", r"line 3: .*relation<TAB>proposition"),
        ("#\ta\tb\tc", r"line 3: "),
        ("?\ta\tb", r"line 3: .*< > = \^ \| # v"),
        ("#\ta\t", r"line 3: "),
        ("#\ta\t( a ; b )", r"line 3: ';' is none of"),
        ("#\tg\ta", r"line 3: 'g' is none of"),
    ],
)
def test_a_bad_line_is_named(cache: Path, line: str, message: str):
    put(cache, test4=lines(4, 2) + line.encode())
    with pytest.raises(UserError, match=rf"test4\.tsv(\.gz)?, {message}"):
        load_logical_inference()


def test_pinned_address_and_checksums():
    assert logical_inference.ADDRESS.count("/2a0d3a22fb70216993a7faf25de3515f42e10431/") == 1
    digests = (*logical_inference.TRAIN_SHA256, *logical_inference.TEST_SHA256)
    assert len(set(digests)) == 20
    assert {len(digest) for digest in digests} == {64}
