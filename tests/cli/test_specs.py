"""The grammar of layers: what is read, how it is spelled, what is refused."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from treering import layers
from treering._errors import UserError
from treering.cli.specs import COMMON, PARTS, SCHEDULES, LayerSpec, parse_list
from treering.layers import Reordered
from treering.penalties import LpPenalty
from treering.schedules.tree import Tree

VALUES: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(10**20), 10**20),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text("abcxyz-_=.019", min_size=1),
    # A number that is left out unless it is given.
    type(None): st.floats(allow_nan=False, allow_infinity=False),
}


def options(defaults: dict[str, Any]) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    known = {name: VALUES[type(value)] for name, value in defaults.items()}
    drawn = st.fixed_dictionaries({}, optional=known)
    return drawn.map(lambda chosen: tuple(sorted(chosen.items())))


@st.composite
def specs(draw: st.DrawFn) -> LayerSpec:
    name = draw(st.sampled_from(layers.names()))
    defaults = {**COMMON, "schedule": "", **layers.get(name).cell_options()}
    lp = draw(st.none() | options(PARTS["lp"]))
    return LayerSpec(name, draw(options(defaults)), draw(st.booleans()), lp)


@given(specs())
def test_every_specification_is_read_as_it_is_spelled(spec: LayerSpec) -> None:
    assert LayerSpec.parse(spec.text) == spec
    assert LayerSpec.parse(f"  {spec.text} ").text == spec.text


@given(st.text())
def test_any_other_text_is_a_users_mistake(text: str) -> None:
    assume(not text.strip().startswith(layers.names()))
    with pytest.raises(UserError, match="unknown layer"):
        LayerSpec.parse(text)


@given(st.sampled_from(layers.names()), st.text(":+=,.0a", max_size=8))
def test_noise_after_a_name_is_a_users_mistake(name: str, noise: str) -> None:
    if noise:
        with pytest.raises(UserError):
            LayerSpec.parse(name + noise)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("lstm+lp+tree-order", "lstm+tree-order+lp"),
        ("lstm:num_layers=2:bias=FALSE", "lstm:bias=false:num_layers=2"),
        ("lstm+lp:weights=1e-3", "lstm+lp:weights=0.001"),
        ("lstm+lp:weights=1e22", "lstm+lp:weights=1e22"),
    ],
)
def test_equal_layers_have_one_spelling(written: str, spelled: str) -> None:
    assert LayerSpec.parse(written).text == spelled


def test_what_is_written_is_what_is_built() -> None:
    text = "pr-lstm:refinements=2:num_layers=2:bias=false:bidirectional=true:schedule=left"
    layer, penalties = LayerSpec.parse(text).build(3, 4)
    assert isinstance(layer, layers.PRLSTM)
    assert (layer.input_size, layer.hidden_size, layer.num_layers) == (3, 4, 2)
    assert (layer.bias, layer.bidirectional, layer.batch_first) == (False, True, True)
    assert layer.cell_options() == {"refinements": 1, "merging": "gated"}
    assert "weight_refine1_l1_reverse" in layer.state_dict()
    assert layer.schedule == Tree("left")
    assert penalties == []


def test_additions_are_put_around_the_layer() -> None:
    layer, (penalty,) = LayerSpec.parse("gru+lp:exponents=0.5:weights=0.25+tree-order").build(3, 4)
    assert isinstance(layer, Reordered)
    assert isinstance(penalty, LpPenalty)
    matrices = [weight for weight in layer.layer.parameters() if weight.dim() == 2]
    expected = 0.25 * sum(weight.detach().abs().sqrt().sum().item() for weight in matrices)
    assert math.isclose(penalty().item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_runs_some_layer(schedule: str) -> None:
    name = {"sequential": "lstm", "scan": "min-gru"}.get(schedule, "pr-rnn")
    layer, _ = LayerSpec.parse(f"{name}:schedule={schedule}").build(3, 4)
    assert not isinstance(layer, Reordered)
    assert type(layer.schedule) is type(SCHEDULES[schedule]())
    assert layer(torch.zeros(1, 2, 3))[0].shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lstn", ("unknown layer 'lstn'", "'lstm'")),
        ("", ("unknown layer ''",)),
        ("ql-lstm:shared_block=1", ("unknown option of ql-lstm", "'shared_blocks'")),
        ("lstm+treeorder", ("unknown addition", "'tree-order'")),
        ("lstm+lp:weight=1", ("unknown option of lp", "'weights'")),
        ("lstm:", ("unknown option of lstm ''",)),
        ("lstm+", ("unknown addition ''",)),
        ("lstm:bias", ("no value", "bias=VALUE")),
        ("lstm:bias=", ("no value", "bias=VALUE")),
        ("lstm:bias=true:bias=false", ("bias is given twice",)),
        ("lstm+lp+lp", ("lp is added twice",)),
        ("lstm:bias=no", ("bias takes true or false", "'no'")),
        ("lstm:num_layers=1.5", ("num_layers takes a whole number", "'1.5'")),
        ("ql-lstm:alpha=nan", ("alpha takes a number", "'nan'")),
        ("ql-lstm:alpha=1e999", ("alpha takes a number", "'1e999'")),
        ("lstm+lp:weights=abc", ("weights takes a number", "'abc'")),
        ("pr-lstm:schedule=treee", ("unknown schedule", "'tree'")),
        ("lstm:num_layers=0", ("num_layers",)),
        ("lstm:dropout=2", ("dropout", "[0, 1]")),
        ("ql-lstm:shared_blocks=7", ("shared_blocks must be one of",)),
        ("pr-lstm:merging=plus", ("merging must be one of gated, sum, linear", "'plus'")),
        ("lstm+lp:weights=-1", ("weights must be finite and not negative",)),
        ("lstm+lp:learned=true:weights=0", ("to be learned",)),
    ],
)
def test_mistakes_say_what_to_write_and_where(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        LayerSpec.parse(text).build(3, 4)
    for word in (*words, text and text.split("=")[0]):
        assert word in str(caught.value)


def test_lists_are_separated_by_commas() -> None:
    assert [spec.text for spec in parse_list(" lstm , gru+lp,")] == ["lstm", "gru+lp"]


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_a_mistake(text: str) -> None:
    with pytest.raises(UserError, match="no layer given"):
        parse_list(text)


def test_one_layer_twice_is_a_mistake_however_it_is_spelled() -> None:
    with pytest.raises(UserError, match=r"'lstm\+tree-order\+lp' is given twice"):
        parse_list("lstm+lp+tree-order,lstm+tree-order+lp")
