"""Trees that come with the data, on the command line: trained, stopped, compared, looked into."""

import json
from pathlib import Path

import pytest

from treering.records import Record

from .conftest import FAST, FAST_TEXT, Call, assert_mistake, files_under
from .test_runs import assert_same_run, press_ctrl_c, the_run

GIVEN = "pr-lstm:schedule=given"
LEFT, RIGHT = "({0} ({0} (2 it) (2 is)) ({0} {1}))", "({0} (2 it) ({0} (2 is) ({0} {1})))"
WORDS = ("awful", "dull", "so-so", "good", "superb")
TRAIN = ["train", "sst", f"--layer={GIVEN}", *FAST_TEXT, "--batch-size=4"]


def put(folder: Path, tree: str) -> None:
    (folder / "data" / "sst_trees").mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 20), ("dev", 10), ("test", 10)):
        rows = [tree.format(i % 5, WORDS[i % 5]) for i in range(count)]
        (folder / "data" / "sst_trees" / f"{part}.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, LEFT)
    monkeypatch.setenv("TREERING_DATA", str(folder / "data"))


def test_a_run_goes_on_after_ctrl_c_as_if_never_stopped(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*TRAIN, "--out=whole").code == 0
    with monkeypatch.context() as context:
        press_ctrl_c(context, 3)
        assert call(*TRAIN, "--out=stopped").code == 130
    assert call(*TRAIN, "--out=stopped").code == 0
    assert_same_run(*(the_run(folder / out, "pr-lstm*") for out in ("whole", "stopped")))
    assert (
        "Tree(bracket='given'" in Record.load(the_run(folder / "whole", "pr-lstm*")).model.explain
    )


def test_other_trees_are_another_run_of_a_layer_that_reads_them_alone(call: Call, folder: Path):
    """On trees of one shape the model is the one under that shape's own bracket."""
    compare = ["compare", "sst", "--layers", f"{GIVEN},pr-lstm:schedule=left", "--seeds=1"]
    compare += [*FAST_TEXT, "--batch-size=4", "--jobs=1"]
    assert call(*compare).code == 0
    runs = sorted(folder.rglob("record.json"))
    losses = [[point.loss for point in Record.load(run.parent).learning] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    put(folder, RIGHT)
    again = call(*compare)
    assert again.code == 0
    assert again.err.count("finished before") == 1
    (other,) = set(folder.rglob("record.json")) - set(runs)
    assert Record.load(other.parent).model.layer == GIVEN
    assert [point.loss for point in Record.load(other.parent).learning] != losses[0]


def test_a_run_is_looked_into_along_its_trees(call: Call, folder: Path):
    put(folder, RIGHT)
    assert call(*TRAIN).code == 0
    run = the_run(folder, "pr-lstm*")
    assert call("inspect", str(run), "--samples=4").code == 0
    found = json.loads((run / "inspection.json").read_text())
    assert {one["bracket"] for one in found["readings"]} == {"given"}
    # Tokens 1, 2, 3 are nodes 0, 1, 2; the last two are merged first.
    assert [(node["left"], node["right"]) for node in found["readings"][0]["nodes"][3:]] == [
        (1, 2),
        (0, 3),
    ]


@pytest.mark.parametrize("command", ["predict", "export"])
def test_new_texts_have_no_trees(command: str, call: Call, folder: Path):
    assert call(*[word for word in TRAIN if "epochs" not in word], "--steps=1").code == 0
    run = the_run(folder, "pr-lstm*")
    assert_mistake(call(command, str(run)), f"{GIVEN} merges along the tree that comes with every")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["parity_check", f"--layer={GIVEN}", *FAST], ["parity_check has none", "or listops"]),
        (["sst", f"--layer={GIVEN}", "--pooling=max"], ["pooling='max'", "use pooling='last'"]),
        (["sst", f"--layer={GIVEN}:num_layers=2"], ["num_layers=2", "use num_layers=1 (in "]),
        (["sst", f"--layer={GIVEN}+tree-order"], ["order='tree'"]),
        (["sst", "--layer=lstm:schedule=given"], ["Tree runs a MergeCell", "LSTMCell"]),
    ],
)
def test_mistakes(words: list[str], expected: list[str], call: Call, folder: Path):
    before = files_under(folder)
    assert_mistake(call("train", *words), *expected)
    assert files_under(folder) == before
