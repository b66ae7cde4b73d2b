"""The task of ListOps, from a small test file in its format."""

import gzip
from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.tasks.listops import ListOpsTask, load_listops
from treering.tasks.listops.language import TOKENS, evaluate
from treering.tasks.listops.trees import ranks_of
from treering.tasks.text import locate

ROWS = [
    "0\t( ( ( ( ( [SM 6 ) 5 ) 9 ) 0 ) ] )",
    "5\t( ( ( ( [MAX 5 ) ( ( ( [MIN 0 ) 9 ) ] ) ) 1 ) ] )",
    "9\t9",
    "4\t( ( ( [MED 1 ) 7 ) ] )",
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TREERING_DATA", str(tmp_path))
    monkeypatch.setattr(locate, "download", _no_network)
    path = tmp_path / "listops" / "test_d20s.tsv"
    path.parent.mkdir()
    path.write_text("\n".join(ROWS) + "\n")
    return path


def _no_network(*_: object) -> Path:
    raise AssertionError("downloads")


def texts(task: ListOpsTask, part: str) -> list[list[str]]:
    split = getattr(task, part)
    return [
        [TOKENS[i - 1] for i in row[:length].tolist()]
        for row, length in zip(split.tokens, split.lengths.tolist(), strict=True)
    ]


@pytest.mark.usefixtures("file")
def test_three_parts_without_repetition_and_with_their_values():
    task = load_listops(expressions=600, max_tokens=None)
    assert (task.name, task.input_size, task.output_size) == ("listops", 16, 10)
    assert task.labels == tuple("0123456789")
    sizes = [len(getattr(task, part).labels) for part in ("train", "validation", "test")]
    assert sizes == [540, 60, 4]
    assert (task.left_out, task.max_tokens) == (0, None)
    every = [text for part in ("train", "validation", "test") for text in texts(task, part)]
    assert len({tuple(text) for text in every}) == 604
    for part in ("train", "validation", "test"):
        split = getattr(task, part)
        assert [evaluate(text) for text in texts(task, part)] == split.labels.tolist()
        beyond = torch.arange(split.tokens.shape[1]) >= split.lengths[:, None]
        assert torch.equal(split.tokens == 0, beyond)
    assert texts(task, "test")[1] == ["[MAX", "5", "[MIN", "0", "9", "]", "1", "]"]
    for part in ("train", "validation", "test"):
        split = getattr(task, part)
        assert split.ranks.shape == split.tokens.shape
        assert torch.equal(split.ranks, ranks_of(split.tokens, split.lengths))


@pytest.mark.usefixtures("file")
def test_validation_is_a_tenth_of_all_kinds():
    """Of what was drawn first, one in ten would have the least length; of all it is one in 75."""
    task = load_listops(expressions=30_000, max_tokens=8)
    least = [int((part.lengths == 4).sum()) for part in (task.train, task.validation)]
    assert 380 < sum(least) <= 400
    assert 15 < least[1] < 75


@pytest.mark.usefixtures("file")
def test_long_expressions_are_left_out_but_for_the_test():
    whole, task = (
        load_listops(expressions=600, max_tokens=None),
        load_listops(expressions=600, max_tokens=7),
    )
    assert int(whole.train.lengths.max()) > 100
    assert task.longest == 7
    for part in ("train", "validation"):
        assert texts(task, part) == [text for text in texts(whole, part) if len(text) <= 7]
    assert texts(task, "test") == texts(whole, "test")
    assert int(task.test.lengths.max()) == 8
    assert task.left_out == 600 - len(task.train.labels) - len(task.validation.labels) > 0


@pytest.mark.usefixtures("file")
def test_the_seed_decides():
    one, again, other = (load_listops(expressions=60, seed=seed) for seed in (0, 0, 1))
    assert texts(one, "train") == texts(again, "train")
    assert texts(one, "train") != texts(other, "train")


def test_what_is_tested_is_never_trained_on(file: Path):
    """The four hundred shortest expressions, of which a draw has nearly all, as the test set."""
    usual = load_listops(expressions=3000)
    short = {tuple(text) for text in texts(usual, "train") if len(text) == 4}
    assert len(short) > 100
    file.write_text("".join(f"{evaluate(text)}\t{' '.join(text)}\n" for text in short))
    task = load_listops(expressions=3000)
    assert len(task.test.labels) == len(short)
    assert not short & {tuple(t) for part in ("train", "validation") for t in texts(task, part)}


def test_a_gzipped_file_is_read(file: Path):
    file.with_suffix(".tsv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert len(load_listops(expressions=60).test.labels) == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("( ( ( [SM 6 ) 5 ) ] )", "digit<TAB>expression"),
        ("11\t[SM 6 5 ]", "digit<TAB>expression"),
        ("\t[SM 6 5 ]", "digit<TAB>expression"),
        ("x\t[SM 6 5 ]", "digit<TAB>expression"),
        ("1\t[SM 6 5", r"no expression of ListOps: '\[SM' is not closed"),
        ("1\t[FIRST 1 5 ]", r"'\[FIRST' is none of"),
        ("1\t", "it is empty"),
        ("2\t[SM 6 5 ]", "worth 1, not 2"),
    ],
)
def test_a_wrong_line_is_named(file: Path, line: str, reason: str):
    file.write_text("\n".join([*ROWS[:2], "", line, *ROWS[2:]]))
    with pytest.raises(UserError, match=rf"test_d20s.tsv, line 4: .*{reason}"):
        load_listops(expressions=60)


@pytest.mark.usefixtures("file")
def test_numbers_that_cannot_be():
    with pytest.raises(UserError, match=r"max_tokens is 3, but .* at least 4 tokens; write 4"):
        load_listops(max_tokens=3)
    with pytest.raises(UserError, match="expressions is 9; a tenth is held out"):
        load_listops(expressions=9)
    with pytest.raises(UserError, match="of 10 expressions too few have at most 4 tokens"):
        load_listops(expressions=10, max_tokens=4, seed=2)
