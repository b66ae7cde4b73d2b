"""Reading the user's files: every format, every fault."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering._errors import UserError
from treering.tasks.text.files import read_rows

CSV = 'id,review,stars\n1,"good, very good",5\n2,"two\nlines ""quoted""",1\n\n3,plain, 5 \n'
ROWS = (["good, very good", 'two\nlines "quoted"', "plain"], ["5", "1", "5"], [2, 3, 6])


def written(folder: Path, name: str, content: bytes | str) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refused(path: Path, *columns: str) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(path, *(columns or ("review", "stars")))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message[len(str(path)) :]


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "my.reviews.csv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_csv(tmp_path: Path, name: str, encoding: str, break_: str):
    path = written(tmp_path, name, CSV.replace("\n", break_).encode(encoding))
    rows = read_rows(path, "review", "stars")
    texts = [text.replace("\r\n", "\n") for text in rows.texts]
    assert (texts, rows.labels, rows.lines) == ROWS


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv(tmp_path: Path, name: str):
    path = written(tmp_path, name, 'review\tstars\ngood, "very" good\t5\n"a\ttab"\t1\n')
    rows = read_rows(path, "review", "stars")
    assert rows.texts == ['good, "very" good', "a\ttab"]
    assert rows.labels == ["5", "1"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_jsonl(tmp_path: Path, name: str):
    lines = [
        json.dumps({"review": "a\u2028b", "stars": 5}, ensure_ascii=False),
        "",
        json.dumps({"stars": True, "review": "c", "other": None}),
        json.dumps({"stars": "x", "review": 1.5}) + "\r",
    ]
    rows = read_rows(written(tmp_path, name, "\n".join(lines)), "review", "stars")
    assert rows.texts == ["a\u2028b", "c", "1.5"]
    assert rows.labels == ["5", "true", "x"]
    assert rows.lines == [1, 3, 4]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")),
            st.sampled_from(["a", "b"]),
        ).filter(lambda row: row[0].strip()),
        min_size=1,
    )
)
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, rows: list):
    path = tmp_path_factory.mktemp("any") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "stars"), *rows])
    read = read_rows(path, "review", "stars")
    assert list(zip(read.texts, read.labels, strict=True)) == rows


def test_missing_column_names_the_others(tmp_path: Path):
    path = written(tmp_path, "a.csv", CSV)
    message = refused(path, "reviews", "stars")
    assert "unknown column 'reviews'; did you mean 'review'? Known: id, review, stars" in message
    assert "unknown column 'label'" in refused(path, "review", "label")
    path = written(tmp_path, "a.jsonl", '{"review": "a", "stars": 1}\n{"review": "b"}')
    assert ", line 2: unknown column 'stars'" in refused(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", ": the file is empty"),
        ("a.csv", " \n\n", ": the file is empty"),
        ("a.csv.gz", "", ": the file is empty"),
        ("a.csv", "review,stars\n", ": no rows"),
        ("a.csv", "review,stars\na,1\n,2\n", ", line 3: empty text (column 'review')"),
        ("a.csv", "review,stars\na,1\nb, \n", ", line 3: empty label (column 'stars')"),
        ("a.csv", "review,stars\na,1\nb\n", ", line 3: 1 fields, but the header has 2"),
        ("a.csv", "review,stars\na, b,1\n", ", line 2: 3 fields, but the header has 2"),
        ("a.csv", 'review,stars\na,1\n"b,2\nc,3\n', ", line 3: unexpected end of data"),
        ("a.csv", 'review,stars\n"a" b,1\n', ", line 2: ',' expected after '\"'"),
        ("a.csv", "review,stars,review\na,1,b\n", ": column 'review' occurs twice"),
        ("a.csv", b"review,stars\na,1\nb\xe9,2\n", ", line 3: not UTF-8 (byte 0xe9)"),
        ("a.csv", CSV.encode("utf-16"), ": encoded in UTF-16"),
        ("a.csv", b"review,stars\na\0,1\n", ", line 2: a zero byte"),
        ("a.txt", CSV, ": cannot tell the format from the ending '.txt'"),
        ("a.gz", CSV, ": cannot tell the format from the ending '.gz'"),
        ("a.jsonl", '{"review": "a", "stars": 1}\n{"review": ', ", line 2: not JSON"),
        ("a.jsonl", "[" * 100_000, ", line 1: not JSON"),
        ("a.jsonl", '["a", 1]', ", line 1: not an object"),
        ("a.jsonl", '{"review": "a", "stars": null}', ", line 1: empty label"),
        ("a.jsonl", '{"review": ["a"], "stars": 1}', ", line 1: column 'review' holds [\"a\"]"),
        ("a.jsonl", '{"review": "\\ud800", "stars": 1}', ", line 1: column 'review' holds half"),
    ],
)
def test_faults(tmp_path: Path, name: str, content: bytes | str, message: str):
    assert refused(written(tmp_path, name, content)).startswith(message)


def test_very_long_text(tmp_path: Path):
    limit = csv.field_size_limit()
    long = "word " * 100_000
    rows = read_rows(written(tmp_path, "a.csv", f"review,stars\n{long},1\n"), "review", "stars")
    assert rows.texts == [long]
    assert csv.field_size_limit() == limit


def test_damaged_gzip(tmp_path: Path):
    whole = gzip.compress(CSV.encode() * 50)
    for content in (whole[:-20], b"plain text", whole[:40] + b"\xff" * 20 + whole[60:]):
        path = tmp_path / "a.csv.gz"
        path.write_bytes(content)
        assert "damaged or not gzip" in refused(path)


def test_absent_file_and_folder(tmp_path: Path):
    assert refused(tmp_path / "a.csv") == ": no such file"
    (tmp_path / "b.csv").mkdir()
    assert ": cannot read it: " in refused(tmp_path / "b.csv")


def test_one_column_twice(tmp_path: Path):
    with pytest.raises(UserError, match="text and label are both column 'review'"):
        read_rows(tmp_path / "a.csv", "review", "review")
