"""Baselines against their equations, written out cell by cell and head by head.

Legend: B batch, T time, I input, H hidden, S cells of a memory, D size of a cell, W width.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from treering._errors import UserError
from treering.models import Classifier, LanguageModel, Transducer, baselines
from treering.models.baselines import Baseline, StackRNN, TapeRNN, TransformerEncoder

I, H, D, W = 3, 5, 2, 8  # noqa: E741  (the letters of the formulas)
SMALL: dict[str, Callable[[], Baseline]] = {
    "transformer": lambda: TransformerEncoder(I, width=W, num_layers=2, heads=2, dropout=0.0),
    "stack-rnn": lambda: StackRNN(I, H, stack_size=3, cell_size=D),
    "tape-rnn": lambda: TapeRNN(I, H, tape_size=4, cell_size=D),
}


def build(name: str) -> Baseline:
    """In float64, with no parameter left at a round initial value."""
    torch.manual_seed(1)
    model = SMALL[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def draw(B: int, T: int) -> Tensor:
    generator = torch.Generator().manual_seed(T)
    return torch.randn(B, T, I, dtype=torch.float64, generator=generator)


def linear(map_: Any, x: Tensor) -> Tensor:
    return map_.weight @ x + map_.bias


def shares(logits: Tensor) -> list[Tensor]:
    parts = logits.exp()
    return list(parts / parts.sum())


def controller(model: Any, x: Tensor, h: Tensor, read: Tensor) -> Tensor:
    w = model.recurrent.weight
    return (linear(model.input, x) + w[:, :H] @ h + w[:, H:] @ read).clamp(min=0)


def stack_by_hand(model: Any, x: Tensor, N: int) -> Tensor:
    """One sequence (T, I), the stack a list from its top; N is not looked at."""
    h, zero = x.new_zeros(H), x.new_zeros(D)
    stack, outputs = [zero] * 3, []
    for x_t in x:
        h = controller(model, x_t, h, stack[0])
        readout = linear(model.readout, h)
        push, pop, keep = shares(readout[:3])
        above, below = [readout[3:], *stack[:-1]], [*stack[1:], zero]
        stack = [push * a + pop * b + keep * s for a, b, s in zip(above, below, stack, strict=True)]
        outputs.append(h)
    return torch.stack(outputs)


def tape_by_hand(model: Any, x: Tensor, N: int) -> Tensor:
    """One sequence (T, I), the tape a list from its head, jumps of N."""
    h = x.new_zeros(H)
    tape, outputs = [x.new_zeros(D)] * 4, []
    for x_t in x:
        h = controller(model, x_t, h, tape[0])
        first, _, second, _, third = model.writer
        value = linear(first, h).clamp(min=0)
        value = linear(third, linear(second, value).clamp(min=0))
        a = shares(linear(model.moves, h))
        w = [value, *tape[1:]]
        tape = [
            sum(
                (a[j] * w[(k + move) % 4] for j, move in enumerate((0, 1, -1, N, -N))),
                start=torch.zeros(D, dtype=x.dtype),
            )
            for k in range(4)
        ]
        outputs.append(h)
    return torch.stack(outputs)


def normed(norm: Any, e: Tensor) -> Tensor:
    mean = e.mean(-1, keepdim=True)
    variance = (e - mean).square().mean(-1, keepdim=True)
    return (e - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def transformer_by_hand(model: Any, x: Tensor, N: int) -> Tensor:
    """One sequence (T, I), each head and position alone; N is not looked at."""
    T, size = len(x), W // 2
    angles = [[(T - t) * 10_000 ** (-2 * k / W) for k in range(W // 2)] for t in range(T)]
    positions = x.new_tensor(
        [[*map(math.sin, of_token), *map(math.cos, of_token)] for of_token in angles]
    )
    e = math.sqrt(W) * x @ model.embedding.weight.T + positions
    for layer in model.encoder:
        q, k, v = (e @ layer.in_proj.weight.T + layer.in_proj.bias).split(W, 1)
        heads = []
        for head in (slice(0, size), slice(size, W)):
            rows = [
                sum(
                    (
                        share * v[j, head]
                        for j, share in enumerate(shares(k[:, head] @ q[t, head] / size**0.5))
                    ),
                    start=torch.zeros(size, dtype=x.dtype),
                )
                for t in range(T)
            ]
            heads.append(torch.stack(rows))
        mixed = torch.cat(heads, 1) @ layer.out_proj.weight.T + layer.out_proj.bias
        a = normed(layer.norm1, e + mixed)
        inner = (a @ layer.linear1.weight.T + layer.linear1.bias).clamp(min=0)
        e = normed(layer.norm2, a + inner @ layer.linear2.weight.T + layer.linear2.bias)
    return e


BY_HAND = {
    "transformer": transformer_by_hand,
    "stack-rnn": stack_by_hand,
    "tape-rnn": tape_by_hand,
}
every_baseline = pytest.mark.parametrize("name", baselines.names())


def test_every_baseline_is_here():
    assert set(SMALL) == set(BY_HAND) == set(baselines.names())


@every_baseline
@pytest.mark.parametrize(("T", "N"), [(1, 1), (2, 1), (9, 6), (9, 3)])
def test_values_and_gradients_are_the_equations(name: str, T: int, N: int):
    model, x = build(name), draw(2, T).requires_grad_()
    into = [x, *model.parameters()]
    y, _ = model(x, input_length=N)
    wanted = torch.stack([BY_HAND[name](model, own, N) for own in x])
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(model.reduce(x, input_length=N), wanted[:, -1])
    given = torch.randn(y.shape, dtype=y.dtype)
    gradients = [
        torch.autograd.grad(found, into, given, materialize_grads=True) for found in (y, wanted)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@every_baseline
@settings(deadline=None, max_examples=10)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_padding_changes_nothing(name: str, lengths: list[int]):
    """Each sequence as it is alone, also where what lies beyond it is not a number."""
    model, T = build(name), max(lengths)
    clean = draw(len(lengths), T)
    x = clean.clone()
    for own, n in zip(x, lengths, strict=True):
        own[n:] = torch.nan
    y, _ = model(x, lengths=torch.tensor(lengths))
    last = model.reduce(x, torch.tensor(lengths))
    for b, n in enumerate(lengths):
        alone, _ = model(clean[b : b + 1, :n])
        torch.testing.assert_close(y[b, :n], alone[0])
        torch.testing.assert_close(last[b], alone[0, -1])
        assert not y[b, n:].any()
    (y.square().sum() + last.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["stack-rnn", "tape-rnn"])
def test_a_state_is_carried_on(name: str):
    model, x, lengths = build(name), draw(3, 9), torch.tensor([4, 1, 2])
    whole, last = model(x, input_length=9)
    first, state = model(x[:, :4], lengths=lengths, input_length=9)
    for b, n in enumerate(lengths.tolist()):
        own = [part[b : b + 1] for part in state]
        rest, after = model(x[b : b + 1, n:], own, input_length=9)
        torch.testing.assert_close(torch.cat((first[b, :n], rest[0])), whole[b])
        torch.testing.assert_close(tuple(after), tuple(part[b : b + 1] for part in last))


@every_baseline
def test_the_same_seed_gives_the_same_bits(name: str):
    seen = []
    for _ in range(2):
        torch.manual_seed(3)
        model = baselines.get(name).of_sizes(I, H)
        y, _ = model(torch.randn(4, 20, I))
        y.sum().backward()
        seen.append([y, *(p.grad for p in model.parameters())])
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def test_dropout_ends_with_training():
    model, x = TransformerEncoder(I), torch.randn(2, 6, I)
    assert not torch.equal(model(x)[0], model(x)[0])
    assert torch.equal(model.eval()(x)[0], model(x)[0])
    with torch.no_grad():
        inference = model(x)[0]
    torch.testing.assert_close(model(x)[0], inference)


@every_baseline
def test_a_transducer_tells_the_inputs_length(name: str):
    layer = build(name)
    model = Transducer(layer, I - 1, 4).double()
    inputs = torch.randint(I - 1, (2, 5), generator=torch.Generator().manual_seed(0))
    for M in (1, 3):
        symbols = torch.cat((inputs, torch.full((2, M), I - 1)), 1)
        x = torch.nn.functional.one_hot(symbols).double()
        y = torch.stack([BY_HAND[name](layer, own, 5) for own in x])[:, -M:]
        y = y if name == "transformer" else y.clamp(min=0)
        torch.testing.assert_close(model(inputs, output_length=M), model.head(y))


@every_baseline
def test_a_classifier_reads_texts_of_different_lengths(name: str):
    model = Classifier(build(name), 10, I, 4).double()
    inputs, lengths = torch.randint(1, 10, (3, 7)), torch.tensor([7, 2, 4])
    together = model(inputs, lengths)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(together[b], model(inputs[b : b + 1, :n])[0])


@every_baseline
def test_no_language_model(name: str):
    with pytest.raises(UserError, match="for a language model use a layer of"):
        LanguageModel(build(name), 10, I)


def test_starting_values():
    """Cut at two deviations of 1/sqrt(fan in), which leaves 0.88 of the deviation."""
    torch.manual_seed(0)
    model = StackRNN(56, 256, cell_size=8)
    assert not model.input.bias.any()
    for weight, fan_in in (
        (model.input.weight, 64),
        (model.recurrent.weight[:, :256], 256),
        (model.recurrent.weight[:, 256:], 64),
        (model.readout.weight, 256),
    ):
        assert float(weight.detach().abs().max()) <= 2 * fan_in**-0.5
        assert float(weight.detach().std()) == pytest.approx(0.88 * fan_in**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: TransformerEncoder(I, width=60), "width must be even and a multiple of heads"),
        (lambda: TransformerEncoder(I, dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: StackRNN(I, H, stack_size=0), "stack_size must be an integer of at least 1"),
        (lambda: TapeRNN(I, H, tape_size=-1), "tape_size must be an integer of at least 1"),
        (lambda: StackRNN(I, 0), "hidden_size must be an integer of at least 1"),
        (lambda: build("stack-rnn")(draw(2, 3)[0]), r"StackRNN takes \(batch, time, 3\), got"),
        (lambda: build("stack-rnn")(draw(2, 3)[:, :0]), "one token or more"),
        (lambda: build("tape-rnn")(draw(2, 3), draw(2, 3)), "the state must be h"),
        (lambda: build("tape-rnn")(draw(2, 3), [draw(2, 3)]), "the state must be h"),
        (lambda: build("transformer")(draw(2, 3), draw(2, 3)), "has no state to go on with"),
        (
            lambda: build("tape-rnn")(draw(2, 3), lengths=torch.ones(2)),
            "lengths must be 2 integers",
        ),
        (
            lambda: build("tape-rnn")(draw(2, 3), lengths=torch.tensor([1, 4])),
            r"lengths must lie in 1\.\.3, got \[1, 4\]",
        ),
        (
            lambda: baselines.get("stackrnn"),
            "unknown baseline 'stackrnn'; did you mean",
        ),
    ],
)
def test_mistakes(wrong: Callable[[], Any], text: str):
    with pytest.raises(ValueError, match=text):
        wrong()
