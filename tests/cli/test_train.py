"""`treering train` on the user's own file."""

import re
from pathlib import Path

import pytest

from treering.records import PARTS, STEP_PARTS, find_records

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, reviews, write_reviews


@pytest.mark.parametrize("layer", ["lstm", "pr-lstm"])
def test_three_hundred_rows_are_learnt_with_the_default_settings(
    layer: str, call: Call, folder: Path
) -> None:
    write_reviews(folder / "reviews.csv", reviews(300))
    outcome = call("train", "reviews.csv", *COLUMNS, "--layer", layer)
    assert outcome.code == 0
    found = re.search(r"test accuracy: (\d\.\d+) \(guessing: (\d\.\d+)", outcome.out)
    assert found is not None
    accuracy, guessing = map(float, found.groups())
    assert guessing < 0.6
    assert accuracy >= 0.9


def test_every_format_is_the_same_task(call: Call, folder: Path) -> None:
    rows = reviews(40)
    scores = []
    for ending in ("csv", "tsv", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz"):
        write_reviews(folder / f"reviews.{ending}", rows)
        outcome = call("train", f"reviews.{ending}", *COLUMNS, *FAST_TEXT, "--json")
        assert outcome.code == 0, outcome.err
        record = outcome.json
        scores.append((record["evaluation"], record["model"]["parameters"]))
    assert scores == [scores[0]] * 6


def test_a_test_file_is_what_the_score_is_about(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(200))
    turned = [
        {**row, "stars": "good" if row["stars"] == "bad" else "bad", "review": f"{row['review']} x"}
        for row in reviews(60, seed=1)
    ]
    write_reviews(folder / "turned.csv", turned)
    words = ["train", "reviews.csv", *COLUMNS, "--layer=lstm", "--json"]
    upright = call(*words).json["evaluation"]
    against = call(*words, "--test=turned.csv").json["evaluation"]
    assert upright["test_score"] > 0.8
    assert against["test_score"] < 0.2
    assert against["validation_score"] > 0.8


def test_seeds_differ_and_repeat(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(40))
    words = ["train", "reviews.csv", *COLUMNS, *FAST_TEXT, "--json"]
    curves = [
        [point["loss"] for point in call(*words, *more).json["learning"]]
        for more in (["--seed=0"], ["--seed=1"], ["--seed=0", "--out=again"])
    ]
    assert curves[0] == curves[2] != curves[1]


def test_where_the_time_went_is_said(call: Call, folder: Path) -> None:
    outcome = call("train", "parity_check", *FAST)
    (line,) = re.findall(r"^Of the time: (.*)$", outcome.out, re.MULTILINE)
    parts, per_step = line.split("; ")
    assert [part.split()[0] for part in parts.split(", ")] == list(PARTS)
    assert 95 <= sum(int(share) for share in re.findall(r"(\d+)%", parts)) <= 105
    (record,) = find_records(folder)
    training = sum(record.cost.where[part] for part in STEP_PARTS)
    assert float(per_step.removesuffix(" ms a step")) == pytest.approx(
        1000 * training / 3, rel=0.01
    )


def test_steps_in_place_of_epochs(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(40))
    record = call("train", "reviews.csv", *COLUMNS, *FAST_TEXT[1:], "--steps=5", "--json").json
    assert record["learning"][-1]["step"] == 5
    assert record["settings"]["epochs"] is None
