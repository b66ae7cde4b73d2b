"""All measures at once: every layer, every kind of task, and models that allow only some."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import treering as tr
from treering._errors import UserError
from treering.inspect.curves import curve_of, thinned
from treering.inspect.data import LONGEST_EXAMPLE, batch_of, examples_of
from treering.inspect.record import PARTS, POINTS, Inspection
from treering.inspect.survey import survey
from treering.tasks import DatasetTask, Split, StreamTask

Make = Callable[..., Any]
WALK = tr.tasks.get("cycle_navigation")


def inspection(parts: dict[str, Any]) -> Inspection:
    return Inspection(
        command="treering inspect runs/a",
        run_id="a",
        label="a",
        task="cycle_navigation",
        kind="generated",
        layer="a",
        hidden_size=6,
        seed=0,
        status="finished",
        step=3,
        **parts,
    )


def stream(tokens: int = 200) -> StreamTask:
    parts = (torch.randint(9, (count,)) for count in (100, 50, tokens))
    return StreamTask("text", 9, *parts, unit="character")


def texts() -> DatasetTask:
    lengths = torch.tensor([3, 20, 1, 7])
    split = Split(torch.randint(1, 9, (4, 20)), lengths, torch.tensor([0, 1, 1, 0]))
    return DatasetTask("texts", 9, ("bad", "good"), split, split, split)


@pytest.mark.parametrize("name", tr.layers.names())
def test_every_layer_has_every_part_or_a_reason(name: str, model_of: Make) -> None:
    merges, affine = name.startswith("pr-"), name.startswith("min-")
    reasons = {"state gradients", "gates"} if merges else {"spectra"} if affine else set()
    found, batch = survey(model_of("transducer", name), WALK, "-0+~", samples=6, length=5)
    assert set(found["unavailable"]) == reasons
    assert batch.inputs.shape == (6, 5)
    one = inspection(found)
    assert (one.samples, one.length) == (6, 5)
    assert one.data == "6 new sequences of 5 symbols"
    assert bool(one.gates) == bool(not merges)
    assert bool(one.spectra) == bool(not affine)
    assert one.probes
    assert one.similarity
    assert len(one.readings) == 2
    assert {g.of for g in one.gradients} >= ({"input"} if merges else {"input", "h"})


def test_parts_are_told_in_their_order(model_of: Make) -> None:
    told: list[str] = []
    survey(model_of("transducer"), WALK, "-0+~", samples=2, length=3, before=told.append)
    assert told == [part for part in PARTS if part != "alignments"]


def test_deep_wide_and_in_both_directions_it_stays_small(model_of: Make) -> None:
    model = model_of("transducer", "lstm", num_layers=2, bidirectional=True, order=True)
    found, _ = survey(model, WALK, "-0+~", samples=4, length=100)
    one = inspection(found)
    assert len(one.model_dump_json()) < 100_000
    assert max(len(gradient.curve.at) for gradient in one.gradients) == POINTS


@pytest.mark.parametrize("name", ["ql-lstm", "pr-lstm"])
def test_a_language_model(name: str, model_of: Make) -> None:
    found, batch = survey(model_of("stream", name), stream(), "abcdefghi~", samples=7, length=9)
    assert batch.inputs.shape == (7, 9)
    assert batch.mask.sum(1).tolist() == [1] * 7
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert "text is not known" in found["unavailable"]["probes"]
    assert found["gradients"]
    assert len(found["readings"][0].tokens) == 11


def test_a_classifier_of_texts(model_of: Make) -> None:
    words = ["[PAD]", *"abcdefgh", "~"]
    found, batch = survey(model_of("classifier", "gru"), texts(), words, samples=50, length=None)
    assert found["samples"] == 4
    assert batch.lengths is not None
    assert sorted(batch.lengths.tolist()) == [1, 3, 7, 20]
    assert found["length"] == 20
    assert found["data"] == "4 texts of the test part"
    assert max(len(one.tokens) for one in found["readings"]) <= LONGEST_EXAMPLE
    assert all("[PAD]" not in one.tokens for one in found["readings"])


class Averaging(nn.Module):
    """A layer that is no recurrence, as a Transformer's would be."""

    output_size = 4

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, None]:
        return x.cumsum(1), None

    def reduce(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self(x)[0][:, -1]


def test_a_model_without_recurrence_gets_what_makes_sense(model_of: Make) -> None:
    model = model_of("transducer")
    model.layer, model.head = Averaging(), nn.Linear(4, 5)
    found, _ = survey(model, WALK, "-0+~", samples=6, length=5)
    assert [one.of for one in found["gradients"]] == ["input"]
    (probe,) = found["probes"]
    assert probe.layer == "last output"
    assert set(found["unavailable"]) == set(PARTS) - {"input gradients", "probes", "alignments"}
    assert "Averaging carries no state" in found["unavailable"]["gates"]


def test_parameters_that_are_not_finite_are_refused(model_of: Make) -> None:
    model = model_of("transducer")
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(UserError, match=r"not finite.*--learning-rate"):
        survey(model, WALK, "-0+~", samples=2, length=3)


def test_lengths_that_a_task_has_no_use_for() -> None:
    with pytest.raises(UserError, match="--length means nothing for texts"):
        batch_of(texts(), 4, 10)
    with pytest.raises(UserError, match=r"--length 200 is too long.*at most 199"):
        batch_of(stream(), 4, 200)
    batch, _ = batch_of(stream(), 4, 199)
    assert batch.inputs.shape == (1, 199)


@pytest.mark.parametrize("name", tr.tasks.names())
def test_examples_are_short_enough_to_draw(name: str) -> None:
    task = tr.tasks.get(name)
    batch = examples_of(task, 2)
    assert batch.inputs.shape[1] + batch.targets.shape[1] <= LONGEST_EXAMPLE


def test_the_same_sequences_for_every_run() -> None:
    for task, length in ((WALK, 9), (texts(), None)):
        first, again = (batch_of(task, 3, length)[0].inputs for _ in range(2))
        assert torch.equal(first, again)


@given(st.integers(1, 10_000), st.integers(2, 60))
def test_thinned_numbers_are_few_spread_and_reach_both_ends(count: int, most: int) -> None:
    kept = thinned(count, most)
    assert len(kept) == min(count, most)
    assert (kept[0], kept[-1]) == (0, count - 1)
    gaps = [b - a for a, b in pairwise(kept)]
    assert all(gap >= 1 for gap in gaps)
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


def test_a_curve_keeps_both_ends() -> None:
    assert thinned(1000)[0] == 0
    assert thinned(1000)[-1] == 999
    assert len(thinned(1000)) == POINTS
    values = torch.arange(300.0).view(3, 100)
    places = torch.arange(100).expand(3, 100)
    found = curve_of(values, places, torch.ones(3, 100, dtype=torch.bool))
    assert (found.at[0], found.at[-1], len(found.at)) == (0, 99, POINTS)
    assert (found.low[0], found.median[0], found.high[0]) == (50, 100, 150)


def test_a_record_comes_back_as_it_was(model_of: Make, tmp_path: Any) -> None:
    one = inspection(survey(model_of("transducer"), WALK, "-0+~", samples=2, length=3).parts)
    one.save(tmp_path)
    assert Inspection.load(tmp_path) == one


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read"),
        ("{", "damaged"),
        ("{}", "command"),
        ('{"schema_version": 9}', "schema"),
    ],
)
def test_a_damaged_record_is_told(content: str | None, expected: str, tmp_path: Any) -> None:
    if content is not None:
        (tmp_path / "inspection.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        Inspection.load(tmp_path)
