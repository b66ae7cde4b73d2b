"""Baselines on the command line: trained, listed and read like layers; refused where they end."""

from pathlib import Path

import pytest
import torch

from treering._errors import UserError
from treering.cli.models import load_run
from treering.cli.specs import LayerSpec
from treering.models import baselines
from treering.records import Record

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, assert_mistake, reviews, write_reviews

SPECS = {
    "transformer": "transformer:heads=2:num_layers=2:width=8",
    "stack-rnn": "stack-rnn:stack_size=5",
    "tape-rnn": "tape-rnn:cell_size=3",
}
every_baseline = pytest.mark.parametrize("name", baselines.names())


def the_run(folder: Path) -> Path:
    (record,) = folder.rglob("record.json")
    return record.parent


@every_baseline
def test_trained_loaded_and_asked(name: str, call: Call, folder: Path) -> None:
    outcome = call("train", "reverse_string", f"--layer={SPECS[name]}", *FAST)
    assert outcome.code == 0, outcome.err
    run = the_run(folder)
    record = Record.load(run)
    assert (record.status, record.model.layer) == ("finished", SPECS[name])
    assert record.model.explain == f"PyTorch: {baselines.get(name).__name__}"
    # A transformer's width is its own option; FAST says 4 for the others.
    sizes = (8, 2) if name == "transformer" else (4, 1)
    assert (record.model.hidden_size, record.model.num_layers) == sizes
    model = load_run(run).model
    assert isinstance(model.layer, baselines.get(name))
    assert record.model.parameters == sum(p.numel() for p in model.parameters())

    (folder / "new.txt").write_text("0110\n01\n")
    answers = call("predict", str(run), "new.txt")
    assert answers.code == 0, answers.err
    assert len(answers.out.splitlines()) == 2

    assert_mistake(call("export", str(run)), SPECS[name], "is not exported", "treering's own")


def test_the_same_command_repeats_the_bits(call: Call, folder: Path) -> None:
    """Dropout too comes from the run's seed."""
    for out in ("one", "two"):
        words = ["train", "parity_check", "--layer=transformer", *FAST, f"--out={out}"]
        assert call(*words).code == 0
    states = [load_run(the_run(folder / out)).model.state_dict() for out in ("one", "two")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_compared_with_a_layer_on_texts(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(40))
    layers = "lstm,transformer:width=8,stack-rnn,tape-rnn"
    outcome = call(
        "compare", "reviews.csv", f"--layers={layers}", "--seeds=1", *COLUMNS, *FAST_TEXT
    )
    assert outcome.code == 0, outcome.err
    assert (folder / "runs/reviews.csv/report.html").exists()


@every_baseline
def test_no_language_model(name: str, call: Call, folder: Path) -> None:
    (folder / "novel.txt").write_text("The quick brown fox. " * 200)
    outcome = call("train", "novel.txt", f"--layer={name}", "--steps=2")
    assert_mistake(outcome, "for a language model use a layer", f"(in '{name}')")


def test_listed_under_a_heading_of_their_own(call: Call) -> None:
    _, _, shown = call("list").out.partition("Baselines of the formal-language benchmark")
    assert shown
    content = call("list", "--json").json["baselines"]
    assert [row["name"] for row in content] == list(baselines.names())
    for row in content:
        assert row["name"] in shown
        assert row["class"] in shown
        assert row["options"] == baselines.get(row["name"]).options()


def test_options_are_read_and_spelled() -> None:
    text = "transformer:dropout=0:heads=4:num_layers=1:width=16"
    assert LayerSpec.parse(text).text == text.replace("dropout=0", "dropout=0.0")
    layer, penalties = LayerSpec.parse(text).build(3, 256)
    assert (layer.output_size, penalties) == (16, [])
    layer, _ = LayerSpec.parse("stack-rnn").build(3, 256)
    assert layer.output_size == 256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("transformr", ("unknown layer 'transformr'", "'transformer'")),
        ("transformer:bidirectional=true", ("unknown option of transformer 'bidirectional'",)),
        ("stack-rnn:schedule=left", ("unknown option of stack-rnn 'schedule'", "stack_size")),
        ("tape-rnn:num_layers=2", ("unknown option of tape-rnn 'num_layers'",)),
        ("tape-rnn+tree-order", ("tree-order goes with treering's own layers", "baseline")),
        ("transformer+lp", ("lp goes with treering's own layers",)),
        ("stack-rnn+associativity", ("associativity goes with treering's own layers",)),
        ("transformer:heads=3", ("width must be even and a multiple of heads",)),
        ("stack-rnn:stack_size=0", ("stack_size must be an integer of at least 1",)),
    ],
)
def test_mistakes(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        LayerSpec.parse(text).build(3, 4)
    for word in (*words, text):
        assert word in str(caught.value)
