"""Texts and labels from the user's own CSV, TSV or JSONL file.

Every fault is one UserError that names the file, the line and the way out. A file is read
into memory whole.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from treering._errors import UserError, nearest


@dataclass(frozen=True)
class Rows:
    """Parallel lists: a text, its label and the line it starts on.

    depths: where texts come with binary trees over their words, the depth of the lowest node over
    each boundary between two words.
    """

    path: Path
    texts: list[str]
    labels: list[str]
    lines: list[int]
    depths: list[list[int]] | None = None


def read_rows(path: str | os.PathLike[str], text_column: str, label_column: str) -> Rows:
    """Read two columns of a .csv, .tsv, .jsonl or .ndjson file, gzipped (.gz) or not.

    CSV and TSV start with a line of column names and quote as spreadsheets do: a field that
    contains the separator, a quote or a line break stands in double quotes. JSONL has one
    object a line. Encoding: UTF-8, with or without a byte order mark. Labels are stripped of
    blanks around them. UserError for everything that cannot be read so.
    """
    path = Path(path)
    if text_column == label_column:
        raise UserError(f"text and label are both column {text_column!r}; name two columns")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()
    if kind not in _READERS:
        raise UserError(
            f"{path}: cannot tell the format from the ending {kind!r}; name the file "
            f"{', '.join(_READERS)} (or the same with .gz)"
        )
    rows = Rows(path, [], [], [])
    columns = (text_column, label_column)
    content = read_text(path)
    # The csv module refuses fields above a limit, 128 KiB at first, that is the whole
    # process's: a long document is no fault, so the limit is lifted for this file alone.
    limit = csv.field_size_limit()
    csv.field_size_limit(max(limit, len(content)))
    try:
        for line, text, label in _READERS[kind](path, content, columns):
            add_row(rows, line, text, label, columns)
    finally:
        csv.field_size_limit(limit)
    if not rows.texts:
        raise UserError(f"{path}: no rows; a header alone cannot be trained on")
    return rows


def add_row(rows: Rows, line: int, text: str, label: str, columns: tuple[str, str]) -> None:
    """Append one row, or UserError if there is nothing to learn from in it."""
    label = label.strip()
    for content, column, what in ((text.strip(), columns[0], "text"), (label, columns[1], "label")):
        if not content:
            raise UserError(
                f"{rows.path}, line {line}: empty {what} (column {column!r}); fill it in or "
                "delete the row"
            )
    rows.texts.append(text)
    rows.labels.append(label)
    rows.lines.append(line)


def read_text(path: Path) -> str:
    """The whole file as text, unpacked if its name ends in .gz; UserError if that fails."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: damaged or not gzip ({error}); pack it anew") from None
    if not content.strip():
        raise UserError(f"{path}: the file is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: encoded in UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save the "
            "file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}, line {line}: a zero byte; this is not a text file in UTF-8")
    return text


_Fields = Iterator[tuple[int, str, str]]


def _separated(path: Path, text: str, columns: tuple[str, str], separator: str) -> _Fields:
    # newline="" leaves line breaks inside quotes to the csv module, as its manual asks.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    places = (0, 0)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}, line {line}: {error}; a field with quotes must be quoted as a whole "
                'and its quotes doubled: "say ""yes"""'
            ) from None
        if not fields:
            continue
        if header is None:
            header = [name.strip() for name in fields]
            places = (_place(path, header, columns[0]), _place(path, header, columns[1]))
        elif len(fields) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(fields)} fields, but the header has {len(header)}; "
                f"put a field that contains {separator!r} in double quotes"
            )
        else:
            yield line, fields[places[0]], fields[places[1]]


def _place(path: Path, header: list[str], column: str) -> int:
    if column not in header:
        raise UserError(f"{path}: {nearest(column, header, 'column')}")
    if header.count(column) > 1:
        raise UserError(f"{path}: column {column!r} occurs twice in the header; rename one")
    return header.index(column)


def _csv(path: Path, text: str, columns: tuple[str, str]) -> _Fields:
    return _separated(path, text, columns, ",")


def _tsv(path: Path, text: str, columns: tuple[str, str]) -> _Fields:
    return _separated(path, text, columns, "\t")


def _jsonl(path: Path, text: str, columns: tuple[str, str]) -> _Fields:
    # Not splitlines(): JSON strings may contain other line separators as they are.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        where = f"{path}, line {line}"
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise UserError(f'{where}: not an object; write {{"{columns[0]}": ..., ...}}')
        for column in columns:
            if column not in row:
                raise UserError(f"{where}: {nearest(column, row, 'column')}")
        yield line, _string(where, row, columns[0]), _string(where, row, columns[1])


def _string(where: str, row: dict[str, object], column: str) -> str:
    value = row[column]
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise UserError(
            f"{where}: column {column!r} holds {json.dumps(value)[:40]}; write a string or a number"
        )
    text = value if isinstance(value, str) else json.dumps(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(
            f"{where}: column {column!r} holds half a surrogate pair (\\ud8..); remove it"
        )
    return text


_READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".ndjson": _jsonl}
