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
from treering.cli.values import ByMatrix
from treering.layers import Reordered
from treering.models import baselines
from treering.penalties import AssociativityInTraining, AssociativityPenalty, LpPenalty
from treering.schedules.tree import Tree

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["U_i", "W_f", "weight_merge.f_left", "weight_refine0.o", "x"])
VALUES: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(10**20), 10**20),
    float: FLOATS,
    str: st.text("abcxyz-_=.019", min_size=1),
    # A number that is left out unless it is given.
    type(None): FLOATS,
    ByMatrix: FLOATS
    | st.dictionaries(NAMES, FLOATS, min_size=1).map(lambda found: tuple(sorted(found.items()))),
    tuple: st.sets(NAMES, min_size=1).map(lambda found: tuple(sorted(found))),
}


def options(defaults: dict[str, Any]) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    known = {name: VALUES[type(value)] for name, value in defaults.items()}
    drawn = st.fixed_dictionaries({}, optional=known)
    return drawn.map(lambda chosen: tuple(sorted(chosen.items())))


@st.composite
def specs(draw: st.DrawFn) -> LayerSpec:
    name = draw(st.sampled_from(layers.names()))
    defaults = {**COMMON, "schedule": "", **layers.get(name).cell_options()}
    lp, associativity = (draw(st.none() | options(PARTS[part])) for part in ("lp", "associativity"))
    return LayerSpec(name, draw(options(defaults)), draw(st.booleans()), lp, associativity)


@given(specs())
def test_every_specification_is_read_as_it_is_spelled(spec: LayerSpec) -> None:
    assert LayerSpec.parse(spec.text) == spec
    assert LayerSpec.parse(f"  {spec.text} ").text == spec.text


@given(st.text())
def test_any_other_text_is_a_users_mistake(text: str) -> None:
    assume(not text.strip().startswith((*layers.names(), *baselines.names())))
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
        ("lstm+lp:matrices=W_f/weight_ih.i", "lstm+lp:matrices=U_i/W_f"),
        ("lstm+lp:weights=W_f@1e-4/U_i@0.00001", "lstm+lp:weights=U_i@1e-05/W_f@0.0001"),
        ("lstm+lp:exponents=weight_hh.f@2", "lstm+lp:exponents=W_f@2.0"),
        (
            "pr-lstm+lp:exponents=weight_merge.f_left@1",
            "pr-lstm+lp:exponents=weight_merge.f_left@1.0",
        ),
        ("pr-rnn+associativity:weight=1e20+lp", "pr-rnn+lp+associativity:weight=1e20"),
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


@pytest.mark.parametrize(
    ("written", "weights", "exponents"),
    [
        ("matrices=U_i", {"U_i": 1e-4}, 2.0),
        ("matrices=U_i/W_f:weights=0.5:exponents=0.5", {"U_i": 0.5, "W_f": 0.5}, 0.5),
        ("weights=U_i@1e-05/W_f@0.25:exponents=1", {"U_i": 1e-5, "W_f": 0.25}, 1.0),
        ("exponents=U_i@0.5/W_f@1.5", 1e-4, {"U_i": 0.5, "W_f": 1.5}),
    ],
)
def test_a_penalty_by_matrix(written: str, weights: Any, exponents: Any) -> None:
    layer, (penalty,) = LayerSpec.parse(f"lstm+lp:{written}").build(3, 4)
    torch.testing.assert_close(penalty(), LpPenalty(layer, weights, exponents)())


def test_all_sixteen_numbers_of_a_penalty() -> None:
    names = [f"{side}_{gate}" for side in "UW" for gate in "ifgo"]
    numbers = {name: 0.1 * k for k, name in enumerate(names, 1)}
    written = "/".join(f"{name}@{number}" for name, number in numbers.items())
    spec = LayerSpec.parse(f"lstm+lp:weights={written}:exponents={written}")
    layer, (penalty,) = spec.build(3, 4)
    torch.testing.assert_close(penalty(), LpPenalty(layer, numbers, numbers)())
    assert LayerSpec.parse(spec.text) == spec


@pytest.mark.parametrize("order", ["", "+tree-order"])
def test_an_associativity_penalty(order: str) -> None:
    layer, (penalty,) = LayerSpec.parse(f"pr-lstm{order}+associativity:weight=0.5").build(3, 4)
    assert isinstance(penalty, AssociativityInTraining)
    x = torch.randn(2, 7, 3)
    layer(x)
    torch.testing.assert_close(penalty(), 0.5 * AssociativityPenalty(layer)(x))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_runs_some_layer(schedule: str) -> None:
    name = {"sequential": "lstm", "scan": "min-gru"}.get(schedule, "pr-rnn")
    layer, _ = LayerSpec.parse(f"{name}:schedule={schedule}").build(3, 4)
    assert not isinstance(layer, Reordered)
    assert type(layer.schedule) is type(SCHEDULES[schedule]())
    ranks = torch.zeros(1, 2) if schedule == "given" else None
    assert layer(torch.zeros(1, 2, 3), ranks=ranks)[0].shape == (1, 2, 4)


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
        ("lstm+lp:weights=U_i@", ("weights takes a number, or one for each", "'U_i@'")),
        ("lstm+lp:weights=U_i@1/W_f", ("weights takes a number, or one for each",)),
        ("lstm+lp:exponents=@1", ("exponents takes a number, or one for each",)),
        ("lstm+lp:weights=U_i@1/weight_ih.i@2", ("weights takes a number, or one for each",)),
        ("lstm+lp:matrices=U_i/U_i", ("matrices takes names of matrices",)),
        ("lstm+lp:matrices=U_i/", ("matrices takes names of matrices",)),
        ("lstm+lp:matrices=V_i", ("unknown matrix 'V_i'",)),
        ("lstm+lp:exponents=U_j@1", ("unknown matrix 'weight_ih.j'",)),
        ("lstm+lp:exponents=U_i@0", ("exponents must be finite and above 0",)),
        ("lstm+lp:matrices=U_i:weights=U_i@1", ("either matrices", "or weights by matrix")),
        ("lstm+lp:learned=true:matrices=U_i", ("to be learned, every weight must start above 0",)),
        ("lstm+associativity", ("LSTM merges nothing", "tr.PRLSTM")),
        ("pr-lstm+associativity:weight=-1", ("weight must be finite and not negative",)),
        ("pr-lstm+associativity:weights=1", ("unknown option of associativity", "'weight'")),
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
