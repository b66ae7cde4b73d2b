"""What a configuration holds, refuses and gives back after JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

import treering as tr
from hf.making import config
from treering.hf import TreeringConfig


@pytest.mark.parametrize("name", tr.layers.names())
def test_json_round_trip(name: str, tmp_path: Path) -> None:
    made = config(name, bidirectional=True, num_labels=5)
    made.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert type(read) is TreeringConfig
    of_the_file = {"_name_or_path", "transformers_version"}
    one, other = (
        {key: value for key, value in each.to_dict().items() if key not in of_the_file}
        for each in (made, read)
    )
    assert one == other
    assert read.num_labels == 5


def test_every_field_has_a_default_and_is_json() -> None:
    assert json.loads(TreeringConfig().to_json_string(use_diff=False))["layer"] == "lstm"


def test_names_of_transformers() -> None:
    made = TreeringConfig(num_hidden_layers=3)
    assert made.num_layers == made.num_hidden_layers == 3
    assert made.new_layer(device="meta").num_layers == 3
    assert TreeringConfig(hidden_size=7).embedding_size == 7


@pytest.mark.parametrize("name", tr.layers.names())
def test_its_layer_is_the_registered_one(name: str) -> None:
    layer = config(name, dropout=0.25, bias=False, bidirectional=True).new_layer()
    direct = tr.layers.get(name)(5, 6, 2, False, True, 0.25, True)
    assert repr(layer) == repr(direct)
    assert {k: v.shape for k, v in layer.state_dict().items()} == {
        k: v.shape for k, v in direct.state_dict().items()
    }


def test_options_reach_the_layer_and_lists_become_tuples() -> None:
    assert config("pr-lstm", layer_options={"refinements": 3}).new_layer().options == {
        "refinements": 3
    }
    layer = config("nonlinear-gate-lstm", layer_options={"gates": ["i", "o"]}).new_layer()
    assert layer.options == {"gates": ("i", "o")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "pr-lstn"}, "unknown layer 'pr-lstn'; did you mean .*'pr-lstm'"),
        ({"layer_options": {"refinement": 2}}, "unknown option .* did you mean 'refinements'"),
        ({"layer_options": {"schedule": None}}, "unknown option of the layer 'pr-lstm'"),
        ({"layer_options": {"refinements": -1}}, "refinements"),
        ({"layer_options": {"refinements": torch.tensor(1)}}, "saved as JSON"),
        ({"refinements": 2}, r"write layer_options=\{'refinements': 2\}"),
        ({"hidden_size": 0}, "hidden_size must be greater than zero"),
        ({"embedding_size": -1}, "embedding_size must be greater than zero"),
        ({"vocab_size": 0}, "vocab_size must be greater than zero"),
        ({"num_layers": 0}, "num_layers must be greater than zero"),
        ({"dropout": 1.5}, "dropout should be a number in range"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**({"layer": "pr-lstm"} | changes))


@pytest.mark.parametrize("name", ["vocab_size", "embedding_size", "hidden_size", "num_layers"])
def test_sizes_of_the_wrong_type(name: str) -> None:
    with pytest.raises(TypeError, match="should be of type int, got: str"):
        config("lstm", **{name: "7"})


def test_it_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    for name in tr.layers.names():
        config(name)
    assert torch.equal(before, torch.get_rng_state())
