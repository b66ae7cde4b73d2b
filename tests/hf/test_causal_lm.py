"""Language models: loss by hand, carried state, and generation that does not depend on it.

Legend: B batch, T time.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

import treering as tr
from hf.making import VOCABULARY, config, model, padded, tokens
from treering.hf import RecurrentCache, TreeringForCausalLM, TreeringModel
from treering.schedules.tree import TreeState

SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 5},
    "beams": {"do_sample": False, "num_beams": 4, "num_return_sequences": 2},
    "sampled beams": {"do_sample": True, "num_beams": 3},
}


def lm(name: str, **changes: Any) -> TreeringForCausalLM:
    """A language model with weights large enough to say different things."""
    net = model(TreeringForCausalLM, name, **changes)
    with torch.no_grad():
        for parameter in net.model.layer.parameters():
            parameter.mul_(2)
    return net


def generate(net: Any, ids: Tensor | None, **options: Any) -> Any:
    """Nine more tokens, drawn from the same random numbers every time."""
    torch.manual_seed(5)
    with torch.no_grad():
        return net.generate(ids, max_new_tokens=9, **options)


@pytest.mark.parametrize("name", tr.layers.names())
class TestState:
    @pytest.mark.parametrize("pieces", [[1] * 17, [3, 14], [8, 1, 8]])
    def test_pieces_give_the_logits_of_the_whole(self, name: str, pieces: list[int]) -> None:
        net, ids = lm(name), tokens(3, 17)
        whole = net(ids)
        cache, logits = None, []
        for piece in ids.split(pieces, dim=1):
            output = net(piece, cache_params=cache)
            cache = output.cache_params
            logits.append(output.logits)
        torch.testing.assert_close(torch.cat(logits, 1), whole.logits, rtol=1e-9, atol=1e-12)
        assert cache is not None
        assert cache.seen == whole.cache_params.seen == 17

    def test_a_call_leaves_the_state_it_was_given_as_it_was(self, name: str) -> None:
        net = lm(name)
        cache = net(tokens(2, 5)).cache_params
        one = net(tokens(2, 3, seed=1), cache_params=cache).logits
        net(tokens(2, 4, seed=2), cache_params=cache)
        assert torch.equal(one, net(tokens(2, 3, seed=1), cache_params=cache).logits)

    def test_padding_in_every_piece(self, name: str) -> None:
        net = lm(name)
        first, second = tokens(1, 5, seed=1)[0], tokens(1, 4, seed=2)[0]
        cache = net(*padded([first, first[:2]], [0, 3], 5)).cache_params
        batch, mask = padded([second[:3], second], [1, 0], 4)
        y = net(batch, mask, cache_params=cache).logits
        one = net(torch.cat((first, second[:3]))[None]).logits[0, 5:]
        other = net(torch.cat((first[:2], second))[None]).logits[0, 2:]
        torch.testing.assert_close(y[0, 1:], one, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(y[1], other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", tr.layers.names())
class TestGenerate:
    @pytest.mark.parametrize("search", SEARCHES)
    def test_cached_and_uncached_tokens_agree(self, name: str, search: str) -> None:
        net, ids = lm(name), tokens(2, 7)
        cached = generate(net, ids, use_cache=True, **SEARCHES[search])
        assert torch.equal(cached, generate(net, ids, use_cache=False, **SEARCHES[search]))
        assert cached.shape[1] == 16
        assert len(cached[:, 7:].unique()) > 1

    @pytest.mark.parametrize("search", ["greedy", "beams"])
    def test_left_padded_prompts_generate_what_each_does_alone(
        self, name: str, search: str
    ) -> None:
        net = lm(name)
        prompts = [tokens(1, length, seed=length)[0] for length in (1, 3, 8)]
        batch, mask = padded(prompts, [7, 5, 0], 8)
        together = generate(net, batch, attention_mask=mask, **SEARCHES[search])
        alone = [generate(net, prompt[None], **SEARCHES[search]) for prompt in prompts]
        expected = torch.cat([each[:, -9:] for each in alone])
        assert torch.equal(together[:, -9:], expected)
        # Without a mask, generate finds the padding by pad_token_id.
        assert torch.equal(together, generate(net, batch, **SEARCHES[search]))


@pytest.mark.parametrize("name", tr.layers.names())
def test_after_the_prompt_one_token_a_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, widths = lm(name), []
    inner = net.model.layer.forward

    def counting(x: Tensor, *rest: Any) -> Any:
        widths.append(x.shape[1])
        return inner(x, *rest)

    monkeypatch.setattr(net.model.layer, "forward", counting)
    generate(net, tokens(2, 7), do_sample=False)
    assert widths == [7] + [1] * 8


def test_trees_carry_their_blocks() -> None:
    output = lm("pr-lstm")(tokens(2, 7))
    assert isinstance(output.cache_params, RecurrentCache)
    assert isinstance(output.cache_params.state, TreeState)
    assert output.cache_params.state.length.tolist() == [[7, 7], [7, 7]]


def test_finished_rows_are_padded_and_others_go_on() -> None:
    net, ids = lm("pr-lstm"), tokens(3, 5)
    free = generate(net, ids, do_sample=False)
    end = int(free[0, 7])
    stopped = generate(net, ids, do_sample=False, eos_token_id=end)
    for one, other in zip(stopped, free, strict=True):
        ends = (other[5:] == end).nonzero()
        stop = 5 + int(ends[0]) + 1 if len(ends) else 14
        length = min(stop, stopped.shape[1])
        assert torch.equal(one[:length], other[:length])
        assert not bool(one[length:].any())


@pytest.mark.parametrize("name", ["lstm", "pr-lstm"])
class TestGoingOn:
    def test_from_a_state_of_an_earlier_call(self, name: str) -> None:
        net, ids = lm(name), tokens(2, 9)
        cache = net(ids[:, :5]).cache_params
        for options in (SEARCHES["greedy"], SEARCHES["beams"]):
            expected = generate(net, ids, **options)
            assert torch.equal(generate(net, ids, cache_params=cache, **options), expected)
        with pytest.raises(ValueError, match="has read 5 tokens and input_ids holds 5"):
            generate(net, ids[:, :5], cache_params=cache)

    def test_from_the_state_generate_returned(self, name: str) -> None:
        net, ids = lm(name), tokens(2, 9)
        output = generate(net, ids, do_sample=False, return_dict_in_generate=True)
        assert output.past_key_values.seen == output.sequences.shape[1] - 1
        further = torch.cat((output.sequences, tokens(2, 2, seed=8)), 1)
        # Given, because this vocabulary's padding may have been generated.
        options = {"do_sample": False, "attention_mask": torch.ones_like(further)}
        expected = generate(net, further, **options)
        carried = generate(net, further, cache_params=output.past_key_values, **options)
        assert torch.equal(carried, expected)

    def test_from_embedded_prompts(self, name: str) -> None:
        net, ids = lm(name), tokens(2, 9)
        mask = torch.tensor([[1] * 9, [0] * 4 + [1] * 5])
        embedded = net.model.embed_tokens(ids)
        for options in (SEARCHES["greedy"], SEARCHES["beams"]):
            expected = generate(net, ids, attention_mask=mask, **options)[:, 9:]
            got = generate(net, None, inputs_embeds=embedded, attention_mask=mask, **options)
            assert torch.equal(got, expected)


class TestLoss:
    def test_by_hand(self) -> None:
        net, ids = lm("pr-lstm"), tokens(2, 6)
        labels = ids.clone()
        labels[0, 3] = labels[1, 5] = -100
        output = net(ids, labels=labels)
        log = F.log_softmax(output.logits, -1)
        terms = [
            -log[b, t - 1, labels[b, t]]
            for b in range(2)
            for t in range(1, 6)
            if labels[b, t] != -100
        ]
        expected = torch.stack(terms).mean()
        torch.testing.assert_close(output.loss.double(), expected, rtol=1e-6, atol=0)
        summed = net(ids, labels=labels, num_items_in_batch=4).loss.double()
        torch.testing.assert_close(summed, torch.stack(terms).sum() / 4, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("name", tr.layers.names())
    def test_reaches_every_parameter(self, name: str) -> None:
        net = lm(name).train()
        output = net(tokens(2, 6), labels=tokens(2, 6))
        assert output.cache_params is None
        output.loss.backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            assert bool(parameter.grad.isfinite().all()), key

    def test_truncated_backpropagation(self) -> None:
        net, ids = lm("pr-lstm").train(), tokens(2, 8)
        first = net(ids[:, :4], use_cache=True)
        embedded = net.model.embed_tokens(ids[:, 4:]).detach()
        second = net(
            inputs_embeds=embedded, labels=ids[:, 4:], cache_params=first.cache_params.detach()
        )
        second.loss.backward()
        assert net.model.embed_tokens.weight.grad is None
        carried = net(inputs_embeds=embedded, labels=ids[:, 4:], cache_params=first.cache_params)
        assert torch.equal(carried.loss, second.loss)
        carried.loss.backward()
        assert net.model.embed_tokens.weight.grad is not None


class TestOutputs:
    def test_positions_kept(self) -> None:
        net, ids = lm("gru"), tokens(2, 6)
        logits = net(ids).logits
        assert torch.equal(net(ids, logits_to_keep=2).logits, logits[:, -2:])
        places = torch.tensor([0, 3])
        assert torch.equal(net(ids, logits_to_keep=places).logits, logits[:, places])

    def test_tuples(self) -> None:
        net, ids = lm("gru"), tokens(2, 6)
        output = net(ids, labels=ids)
        loss, logits, cache = net(ids, labels=ids, return_dict=False)
        assert torch.equal(loss, output.loss)
        assert torch.equal(logits, output.logits)
        assert isinstance(cache, RecurrentCache)
        assert len(net(ids, return_dict=False, use_cache=False)) == 1

    def test_the_head_is_linear_on_the_layers_outputs(self) -> None:
        net, ids = lm("pr-lstm"), tokens(2, 6)
        y, _ = net.model.layer(net.model.embed_tokens(ids))
        expected = y @ net.lm_head.weight.t()
        torch.testing.assert_close(net(ids).logits, expected, rtol=1e-12, atol=1e-12)
        assert net(ids).logits.shape == (2, 6, VOCABULARY)


class TestRefusals:
    def test_bidirectional(self) -> None:
        with pytest.raises(ValueError, match="sees the token it should predict"):
            TreeringForCausalLM(config("lstm", bidirectional=True))

    def test_sizes_that_cannot_be_tied(self) -> None:
        with pytest.raises(ValueError, match="set embedding_size=6"):
            TreeringForCausalLM(config("lstm", tie_word_embeddings=True))

    def test_right_padded_prompts(self) -> None:
        net = lm("lstm")
        batch, mask = padded([tokens(1, 3)[0], tokens(1, 5)[0]], [0, 0], 5)
        with pytest.raises(ValueError, match="pad prompts at the left"):
            generate(net, batch, attention_mask=mask)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"output_hidden_states": True}, "output_hidden_states is not offered"),
            ({"cache_params": (torch.zeros(2, 2, 6),)}, "got tuple"),
            ({"inputs_embeds": torch.zeros(2, 3, 5)}, "exactly one of"),
            ({"position_ids": torch.zeros(2, 4, dtype=torch.int64)}, "position_ids"),
        ],
    )
    def test_calls(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            lm("lstm")(tokens(2, 3), **options)

    def test_states_of_another_batch(self) -> None:
        net = lm("pr-lstm")
        with pytest.raises(ValueError, match="state does not fit"):
            net(tokens(3, 2), cache_params=net(tokens(2, 2)).cache_params)

    def test_bidirectional_states(self) -> None:
        net = model(TreeringModel, "lstm", bidirectional=True)
        with pytest.raises(ValueError, match="cannot be carried on"):
            net(tokens(2, 3), use_cache=True)

    def test_attentions_cache(self) -> None:
        with pytest.raises(ValueError, match="belong to attention"):
            generate(lm("lstm"), tokens(2, 3), past_key_values=DynamicCache())

    def test_unread_tokens(self) -> None:
        """Assisted generation takes tokens back, which a recurrence cannot."""
        with pytest.raises(ValueError, match="not supported with stateful models"):
            generate(lm("lstm"), tokens(1, 3), assistant_model=lm("gru"))
