"""Files: what is written, what comes back, and what a partly filled file leaves to the layer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import treering as tr
from hf.making import VOCABULARY, config, model, tokens
from treering.hf import (
    TreeringForCausalLM,
    TreeringForSequenceClassification,
    TreeringModel,
    TreeringPreTrainedModel,
)

KINDS: dict[type[TreeringPreTrainedModel], Any] = {
    TreeringModel: AutoModel,
    TreeringForSequenceClassification: AutoModelForSequenceClassification,
    TreeringForCausalLM: AutoModelForCausalLM,
}


def load(auto: Any, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A model and what the loading had to say."""
    net, info = auto.from_pretrained(folder, output_loading_info=True, **options)
    return net, {key: value for key, value in info.items() if value}


def assert_same_outputs(one: PreTrainedModel, other: PreTrainedModel) -> None:
    """To rounding: what a matrix product rounds depends on where in memory the weights lie."""
    ids = tokens(2, 5)
    torch.testing.assert_close(one(ids)[0], other(ids)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", tr.layers.names())
def test_round_trip(name: str, kind: type[TreeringPreTrainedModel], tmp_path: Path) -> None:
    net = model(kind, name, bidirectional=kind is not TreeringForCausalLM)
    net.save_pretrained(tmp_path)
    again, problems = load(KINDS[kind], tmp_path)
    assert type(again) is kind
    assert not problems
    assert not again.training
    for (key, one), (other_key, other) in zip(
        net.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(one, other), key
    assert_same_outputs(net, again)


def test_files_are_written_as_everywhere(tmp_path: Path) -> None:
    model(TreeringForCausalLM, "pr-lstm").save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written["model_type"] == "treering"
    assert written["layer"] == "pr-lstm"


def test_tied_weights_are_saved_once_and_come_back_tied(tmp_path: Path) -> None:
    net = model(TreeringForCausalLM, "gru", embedding_size=6, tie_word_embeddings=True)
    net.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again, problems = load(AutoModelForCausalLM, tmp_path)
    assert not problems
    for each in (net, again):
        assert each.lm_head.weight is each.model.embed_tokens.weight
    assert_same_outputs(net, again)


def test_untied_weights_are_two(tmp_path: Path) -> None:
    net = model(TreeringForCausalLM, "gru", embedding_size=6)
    assert net.lm_head.weight is not net.model.embed_tokens.weight
    net.save_pretrained(tmp_path)
    again, _ = load(AutoModelForCausalLM, tmp_path)
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)


@pytest.mark.parametrize("name", tr.layers.names())
def test_a_new_model_has_the_layers_own_initialisation(name: str) -> None:
    """Redrawn by hand in the order of transformers: not xavier, no zeroed bias, no N(0, std)."""
    torch.manual_seed(3)
    net = TreeringModel(config(name))
    torch.manual_seed(3)
    embedding, layer = nn.Embedding(VOCABULARY, 5), config(name).new_layer()
    nn.init.normal_(embedding.weight, std=4.0)
    layer.reset_parameters()
    assert torch.equal(net.embed_tokens.weight, embedding.weight)
    for key, value in layer.state_dict().items():
        assert torch.equal(net.layer.state_dict()[key], value), key


@pytest.mark.parametrize("name", tr.layers.names())
def test_layers_are_built_on_meta(name: str) -> None:
    with torch.device("meta"):
        net = TreeringForSequenceClassification(config(name))
    assert all(parameter.is_meta for parameter in net.parameters())


# Each draws or fills a part of a parameter in place, past what transformers guards.
IN_PARTS = {"orthogonal": True, "forget_bias": 1.0, "layer_norm": True}


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in tr.layers.names()), ("lstm", IN_PARTS)]
)
def test_what_a_file_lacks_is_drawn_and_what_it_holds_is_kept(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    net = model(TreeringModel, name, layer_options=options)
    net.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    lost = sorted(key for key in stored if key.startswith("layer."))[::2]
    kept = {key: torch.full_like(value, 7.0) for key, value in stored.items() if key not in lost}
    save_file(kept, path, metadata={"format": "pt"})
    torch.manual_seed(11)
    again, problems = load(AutoModel, tmp_path)
    assert problems == {"missing_keys": set(lost)}
    for key, value in again.state_dict().items():
        if key in kept:
            assert torch.equal(value, kept[key]), key
        else:
            assert bool(value.isfinite().all()), key
            assert not bool((value == 7).any()), key


def test_options_that_change_sizes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"layer_options": {"proj_size": 3}, "embedding_size": 3}
    net = model(TreeringForCausalLM, "lstm", tie_word_embeddings=True, **options)
    net.save_pretrained(tmp_path)
    again, problems = load(AutoModelForCausalLM, tmp_path)
    assert not problems
    assert again.config.layer_options == {"proj_size": 3}
    assert_same_outputs(net, again)
    classifier = model(TreeringForSequenceClassification, "lstm", bidirectional=True, **options)
    assert classifier.score.in_features == 6


def test_a_head_is_put_on_a_saved_base(tmp_path: Path) -> None:
    base = model(TreeringModel, "pr-lstm")
    base.save_pretrained(tmp_path)
    net, problems = load(AutoModelForSequenceClassification, tmp_path, num_labels=4)
    assert problems == {"missing_keys": {"score.weight"}}
    assert net.score.weight.shape == (4, 6)
    assert bool(net.score.weight.isfinite().all())
    for key, value in base.state_dict().items():
        assert torch.equal(net.model.state_dict()[key], value)


@pytest.mark.parametrize("name", tr.layers.names())
def test_half_precision(name: str, tmp_path: Path) -> None:
    model(TreeringForCausalLM, name).save_pretrained(tmp_path)
    net, _ = load(AutoModelForCausalLM, tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}
    batch = torch.cat((torch.zeros(1, 4, dtype=torch.int64), tokens(1, 4)))
    mask = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]])
    output = net(batch, mask, labels=batch)
    assert output.logits.dtype == torch.bfloat16
    exact = net.float()(batch, mask, labels=batch)
    torch.testing.assert_close(output.loss.float(), exact.loss, rtol=0.05, atol=0.05)
    assert net.bfloat16().generate(batch, attention_mask=mask, max_new_tokens=3).shape == (2, 7)


def test_the_older_name_of_dtype(tmp_path: Path) -> None:
    model(TreeringModel, "lstm").save_pretrained(tmp_path)
    net = AutoModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert net.dtype == torch.bfloat16


@pytest.mark.parametrize("tie", [False, True])
def test_resize_token_embeddings(tie: bool, tmp_path: Path) -> None:
    net = model(TreeringForCausalLM, "pr-lstm", embedding_size=6, tie_word_embeddings=tie)
    before = net(tokens(2, 5)).logits
    net.resize_token_embeddings(VOCABULARY + 4)
    assert net.config.vocab_size == VOCABULARY + 4
    after = net(tokens(2, 5)).logits
    assert after.shape[-1] == VOCABULARY + 4
    torch.testing.assert_close(after[..., :VOCABULARY], before, rtol=1e-12, atol=1e-12)
    assert (net.lm_head.weight is net.model.embed_tokens.weight) == tie
    net.save_pretrained(tmp_path)
    again, problems = load(AutoModelForCausalLM, tmp_path)
    assert not problems
    assert_same_outputs(net, again)


def test_a_device_map(tmp_path: Path) -> None:
    net = model(TreeringForSequenceClassification, "pr-lstm")
    net.save_pretrained(tmp_path)
    again, problems = load(AutoModelForSequenceClassification, tmp_path, device_map={"": "cpu"})
    assert not problems
    assert_same_outputs(net, again)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A folder with only a pickle is no folder of ours."""
    model(TreeringModel, "lstm").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        AutoModel.from_pretrained(tmp_path)
