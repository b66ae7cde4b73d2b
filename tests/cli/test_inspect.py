"""`treering inspect`: on trained runs of every kind, alone and side by side."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

import treering as tr
from made_records import record
from treering._errors import UserError
from treering.cli.inspect import EMPTY, labels_of
from treering.inspect.alignment import representations
from treering.inspect.record import PARTS, Inspection
from treering.inspect.subject import AnyBatch, NotAvailableError
from treering.training import checkpoint

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

SMALL = ["--samples=6"]


def trained(call: Call, *words: str) -> str:
    outcome = call("train", *words)
    assert outcome.code == 0, outcome.err
    return outcome.out.splitlines()[-1].removeprefix("Record and checkpoint: ")


def novel(folder: Path) -> str:
    draw = random.Random(0)
    text = "".join(draw.choice("abc d\n") for _ in range(1500))
    (folder / "novel.txt").write_text(text, encoding="utf-8")
    return "novel.txt"


def test_a_generated_task(call: Call, folder: Path) -> None:
    run = trained(call, "parity_check", "--layer=pr-lstm", *FAST)
    outcome = call("inspect", run, *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Report: inspection.html" in outcome.out
    assert "measured on 6 new sequences of 6 symbols" in outcome.out
    assert "parity of the ones so far, layer 1" in outcome.out
    assert "Gates: not available, a PRLSTM shows no gates" in outcome.out
    one = Inspection.load(run)
    assert (one.layer, one.task, one.step, one.status) == ("pr-lstm", "parity_check", 3, "finished")
    assert one.trained_to == 6
    assert one.command == f"treering inspect {run} --samples 6"
    assert one.readings[0].tokens[-1] == EMPTY
    assert set(one.readings[0].tokens) == {"0", "1", EMPTY}
    page = (folder / "inspection.html").read_text(encoding="utf-8")
    assert "Parity of the ones so far" in page
    assert (Path(run) / "inspection.json").stat().st_size < 100_000


def test_json_alone_is_on_standard_output(call: Call) -> None:
    run = trained(call, "parity_check", "--layer=lstm", *FAST)
    outcome = call("inspect", run, *SMALL, "--length=9", "--out=a/page.html", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["report"] == "a/page.html"
    (one,) = outcome.json["inspections"]
    assert Inspection.model_validate(one) == Inspection.load(run)
    assert one["length"] == 9
    assert one["probes"][0]["longest"] == 9
    assert Path("a/page.html").exists()


def test_two_runs_are_laid_side_by_side(call: Call) -> None:
    runs = [trained(call, "even_pairs", f"--layer={name}", *FAST) for name in ("lstm", "pr-lstm")]
    outcome = call("inspect", *runs, *SMALL)
    assert outcome.code == 0, outcome.err
    assert "linear CKA" in outcome.out
    lstm, pr_lstm = map(Inspection.load, runs)
    (there,), (back,) = lstm.alignments, pr_lstm.alignments
    assert (there.other, back.other) == ("pr-lstm", "lstm")
    assert there.cka == pytest.approx(back.cka)
    assert 0 < there.cka < 1
    assert there.tokens == 6 * 7
    assert "Side by side" in Path("inspection.html").read_text(encoding="utf-8")


def test_a_run_without_states_at_every_token_is_left_out(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [trained(call, "even_pairs", f"--layer={name}", *FAST) for name in ("lstm", "gru")]

    def only_lstm(model: torch.nn.Module, batch: AnyBatch) -> dict[str, torch.Tensor]:
        if isinstance(model.layer, tr.GRU):
            raise NotAvailableError("it shows nothing")
        return representations(model, batch)

    monkeypatch.setattr("treering.cli.inspect.representations", only_lstm)
    outcome = call("inspect", *runs, *SMALL)
    assert "States beside those of other runs: not available, it shows nothing" in outcome.out
    lstm, gru = map(Inspection.load, runs)
    assert lstm.alignments == gru.alignments == ()
    assert set(gru.unavailable) == {"alignments"}
    assert lstm.unavailable == {}


def test_runs_of_one_layer_are_told_apart() -> None:
    runs = [record("gru", 0, run_id="a"), record("gru", 1), record("gru", 0, run_id="b")]
    assert labels_of([record("lstm"), *runs]) == [
        "lstm",
        "gru seed 0 (a)",
        "gru seed 1",
        "gru seed 0 (b)",
    ]
    with pytest.raises(UserError, match=r"lstm seed 0 .* is given twice"):
        labels_of([record("lstm"), record("lstm")])


def test_a_language_model_of_a_file(call: Call, folder: Path) -> None:
    run = trained(call, novel(folder), "--layer=ql-lstm", *FAST_TEXT)
    outcome = call("inspect", run, *SMALL)
    assert outcome.code == 0, outcome.err
    one = Inspection.load(run)
    # A twentieth of 1500 characters is for testing, less than a window's usual 128.
    assert one.length == 74
    assert one.data == "1 window of 74 tokens of the test part"
    assert set(one.unavailable) == {"probes"}
    assert {gate.name for gate in one.gates} == {"i", "f", "g", "o", "alpha"}
    outcome = call("inspect", run, *SMALL, "--length=10")
    assert outcome.code == 0
    assert Inspection.load(run).data == "6 windows of 10 tokens of the test part"
    assert_mistake(call("inspect", run, "--length=75"), "--length 75", "at most 74")


def test_a_classifier_in_tree_order(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(60))
    run = trained(call, "reviews.csv", *COLUMNS, *FAST_TEXT, "--layer=gru+tree-order")
    outcome = call("inspect", run, *SMALL)
    assert outcome.code == 0, outcome.err
    one = Inspection.load(run)
    assert {g.order for g in one.gradients if g.of == "input"} == {"text", "reading"}
    assert one.readings[0].order != tuple(range(len(one.readings[0].order)))
    known = "[UNK] " + " ".join(row["review"] for row in reviews(60)).lower()
    assert all(word in known for reading in one.readings for word in reading.tokens)
    assert_mistake(call("inspect", run, "--length=5"), "--length means nothing for reviews.csv")


def test_text_that_has_changed_or_gone(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(60))
    run = trained(call, "reviews.csv", *COLUMNS, *FAST_TEXT, "--layer=gru")
    write_reviews(folder / "reviews.csv", reviews(40, seed=7))
    before = files_under(folder)
    assert_mistake(call("inspect", run), "reviews.csv have changed")
    (folder / "reviews.csv").unlink()
    assert_mistake(call("inspect", run), "cannot be had again", "reviews.csv", "--text review")
    assert files_under(folder) == before - {"reviews.csv"}


def test_an_unfinished_run_is_looked_into_and_called_one(call: Call) -> None:
    run = Path(trained(call, "even_pairs", "--layer=rnn", *FAST))
    content = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(content | {"status": "interrupted"}))
    outcome = call("inspect", str(run), *SMALL)
    assert outcome.code == 0
    assert "3 steps, not finished (interrupted)" in outcome.out
    page = Path("inspection.html").read_text(encoding="utf-8")
    assert "not finished (interrupted)" in page
    for part, title in PARTS.items():
        assert "gradients" in part or part == "alignments" or f"<h3>{title}</h3>" in page


def test_runs_that_cannot_be_looked_into(call: Call, folder: Path) -> None:
    assert_mistake(call("inspect"), "give the folder of a run")
    assert_mistake(call("inspect", "nowhere"), "no record at", "nowhere")
    run = Path(trained(call, "even_pairs", "--layer=rnn", *FAST))
    other = trained(call, "parity_check", "--layer=rnn", *FAST)
    assert_mistake(call("inspect", str(run), other), "even_pairs", "parity_check", "same inputs")
    assert_mistake(call("inspect", str(run), "--samples=0"), "--samples", "whole number from 1")
    bare = folder / "bare"
    bare.mkdir()
    shutil.copy(run / "record.json", bare)
    assert_mistake(call("inspect", str(bare)), "bare", "checkpoint")
    assert not (bare / "inspection.json").exists()


def test_a_run_that_diverged(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(call, "even_pairs", "--layer=rnn", *FAST)
    kept = checkpoint.chosen

    def diverged(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor * torch.nan for name, tensor in kept(tensors).items()}

    monkeypatch.setattr(checkpoint, "chosen", diverged)
    assert_mistake(call("inspect", run), "not finite", "--learning-rate")
