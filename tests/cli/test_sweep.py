"""`treering sweep`: every combination with every layer and seed, ranked by validation."""

import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from treering.cli import named_tasks, runs
from treering.cli.options import command_line
from treering.records import Record, find_records

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
from .test_runs import content, press_ctrl_c

FORMAL = [word for word in FAST if not word.startswith("--hidden-size")] + ["--validate-every=2"]
SWEEP = ["sweep", "parity_check", "--layers=lstm,gru", "--seeds=2", *FORMAL]
GRID = ["--grid=learning-rate=1e-3,3e-2", "--grid=hidden-size=3,4"]


def test_every_combination_is_what_train_makes_of_it(call: Call) -> None:
    outcome = call(*SWEEP, *GRID, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = outcome.json["results"]
    found = {
        (row["layer"], row["options"]["learning-rate"], row["options"]["hidden-size"])
        for row in rows
    }
    wanted = {
        (layer, rate, size) for layer in ("lstm", "gru") for rate in (1e-3, 3e-2) for size in (3, 4)
    }
    assert found == wanted
    assert len(rows) == len(wanted)
    for row in rows:
        assert (row["seeds"], row["diverged_seeds"], row["better"]) == ([0, 1], [], "higher")
        trained = [call(*shlex.split(command)[1:], "--json").json for command in row["commands"]]
        for made in trained:
            assert made["model"]["layer"] == row["layer"]
            assert made["model"]["hidden_size"] == row["options"]["hidden-size"]
            assert made["settings"]["learning_rate"] == row["options"]["learning-rate"]
        evaluations = [made["evaluation"] for made in trained]
        validations = [evaluation["validation_score"] for evaluation in evaluations]
        assert row["validation"] == pytest.approx(sum(validations) / 2)
        assert row["score"] == pytest.approx(sum(e["score"] for e in evaluations) / 2)
        low, high = row["validation_interval"]
        assert low <= row["validation"] <= high
    values = [row["validation"] for row in rows]
    assert values == sorted(values, reverse=True)
    chosen = [row for row in rows if row["chosen"]]
    assert {row["layer"] for row in chosen} == {"lstm", "gru"}
    for row in chosen:
        same = [other["validation"] for other in rows if other["layer"] == row["layer"]]
        assert row["validation"] == max(same)


def test_the_table_the_lines_and_the_page(call: Call, folder: Path) -> None:
    outcome = call(*SWEEP, *GRID)
    assert outcome.code == 0, outcome.err
    title, headings, _, *rest = outcome.out.splitlines()
    assert title.strip() == "parity_check: 4 combinations of learning-rate and hidden-size"
    names = ["layer", "learning-rate", "hidden-size", "validation", "score", "seeds"]
    assert headings.split() == names
    assert {tuple(line.split()[:3]) for line in rest[:8]} == {
        (layer, rate, size)
        for layer in ("lstm", "gru")
        for rate in ("1e-3", "3e-2")
        for size in "34"
    }
    assert rest[8].startswith(
        "Best validation (accuracy) first. Score: mean accuracy over lengths 7"
    )
    assert sum(line.startswith(("Best for lstm: l", "Best for gru: l")) for line in rest) == 2
    assert rest[-1] == "Report: runs/parity_check/sweep.html"
    pages = {}
    for shown in ("chosen", "all"):
        again = call(*SWEEP, *GRID, f"--page={shown}")
        assert again.err.count("finished before") == 16
        assert again.out == outcome.out
        pages[shown] = (folder / "runs/parity_check/sweep.html").read_text(encoding="utf-8")
    commands = [record.command for record in find_records(folder / "runs")]
    assert len(commands) == 16
    assert sum(command in pages["chosen"] for command in commands) == 4
    assert sum(command in pages["all"] for command in commands) == 16


def test_ctrl_c_saves_and_the_same_command_goes_on(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SWEEP, "--grid=hidden-size=3,4"]
    assert call(*words, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, 3 + 3 + 2)
        outcome = call(*words, "--out=stopped")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1].endswith(command_line([*words, "--out=stopped"]))
    assert len(find_records(folder / "stopped")) == 3
    assert call(*words, "--out=stopped").code == 0
    for path in (folder / "whole").rglob("record.json"):
        other = folder / "stopped" / path.relative_to(folder / "whole")
        assert content(path.parent)[0] == content(other.parent)[0]


def test_a_run_that_diverges_counts_against_its_combination_alone(call: Call, folder: Path) -> None:
    words = [*SWEEP, "--grid=learning-rate=1e38,1e-3", "--hidden-size=3"]
    rows = call(*words, "--json").json["results"]
    assert [row["options"]["learning-rate"] for row in rows] == [1e-3, 1e-3, 1e38, 1e38]
    assert [row["diverged_seeds"] for row in rows] == [[], [], [0, 1], [0, 1]]
    assert rows[-1]["validation"] is None
    assert rows[-1]["score"] is None
    diverged = [
        record
        for record in find_records(folder / "runs")
        if not math.isfinite(record.learning[-1].loss)
    ]
    assert len(diverged) == 4
    again = call(*words)
    assert again.err.count("finished before") == again.err.count("diverged before") == 4
    assert "0 of 2" in again.out
    assert "Fewer seeds than asked for: the others diverged" in again.out
    alone = call("train", "parity_check", *FORMAL, "--learning-rate=1e38")
    assert_mistake(alone, "not finite", "smaller learning rate")


def test_a_draw_runs_some_and_a_larger_one_keeps_them(call: Call, folder: Path) -> None:
    words = [*SWEEP, "--layers=lstm", "--seeds=1", *GRID]
    words.remove("--layers=lstm,gru")
    words.remove("--seeds=2")
    few = call(*words, "--random=2", "--json").json["results"]
    assert len(few) == len(find_records(folder / "runs")) == 2
    more = call(*words, "--random=3")
    assert more.err.count("finished before") == 2
    assert len(find_records(folder / "runs")) == 3
    other = call(*words, "--random=2", "--random-seed=3", "--json").json["results"]
    assert [row["options"] for row in other] != [row["options"] for row in few]


@pytest.fixture
def texts(folder: Path) -> list[str]:
    write_reviews(folder / "reviews.csv", reviews(40))
    return ["sweep", "reviews.csv", *COLUMNS, *FAST_TEXT, "--seeds=1"]


def test_a_file_is_loaded_once_for_all_that_read_it_alike(
    texts: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []

    def load(*arguments: Any) -> Any:
        loaded.append(arguments)
        return named_tasks.load(*arguments)

    monkeypatch.setattr(runs, "load", load)
    grids = ["--grid=learning-rate=1e-3,1e-2", "--grid=max-tokens=4,8"]
    outcome = call(*texts, "--layers=gru", *grids)
    assert outcome.code == 0, outcome.err
    assert len(loaded) == 2
    assert "validated on different data" not in outcome.out


def test_combinations_that_come_to_the_same_run_share_it(
    texts: list[str], call: Call, folder: Path
) -> None:
    outcome = call(*texts, "--layers=lstm", "--grid=max-words=5000,6000", "--json")
    assert outcome.code == 0, outcome.err
    one, other = outcome.json["results"]
    assert one.pop("options") == {"max-words": 5000}
    assert other.pop("options") == {"max-words": 6000}
    assert one["commands"] == other["commands"]
    assert len(find_records(folder / "runs")) == 1


def test_what_is_validated_on_other_data_is_said(call: Call) -> None:
    words = [word for word in SWEEP if not word.startswith("--train-length")]
    outcome = call(*words, "--grid=train-length=5,6", "--hidden-size=3")
    assert outcome.code == 0, outcome.err
    assert "Combinations that differ in train-length are validated on different" in outcome.out


BAD_GRIDS = [
    ([], ["--grid learning-rate=1e-3,3e-3", "treering compare"]),
    (["--grid=learning-rat=1"], ["unknown option 'learning-rat'", "'learning-rate'", "--grid"]),
    (["--grid=threads=1"], ["unknown option 'threads'"]),
    (["--grid=learning-rate"], ["learning-rate has no values", "VALUE,VALUE"]),
    (["--grid=learning-rate="], ["learning-rate= has no values"]),
    (["--grid=learning-rate=1e-3,,"], ["--learning-rate", "number above 0", "''"]),
    (["--grid=learning-rate=1e-3,-1"], ["--learning-rate", "number above 0", "'-1'"]),
    (["--grid=hidden-size=4,1.5"], ["--hidden-size", "whole number from 1", "'1.5'"]),
    (["--grid=unit=letter"], ["--unit", "letter", "character"]),
    (["--grid=learning-rate=0.1,1e-1"], ["1e-1 is given twice"]),
    (["--grid=clip=1", "--grid=clip=2"], ["two --grid are about clip", "in one"]),
    (["--grid=steps=1,2"], ["--steps is given plainly and in --grid steps=..."]),
    (["--grid=max-words=4"], ["--max-words means nothing for parity_check"]),
    (["--grid=epochs=4"], ["--epochs means nothing for parity_check"]),
    (["--grid=test-samples=4"], ["--test-samples is given plainly"]),
    (["--grid=clip=1,2", "--random=3"], ["--random 3", "2 combinations"]),
    (["--grid=clip=1,2", "--seeds=5001"], ["2 combinations x 1 layer x 5,001 seeds are 10,002"]),
    (["--grid=clip=1,2", "--layers=lstn"], ["unknown layer 'lstn'"]),
    (["--grid=clip=1,2", "--ray=local", "--device=cuda:1"], ["cuda:1 with --ray", "cuda, which"]),
]


@pytest.mark.parametrize(("words", "expected"), BAD_GRIDS)
def test_mistakes_are_told_before_the_first_run(
    words: list[str], expected: list[str], call: Call, folder: Path
) -> None:
    layers = [] if any("--layers" in word for word in words) else ["--layers=lstm"]
    given = ["sweep", "parity_check", *FORMAL, "--hidden-size=3"]
    if any("hidden-size" in word for word in words):
        given.remove("--hidden-size=3")
    assert_mistake(call(*given, *layers, *words), *expected)
    assert files_under(folder) == set()


def test_validation_must_be_there_to_choose(call: Call, folder: Path) -> None:
    assert_mistake(
        call("sweep", "parity_check", *FAST, "--grid=clip=1,2"),
        "chooses by validation",
        "--validate-every N",
    )
    assert files_under(folder) == set()
    outcome = call("sweep", "parity_check", *FAST, "--grid=validate-every=1,3", "--layers=lstm")
    assert outcome.code == 0, outcome.err


def test_scores_of_different_kinds_are_not_ranked(call: Call, folder: Path) -> None:
    (folder / "novel.txt").write_text("all happy families are alike. " * 60)
    outcome = call("sweep", "novel.txt", "--layers=lstm", "--grid=unit=character,word")
    assert_mistake(outcome, "unit", "bits per character and perplexity", "cannot be ranked")


def test_many_runs_are_run_when_meant(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treering.cli.sweep.LARGE", 1)
    words = ["sweep", "parity_check", *FORMAL, "--layers=lstm", "--seeds=1", "--grid=clip=1,2"]
    assert_mistake(call(*words, "--hidden-size=3"), "2 runs", "--large", "--random N")
    assert call(*words, "--hidden-size=3", "--random=1").code == 0
    assert call(*words, "--hidden-size=3", "--large").code == 0


def test_records_say_how_to_train_each_alone(call: Call, folder: Path) -> None:
    assert call(*SWEEP, "--grid=hidden-size=3").code == 0
    for path in (folder / "runs").rglob("record.json"):
        command = Record.load(path).command
        assert "--hidden-size 3" in command
        assert call(*shlex.split(command)[1:]).err.count("finished before") == 1
