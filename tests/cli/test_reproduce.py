"""`treering reproduce`: every experiment runs, goes on, is judged, and estimated before."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from treering import experiments
from treering.cli import named_tasks
from treering.cli.options import TaskOptions
from treering.cli.reproduce import SMOKE
from treering.experiments import Experiment, Grid, Outcome
from treering.records import find_records

from .conftest import Call, assert_mistake, reviews

SMALL = Experiment(
    name="pr-lstm/regular",
    title="A small one",
    source="nowhere",
    claims=experiments.get("pr-lstm/regular").claims,
    cpu=(Grid("parity_check", ("lstm", "pr-lstm"), 2, {"steps": 3}),),
    paper=(Grid("parity_check", ("lstm",), 2, {"steps": 1000, "test_samples": 64}),),
)


@pytest.fixture
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the formats of all data sets that experiments use."""
    monkeypatch.setenv("TREERING_DATA", str(folder / "data"))
    folders = ("r8", "imdb", "amazon_fine_foods", "listops", "wikitext2")
    for name in (*folders, "sst_trees", "logical_inference"):
        (folder / "data" / name).mkdir(parents=True)
    at = folder / "data"
    for part, count in (("train", 40), ("test", 10)):
        rows = reviews(count, seed=count)
        r8 = "".join(f"{row['stars']}\t{row['review']}\n" for row in rows)
        (at / "r8" / f"{part}.txt").write_text(r8)
        sides = {"good": "pos\t{}\t9", "bad": "neg\t{}\t2"}
        imdb = "".join(
            f"{sides[row['stars']].format(row['id'])}\t{row['review']}\n" for row in rows
        )
        (at / "imdb" / f"{part}.tsv").write_text(imdb)
    with (at / "amazon_fine_foods" / "reviews.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["Id", "Score", "Text"])
        writer.writeheader()
        for row in reviews(60):
            score = {"good": 5, "bad": 1}[row["stars"]]
            writer.writerow({"Id": row["id"], "Score": score, "Text": row["review"]})
    expressions = "9\t( ( ( [MAX 2 ) 9 ) ] )\n5\t( ( ( [MIN 5 ) 7 ) ] )\n"
    (at / "listops" / "test_d20s.tsv").write_text(expressions)
    trees = "".join(f"({i % 5} (2 It) ({i % 5} (2 is) (2 {w})))\n" for i, w in enumerate("abcde"))
    for part in ("train", "dev", "test"):
        (at / "sst_trees" / f"{part}.txt").write_text(trees)
    pairs = "".join(
        f"{'=' if a == b else '#'}\t{a}\t( {a} ( {word} {b} ) )\n"
        for a in "abcd"
        for b in "abcd"
        for word in ("or", "and")
    )
    for part, count in (("train", 7), ("test", 13)):
        for number in range(count):
            (at / "logical_inference" / f"{part}{number}.tsv").write_text(pairs)
    text = " the cat sat on the mat \n the dog sat on the cat \n" * 8
    for part in ("train", "valid", "test"):
        (at / "wikitext2" / f"{part}.txt").write_text(text)
    return at


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_runs_in_smoke(name: str, call: Call, folder: Path):
    outcome = call("reproduce", name, "--budget=smoke", "--json")
    assert outcome.code == 0, outcome.err
    (told,) = outcome.json
    experiment = experiments.get(name)
    assert [claim["claim"] for claim in told["claims"]] == [c.told for c in experiment.claims]
    # Tiny runs have no verdict; what a claim needs was there all the same, but for long inputs.
    for claim in told["claims"]:
        long = any(words in claim["claim"] for words in ("at length 9,997", "64 tokens apart"))
        assert claim["verdict"] == ("not run" if long else "undecided")
    saved = Outcome.load(folder / "runs" / f"{name}.smoke.json")
    wanted = [(grid.task, layer) for grid in experiment.cpu for layer in grid.layers]
    wanted += [(search.task, search.name) for search in experiment.searches.get("cpu", ())]
    assert [(row.task, row.layer) for row in saved.rows] == wanted
    assert all(row.seeds == [0] for row in saved.rows)
    page = Path(told["report"]).read_text(encoding="utf-8")
    shown = page.replace("<wbr>", "")
    assert all(escape(claim.told) in shown for claim in experiment.claims)
    assert wanted or saved.measurements[0].name in shown


@pytest.mark.usefixtures("data")
def test_a_data_set_is_loaded_once(call: Call, monkeypatch: pytest.MonkeyPatch):
    loaded = []

    def load(word: str, *rest: Any) -> Any:
        loaded.append(word)
        return named_tasks.load(word, *rest)

    monkeypatch.setattr("treering.cli.runs.load", load)
    outcome = call("reproduce", "best/r8", "tree-order/order", "--budget=smoke")
    assert outcome.code == 0, outcome.err
    assert loaded == ["r8", "fine-foods-binary"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One quick experiment under the name of a known one."""
    monkeypatch.setitem(experiments._EXPERIMENTS, SMALL.name, SMALL)
    options = SMOKE["a generated task"]
    grids = [(grid.task, {**options, **grid.options}) for grid in (*SMALL.cpu, *SMALL.paper)]
    for (_, options), grid in zip(grids, (*SMALL.cpu, *SMALL.paper), strict=True):
        object.__setattr__(grid, "options", options)
    return SMALL


@pytest.mark.usefixtures("small")
def test_rows_are_the_runs(call: Call, folder: Path):
    outcome = call("reproduce", "pr-lstm/regular", "--results=results")
    assert outcome.code == 0, outcome.err
    assert "PR-LSTM is over 99%" in outcome.out
    assert "not run" in outcome.out
    saved = Outcome.load(folder / "results" / "pr-lstm" / "regular.cpu.json")
    assert saved == Outcome.load(folder / "runs" / "pr-lstm" / "regular.cpu.json")
    records = find_records("runs")
    assert len(records) == 4
    for row in saved.rows:
        mine = [record for record in records if record.model.layer == row.layer]
        by_seed = {r.seed: r.evaluation.score for r in mine if r.evaluation is not None}
        assert dict(zip(row.seeds, row.scores, strict=True)) == by_seed
        assert row.parameters == mine[0].model.parameters
        mean = sum(r.evaluation.by_length[-1].accuracy for r in mine if r.evaluation) / 2
        assert row.by_length[-1].accuracy == pytest.approx(mean, abs=1e-4)


def test_all_grids_are_one_list_of_runs(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, small: Experiment
):
    """No core waits for another grid's end, and each row still has its own grid's runs."""
    (grid,) = small.cpu
    decayed = {**grid.options, "weight_decay": 0.5}
    other = Grid("parity_check", ("pr-lstm",), 3, decayed, "weight decay 0.5")
    monkeypatch.setitem(experiments._EXPERIMENTS, small.name, replace(small, cpu=(grid, other)))
    outcome = call("reproduce", "pr-lstm/regular")
    assert outcome.code == 0, outcome.err
    assert "/7] pr-lstm seed 2 on parity_check, weight decay 0.5: " in outcome.err
    saved = Outcome.load(folder / "runs/pr-lstm/regular.cpu.json")
    assert [(row.variant, row.seeds) for row in saved.rows] == [
        ("", [0, 1]),
        ("", [0, 1]),
        ("weight decay 0.5", [0, 1, 2]),
    ]
    of_decayed = [r for r in find_records("runs") if r.settings["weight_decay"] == 0.5]
    assert len(of_decayed) == 3
    scores = {r.seed: r.evaluation.score for r in of_decayed if r.evaluation is not None}
    assert dict(enumerate(saved.rows[2].scores)) == scores


@pytest.mark.usefixtures("small")
def test_finished_runs_are_not_run_again(call: Call, folder: Path):
    assert call("reproduce", "pr-lstm/regular").code == 0
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("record.json")}
    first = (folder / "runs/pr-lstm/regular.cpu.json").read_bytes()
    again = call("reproduce", "pr-lstm/regular")
    assert again.err.count("finished before") == 4
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("record.json")} == files
    assert (folder / "runs/pr-lstm/regular.cpu.json").read_bytes() == first


def test_a_diverged_run_is_a_result(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, small: Experiment
):
    """One layer that cannot be trained must not keep the others from being told."""
    wild = Grid("parity_check", ("rnn", "lstm"), 2, {**small.cpu[0].options, "learning_rate": 1e38})
    monkeypatch.setitem(experiments._EXPERIMENTS, small.name, replace(small, cpu=(wild,)))
    for _ in range(2):
        outcome = call("reproduce", "pr-lstm/regular")
        assert outcome.code == 0, outcome.err
        assert outcome.err.count("diverged") == 4
        saved = Outcome.load(folder / "runs/pr-lstm/regular.cpu.json")
        assert [row.diverged for row in saved.rows] == [[0, 1], [0, 1]]
        assert [row.scores for row in saved.rows] == [[], []]


@pytest.mark.usefixtures("small")
def test_an_estimate_runs_nothing_and_knows_what_is_left(call: Call, folder: Path):
    def estimated() -> float:
        outcome = call("reproduce", "pr-lstm/regular", "--budget=paper", "--estimate")
        assert outcome.code == 0, outcome.err
        name, _, text = outcome.out.strip().partition(": about ")
        assert name == "pr-lstm/regular"
        return float(text.removesuffix(" s").replace(" min ", "."))

    assert estimated() > 0
    assert not list(folder.rglob("record.json"))
    outcome = call("reproduce", "pr-lstm/regular", "--budget=paper")
    assert outcome.out.startswith("pr-lstm/regular: about ")
    assert estimated() == 0


def test_an_estimate_makes_fewer_updates_than_a_warm_up(
    call: Call, monkeypatch: pytest.MonkeyPatch, small: Experiment
):
    options = {**small.cpu[0].options, "steps": 40, "warmup_steps": 20}
    warm = Grid("parity_check", ("rnn",), 1, options)
    monkeypatch.setitem(experiments._EXPERIMENTS, small.name, replace(small, cpu=(warm,)))
    outcome = call("reproduce", "pr-lstm/regular", "--estimate")
    assert outcome.code == 0, outcome.err


@pytest.mark.usefixtures("data")
def test_a_test_scored_by_size_is_estimated_by_its_beginning(call: Call):
    outcome = call("reproduce", "pr-lstm/logic", "--budget=smoke", "--estimate")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("pr-lstm/logic: about ")


@pytest.mark.usefixtures("small")
def test_json_is_all_there_is_on_standard_output(call: Call):
    words = ["reproduce", "pr-lstm/regular", "--budget=paper", "--json"]
    assert call(*words, "--estimate").json["pr-lstm/regular"] > 0
    assert call(*words).json[0]["experiment"] == "pr-lstm/regular"


@pytest.mark.usefixtures("data")
def test_an_estimate_names_what_it_leaves_out(call: Call):
    told = call("reproduce", "best/r8", "pr-lstm/time", "--estimate").out
    assert "best/r8: about 0.0 s, and 21 runs of searches" in told
    assert "pr-lstm/time: about 0.0 s, and measurements" in told


@pytest.mark.usefixtures("small")
def test_a_papers_name_means_all_its_experiments(call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experiments, "names", lambda: ("pr-lstm/regular",))
    (told,) = call("reproduce", "pr-lstm", "--json").json
    assert told["experiment"] == "pr-lstm/regular"


def test_without_a_name_experiments_are_listed(call: Call):
    listed = call("reproduce", "--json").json
    assert [one["name"] for one in listed] == list(experiments.names())
    assert all(name in call("reproduce").out for name in experiments.names())


def test_an_unknown_name_is_a_mistake(call: Call):
    assert_mistake(call("reproduce", "pr-lstm/table2"), "pr-lstm/table-2")


def test_options_of_experiments_are_options_of_train():
    """A name that no command has would only be met when the experiment runs."""
    from treering.cli.reproduce import _grouped

    for name in experiments.names():
        experiment = experiments.get(name)
        for grid in (*experiment.cpu, *experiment.paper):
            _grouped(grid.options)
    with pytest.raises(KeyError, match="options of no command: epoch"):
        _grouped({"epoch": 3})
    assert _grouped({"max_tokens": 3})[0] == TaskOptions(max_tokens=3)


def test_outcomes_are_plain_json(call: Call, folder: Path, small: Experiment):
    assert call("reproduce", "pr-lstm/regular").code == 0
    content = json.loads((folder / "runs/pr-lstm/regular.cpu.json").read_text(encoding="utf-8"))
    assert content["experiment"] == small.name
    assert content["machines"][0]["device"] == "cpu"
