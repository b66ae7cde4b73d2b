"""Budgets of a second, files that can be learnt from, and a call of the command line."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from treering.cli import main

FAST = [
    "--steps=3",
    "--batch-size=4",
    "--hidden-size=4",
    "--train-length=6",
    "--test-length=10",
    "--test-every=3",
    "--test-samples=8",
]
"""A generated task in a tenth of a second."""

FAST_TEXT = ["--epochs=1", "--hidden-size=4", "--embedding-size=4"]
COLUMNS = ["--text=review", "--label=stars"]

OPENINGS = ("The film was", "I found the plot", "Honestly, the music is", "My dinner there was")
CLOSINGS = ("from start to end.", "as everybody says!", "and so was the weather.", "this time.")
FEELINGS = {
    "good": ("wonderful", "charming", "a delight", "brilliant", "lovely"),
    "bad": ("dreadful", "boring", "a disaster", "clumsy", "stale"),
}


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`treering` with the given words, in this process."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own and stands in it; a pipe's width, no colours."""
    monkeypatch.chdir(tmp_path)
    for name in ("TREERING_DATA", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def assert_mistake(outcome: Outcome, *words: str) -> None:
    """One clear line on standard error that has all the words, exit code 2, nothing printed."""
    assert outcome.out == ""
    assert outcome.err.startswith("treering: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert outcome.code == 2


def reviews(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Short reviews whose label hangs on one of ten phrases, in several settings."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        stars = draw.choice(("good", "bad"))
        feeling = draw.choice(FEELINGS[stars])
        opening, closing = draw.choice(OPENINGS), draw.choice(CLOSINGS)
        rows.append({"id": f"{number}", "review": f"{opening} {feeling} {closing}", "stars": stars})
    return distinct(rows)


def distinct(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Texts made unlike by a number, for rows of equal text stay in one part of the data."""
    return [{**row, "review": f"{row['review']} ({row['id']})"} for row in rows]


def write_reviews(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """In the format that the ending says: .csv, .tsv or .jsonl, with or without .gz."""
    suffix = next(suffix for suffix in path.suffixes if suffix != ".gz")
    if suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(
            buffer, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs follow each other in this process, unless a test asks for --jobs.

    A new process takes seconds to import PyTorch; `test_workers.py` is about those.
    """
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 1)
