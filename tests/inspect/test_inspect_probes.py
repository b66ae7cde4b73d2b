"""Probes: labels planted in states are found, none are found in noise; automata by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import treering as tr
from treering.inspect import linear_probe, probes
from treering.inspect.automata import READERS, UNDEFINED, readers_of
from treering.inspect.subject import NotAvailableError
from treering.tasks import Batch

Make = Callable[..., Any]


@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_the_fit_is_the_minimum(l2: float) -> None:
    """The objective is convex: where its gradient is zero, it is least."""
    x, y = 3 + 5 * torch.randn(200, 4), torch.randint(3, (200,))
    probe = linear_probe.fit(x, y, 3, l2)
    inputs = (x - x.mean(0)) / x.std(0, correction=0)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    loss = F.cross_entropy(F.linear(inputs, weight, bias), y) + l2 / 2 * weight.square().sum()
    for grad in torch.autograd.grad(loss, (weight, bias)):
        assert grad.abs().max() < 1e-5
    assert torch.equal(probe(x), F.linear(inputs, weight, bias).argmax(-1))


def test_planted_labels_are_found_and_noise_is_not() -> None:
    y = torch.randint(4, (600,))
    planted = F.one_hot(y, 4).double() @ torch.randn(4, 10) + 0.05 * torch.randn(600, 10)
    noise = torch.randn(600, 10)
    for x, low, high in ((planted, 0.99, 1.0), (noise, 0.15, 0.35)):
        probe, _ = linear_probe.select((x[:300], y[:300]), (x[300:400], y[300:400]), 4)
        assert low <= probe.accuracy(x[400:], y[400:]) <= high


def test_the_penalty_is_chosen_on_the_validation_part() -> None:
    """With more channels than rows and labels of noise, the largest penalty does least harm."""
    torch.manual_seed(1)
    direction = torch.randn(60)
    x = torch.randn(3040, 60)
    y = (x @ direction + 12 * torch.randn(3040) > 0).long()
    parts = (x[:40], y[:40]), (x[40:], y[40:])
    probe, l2 = linear_probe.select(*parts, 2)
    accuracies = {
        p: linear_probe.fit(*parts[0], 2, p).accuracy(*parts[1]) for p in linear_probe.PENALTIES
    }
    assert accuracies[l2] == max(accuracies.values()) == probe.accuracy(*parts[1])
    assert l2 > linear_probe.PENALTIES[0]


def test_a_channel_that_never_moves_does_no_harm() -> None:
    x, y = torch.randn(100, 3), torch.randint(2, (100,))
    x[:, 0] = 0.1 + 0.2  # whose mean is not exactly itself
    x[:, 1] = 0
    x[:, 2] = y + 0.01 * x[:, 2]
    probe = linear_probe.fit(x, y, 2, 1e-4)
    assert probe.accuracy(x, y) == 1
    assert probe.weight.isfinite().all()


def spelled(task: str, prefix: list[int]) -> list[int]:
    """What whoever reads the prefix has to remember, in the order of READERS."""
    if task == "parity_check":
        return [prefix.count(1) % 2]
    if task == "cycle_navigation":
        place = 0
        for symbol in prefix:
            place = (place + {0: -1, 1: 0, 2: 1}[symbol]) % 5
        return [place]
    if task == "even_pairs":
        return [prefix[0], 2 * prefix[0] + prefix[-1]]
    text = "".join("01234+-*_"[symbol] for symbol in prefix)
    operators = [c for c in text if c in "+-*"]
    last = "+-*".index(operators[-1]) if operators else UNDEFINED
    return [eval(text) % 5 if text[-1].isdigit() else UNDEFINED, last]


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("name", READERS)
def test_automata_after_every_prefix(name: str, length: int) -> None:
    task = tr.tasks.get(name)
    inputs = task.sample(20, length).inputs
    found = [reader.states(inputs) for reader in readers_of(task)]
    for row in range(20):
        for t in range(inputs.shape[1]):
            expected = spelled(name, inputs[row, : t + 1].tolist())
            assert [int(states[row, t]) for states in found] == expected
    for reader, states in zip(readers_of(task), found, strict=True):
        assert states.shape == inputs.shape
        assert int(states.max()) < reader.classes


def test_every_regular_task_has_an_automaton_and_no_other() -> None:
    levels = {name: tr.tasks.get(name).level for name in tr.tasks.names()}
    assert set(READERS) == {name for name, level in levels.items() if level == "regular"}


PREFIXES = [(name, {"num_layers": 2}) for name in tr.layers.names()] + [
    (name, options)
    for name in ("lstm", "pr-lstm")
    for options in ({"bidirectional": True}, {"order": True})
]


@pytest.mark.parametrize(("name", "options"), PREFIXES)
def test_states_after_a_prefix_know_nothing_of_what_follows(
    name: str, options: dict[str, Any], model_of: Make, symbols: Batch
) -> None:
    """However they are had, they are those of the prefix given by itself."""
    model = model_of("transducer", name, **options)
    found = probes.prefix_states(model, symbols, [0, 2, 6])
    causal = not (options.get("order") or options.get("bidirectional"))
    levels = [f"layer {k + 1}" for k in range(options.get("num_layers", 1))]
    assert list(found) == (levels if causal else ["last output"])
    x = F.one_hot(symbols.inputs, 4).double()
    *_, last = found.values()
    for k, place in enumerate([0, 2, 6]):
        torch.testing.assert_close(last[:, k], model.layer.reduce(x[:, : place + 1]))


def planting(model: Any, batch: Batch, places: list[int]) -> dict[str, Tensor]:
    """A layer that holds the parity up to 10 symbols and then nothing, and one of noise."""
    parity = (batch.inputs.cumsum(1) % 2)[:, places].double()
    noise = torch.randn(*parity.shape, 3)
    told = torch.where(torch.tensor(places) < 10, parity, torch.rand_like(parity).round())
    return {"holds": torch.cat((noise, told.unsqueeze(-1)), -1), "noise": noise}


def test_a_probe_finds_what_is_planted_where_it_is(
    model_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "prefix_states", planting)
    task = tr.tasks.get("parity_check")
    holds, noise = probes.probes(model_of("transducer"), task, samples=200, length=10)
    assert (holds.layer, noise.layer) == ("holds", "noise")
    assert holds.at == tuple(range(1, 21))
    assert holds.accuracy[:10] == (1,) * 10
    assert holds.within == 1
    assert (holds.longest, holds.states, holds.classes) == (10, 2000, 2)
    for accuracy in (holds.beyond, noise.within, noise.beyond):
        assert accuracy == pytest.approx(0.5, abs=0.07)
    assert holds.chance == noise.chance == pytest.approx(0.5, abs=0.03)
    assert holds.beyond == pytest.approx(sum(holds.accuracy[10:]) / 10, rel=1e-3)


def test_a_network_that_keeps_the_first_symbol_is_read(model_of: Make) -> None:
    """By weights set by hand."""
    model = model_of("transducer", "rnn", nonlinearity="tanh")
    with torch.no_grad():
        for parameter in model.layer.parameters():
            parameter.zero_()
        # Channel 0 takes the sign of the first symbol, and is then too far out to be turned.
        model.layer.weight_ih_l0[0, :2] = torch.tensor([-0.2, 0.2])
        model.layer.weight_hh_l0[0, 0] = 5
    first, both = probes.probes(model, tr.tasks.get("even_pairs"), samples=60, length=8)
    assert first.target == "first symbol"
    assert first.within == first.beyond == 1
    assert both.within is not None
    assert both.within < 1


@pytest.mark.parametrize("samples", [1, 3])
def test_what_no_prefix_has_is_not_asked_for(samples: int, model_of: Make) -> None:
    model = model_of("transducer")
    model.layer = tr.GRU(10, 6, batch_first=True)
    model.symbols = 9
    (found,) = probes.probes(model, tr.tasks.get("modular_arithmetic"), samples, length=1)
    assert (found.target, found.at) == ("value of the expression so far", (1,))
    assert found.within is not None
    assert found.beyond is None  # sequences of two symbols are of one


@pytest.mark.parametrize("name", ["stack_manipulation", "bucket_sort"])
def test_no_automaton_is_a_reason(name: str, model_of: Make) -> None:
    with pytest.raises(NotAvailableError, match="no finite automaton"):
        probes.probes(model_of("transducer"), tr.tasks.get(name), 4, 4)
