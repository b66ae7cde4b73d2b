"""Bad input: one line, exit code 2, nothing written."""

import gzip
from pathlib import Path

import pytest
import torch

from treering.cli.options import LARGEST

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

GOOD = "review,stars\n" + "".join(
    f"text {number},{'good' if number % 2 else 'bad'}\n" for number in range(20)
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["parity_chek"], ["unknown task 'parity_chek'", "'parity_check'", "CSV"]),
        (["Parity-Check"], ["unknown task", "'parity_check'"]),
        (["R8"], ["unknown task", "'r8'"]),
        (["a" * 300], ["unknown task"]),
        (["missing.csv"], ["missing.csv", "No such file"]),
        (["no/such/file"], ["no/such/file", "No such file"]),
        (["a" * 300 + ".csv"], ["too long"]),
        (["."], ["'.' is a folder"]),
        (["parity_check", "--layer=lstn"], ["unknown layer 'lstn'", "'lstm'"]),
        (["parity_check", "--layer=lstm:schedule=tree"], ["Tree", "leave schedule out"]),
        (["parity_check", "--text=a"], ["--text", "parity_check, a generated task"]),
        (["parity_check", "--embedding-size=3"], ["--embedding-size", "generated task"]),
        (["parity_check", "--test-length=6"], ["--test-length 6", "above --train-length 6"]),
        (["parity_check", "--device=cupu"], ["device 'cupu' cannot be used", "--device"]),
        (["parity_check", "--device=meta"], ["device 'meta' cannot be used", "--device"]),
        (["parity_check", "--device="], ["device '' cannot be used", "--device"]),
        (["r8", "--text=a"], ["--text", "r8"]),
        (["mqar", "--train-length=2"], ["--train-length 2", "shorter than 3", "3 or more"]),
        (
            ["word_problem_s3", "--layer=lstm:bidirectional=true"],
            ["must not see later tokens", "bidirectional=False (in 'lstm:bidirectional=true')"],
        ),
        (["mqar", "--layer=gru+tree-order"], ["in tree order does", "(in 'gru+tree-order')"]),
        (["imdb", "--test=a"], ["--test", "imdb"]),
        (["fine-foods"], ["no amazon_fine_foods/reviews.csv", "snap/amazon-fine-food-reviews"]),
        (["parity_check", "--min-tokens=9"], ["--min-tokens", "a generated task"]),
        (["parity_check", "--pooling=max"], ["--pooling", "a generated task"]),
        (["parity_check", "--dropout=1"], ["--dropout", "below 1, not '1'"]),
        (["parity_check", "--warmup-steps=3"], ["warmup_steps = 3", "after 3 updates"]),
        (["parity_check", "--bucket=9"], ["--bucket", "a generated task"]),
    ],
)
def test_mistakes_in_what_is_trained(
    words: list[str], expected: list[str], call: Call, folder: Path
) -> None:
    generated = words[0] in ("parity_check", "word_problem_s3", "mqar")
    budget = FAST if generated else FAST_TEXT
    given = [option.split("=")[0] for option in words]
    budget = [option for option in budget if option.split("=")[0] not in given]
    assert_mistake(call("train", *words, *budget), *expected)
    assert files_under(folder) == set()


def test_a_wrong_task_is_told_before_its_options(call: Call) -> None:
    assert_mistake(call("train", "parity_chek", *FAST), "unknown task")


WHOLE = "hidden-size steps batch-size train-length test-length test-every test-samples threads"


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "nan", "abc", "", "1e3", str(LARGEST + 1)])
@pytest.mark.parametrize("option", WHOLE.split())
def test_sizes_are_whole_numbers(option: str, text: str, call: Call, folder: Path) -> None:
    outcome = call("train", "parity_check", f"--{option}={text}")
    assert_mistake(outcome, f"--{option}", "whole number from 1", repr(text))
    assert files_under(folder) == set()


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "abc", ""])
@pytest.mark.parametrize("option", ["learning-rate", "clip"])
def test_rates_are_numbers_above_zero(option: str, text: str, call: Call) -> None:
    outcome = call("train", "parity_check", f"--{option}={text}")
    assert_mistake(outcome, f"--{option}", "number above 0", repr(text))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seeds=0"], ["--seeds", "whole number from 1"]),
        (["--layers="], ["no layer given", "--layers lstm,pr-lstm"]),
        (["--layers=lstm,lstm"], ["'lstm' is given twice"]),
        (["--layers=lstm,gru:bias=no"], ["bias takes true or false"]),
        (["--layers=lstm,pr-lstm:refinements=-1"], ["refinements"]),
    ],
)
def test_mistakes_in_a_comparison_are_told_before_the_first_run(
    words: list[str], expected: list[str], call: Call, folder: Path
) -> None:
    assert_mistake(call("compare", "parity_check", *words, *FAST), *expected)
    assert files_under(folder) == set()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", ["a.csv", "empty"]),
        ("a.csv", b"review,stars\n", ["a.csv", "no rows"]),
        ("a.csv", b"revue,stars\na b,good\n", ["unknown column 'review'", "'revue'"]),
        ("a.csv", b"review,stars\na,b,c\n", ["a.csv, line 2", "3 fields"]),
        ("a.csv", b'review,stars\n"a,b\n', ["a.csv, line 2"]),
        ("a.csv", b"review,stars\na,good\ncaf\xe9,bad\n", ["a.csv, line 3", "not UTF-8"]),
        ("a.csv", GOOD.encode("utf-16"), ["a.csv", "UTF-16"]),
        ("a.csv", GOOD.replace("bad", "good").encode(), ["every row has the label 'good'"]),
        ("a.csv", b"review,stars\na,good\nb,bad\n", ["too few"]),
        ("a.csv", b"review,stars\n,good\n", ["a.csv, line 2", "empty text"]),
        ("a.tsv", GOOD.encode(), ["unknown column 'review'", "'review,stars'"]),
        (
            "a.jsonl",
            b'{"review": "a", "stars": "b"}\n{"review":\n',
            ["a.jsonl, line 2", "not JSON"],
        ),
        ("a.jsonl", b'{"review": "a"}\n', ["a.jsonl, line 1", "unknown column 'stars'"]),
        ("a.jsonl", b"[1]\n", ["a.jsonl, line 1", "not an object"]),
        ("a.csv.gz", b"no", ["a.csv.gz", "not gzip"]),
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], ["a.csv.gz", "damaged"]),
        ("a.parquet", b"x", ["a.parquet", "'.parquet'", ".csv"]),
    ],
)
def test_mistakes_in_a_file(
    name: str, content: bytes, expected: list[str], call: Call, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    for command in ("train", "compare"):
        assert_mistake(call(command, name, *COLUMNS, *FAST_TEXT), *expected)
    assert files_under(folder) == {name}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["--text COLUMN", "--label COLUMN"]),
        (["--text=review"], ["--text COLUMN", "--label COLUMN"]),
        (["--text=revue", "--label=stars"], ["unknown column 'revue'", "'review'"]),
        (["--text=review", "--label=review"], ["both column 'review'"]),
        ([*COLUMNS, "--test=none.csv"], ["none.csv", "no such file"]),
        ([*COLUMNS, "--test=reviews.csv"], ["nothing is left to train on"]),
        ([*COLUMNS, "--train-length=3"], ["--train-length", "reviews.csv, a data set"]),
        ([*COLUMNS, "--curriculum=growing"], ["--curriculum", "leave it out"]),
        ([*COLUMNS, "--steps=3"], ["--steps or --epochs, not both"]),
        ([*COLUMNS, "--max-words=0"], ["--max-words", "whole number"]),
    ],
)
def test_mistakes_with_a_good_file(
    words: list[str], expected: list[str], call: Call, folder: Path
) -> None:
    write_reviews(folder / "reviews.csv", reviews(20))
    assert_mistake(call("train", "reviews.csv", *words, *FAST_TEXT), *expected)
    assert files_under(folder) == {"reviews.csv"}


def test_a_folder_with_the_name_of_a_file(call: Call, folder: Path) -> None:
    (folder / "dir.csv").mkdir()
    assert_mistake(call("train", "dir.csv", *COLUMNS), "'dir.csv' is a folder")


@pytest.mark.parametrize("command", ["train", "compare", "demo"])
@pytest.mark.parametrize("out", ["file", "file/deeper/still"])
def test_out_on_a_file(command: str, out: str, call: Call, folder: Path) -> None:
    (folder / "file").write_text("mine")
    words = [] if command == "demo" else ["parity_check", *FAST]
    assert_mistake(call(command, *words, "--out", out), f"--out {out}", "not a folder")
    assert files_under(folder) == {"file"}
    assert (folder / "file").read_text() == "mine"


@pytest.mark.parametrize("sizes", [(2**50,), (2**60, 2**60)])
def test_a_model_that_does_not_fit_into_memory(
    sizes: tuple[int, ...], call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("treering.cli.queue.build", lambda *_: torch.zeros(sizes))
    assert_mistake(call("train", "parity_check", *FAST), "not enough memory", "--hidden-size")
    assert files_under(folder) == set()


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("runs/record.json", "{", ["record.json", "not JSON"]),
        ("runs/record.json", "{}", ["record.json", "not a treering record"]),
        ("runs/record.json", '{"schema_version": 99}', ["record.json", "schema 99"]),
        ("runs/record.json", '{"schema_version": 2}', ["record.json", "damaged"]),
        ("runs/a/b/record.json", "\udcff", ["record.json", "not UTF-8"]),
        ("runs/other.json", "{}", ["no record.json under runs"]),
    ],
)
def test_report_on_a_folder_with_garbage(
    path: str, content: str, expected: list[str], call: Call, folder: Path
) -> None:
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_text(content, encoding="utf-8", errors="surrogateescape")
    before = files_under(folder)
    assert_mistake(call("report"), *expected)
    assert files_under(folder) == before


def test_report_on_nothing(call: Call) -> None:
    assert_mistake(call("report"), "no such file or folder: runs")
    assert_mistake(call("report", "none"), "no such file or folder: none")


def test_report_onto_a_folder_or_under_a_file(call: Call, folder: Path) -> None:
    assert call("train", "parity_check", *FAST).code == 0
    (folder / "file").write_text("mine")
    for out in ("runs", "file/report.html"):
        before = files_under(folder)
        assert_mistake(call("report", "--out", out), f"cannot write {out}")
        assert files_under(folder) == before


def test_report_into_a_missing_folder_makes_it(call: Call, folder: Path) -> None:
    assert call("train", "parity_check", *FAST).code == 0
    assert call("report", "--out", "a/b/page.html").code == 0
    assert "<html" in (folder / "a/b/page.html").read_text(encoding="utf-8")
