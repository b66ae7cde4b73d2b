"""Gradients by distance: a recurrence that forgets as a^d, and each state's gradient by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import treering as tr
from treering._types import HiddenCell
from treering.inspect.gradients import input_gradients, state_gradients
from treering.inspect.subject import NotAvailableError, losses
from treering.models import LanguageModel
from treering.tasks import Batch, RaggedBatch

Make = Callable[..., Any]
STEPPING = [n for n in tr.layers.names() if not n.startswith("pr-")]


def one_of(batch: Batch | RaggedBatch, row: int) -> Batch | RaggedBatch:
    """A sequence by itself, without its padding."""
    size = batch.inputs.shape[1] if batch.lengths is None else int(batch.lengths[row])
    alone = batch.inputs[row : row + 1, :size], batch.targets[[row]], batch.mask[[row]]
    if isinstance(batch, Batch):
        return Batch(*alone)
    return RaggedBatch(*alone, torch.tensor([size]))


def forgetting(model: Any, kept: float) -> None:
    """Make a minGRU keep the share `kept` of its state at every step, whatever it reads."""
    H = model.layer.hidden_size
    with torch.no_grad():
        model.layer.weight_ih_l0[:H] = 0
        model.layer.bias_ih_l0[:H] = torch.logit(torch.tensor(1 - kept))
        # Above 0, so that the head's relu lets every gradient through.
        model.layer.weight_ih_l0[H:].abs_()
        model.layer.bias_ih_l0[H:] = 1


@pytest.mark.parametrize("kept", [0.5, 0.9])
@pytest.mark.parametrize("measure", [input_gradients, state_gradients])
def test_a_linear_recurrence_forgets_geometrically(
    kept: float, measure: Callable[..., Any], model_of: Make, symbols: Batch
) -> None:
    model = model_of("transducer", "min-gru")
    forgetting(model, kept)
    (found,) = measure(model, symbols)
    assert found.curve.at == tuple(range(8))  # seven symbols and the empty one
    expected = [found.curve.median[0] * kept**d for d in range(8)]
    # The record keeps four digits.
    assert found.curve.median == pytest.approx(expected, rel=2e-3)


DEEP = {"num_layers": 2, "bidirectional": True}


@pytest.mark.parametrize(
    ("name", "options"), [(n, {}) for n in tr.layers.names()] + [("gru", DEEP), ("pr-lstm", DEEP)]
)
def test_gradients_at_the_inputs_are_each_sequences_own(
    name: str, options: dict[str, Any], model_of: Make, texts: RaggedBatch
) -> None:
    model = model_of("classifier", name, **options)
    (found,) = input_gradients(model, texts)
    by_distance: dict[int, list[float]] = {}
    for row in range(6):
        alone = one_of(texts, row)
        x = model.embedding(alone.inputs).detach().requires_grad_()
        logits = model.head(model.layer.reduce(x))
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, alone.targets[:, 0]), x)
        for t in range(x.shape[1]):
            by_distance.setdefault(x.shape[1] - 1 - t, []).append(grad[0, t].norm().item())
    assert found.curve.at == tuple(range(7))
    for k, at in enumerate(found.curve.at):
        low, median, high = (
            torch.tensor(by_distance[at]).quantile(q).item() for q in (0.25, 0.5, 0.75)
        )
        assert found.curve.low[k] == pytest.approx(low, rel=1e-3)
        assert found.curve.median[k] == pytest.approx(median, rel=1e-3)
        assert found.curve.high[k] == pytest.approx(high, rel=1e-3)


def loss_from(model: Any, x: Tensor, state: Any, target: Tensor) -> Tensor:
    """The loss if a Transducer's layer goes on from `state` over the rest of its input."""
    y, _ = model.layer(x, state)
    return F.cross_entropy(model.head(torch.relu(y[:, -1])), target)


@pytest.mark.parametrize("name", STEPPING)
def test_gradients_at_the_states_are_those_of_going_on_from_them(
    name: str, model_of: Make, symbols: Batch
) -> None:
    model = model_of("transducer", name)
    found = {one.of: one.curve for one in state_gradients(model, symbols)}
    alone = [one_of(symbols, row) for row in range(8)]
    for t in range(7):
        of_h, of_c = [], []
        for batch in alone:
            x = F.one_hot(torch.cat((batch.inputs, torch.tensor([[3]])), 1), 4).double()
            with torch.no_grad():
                _, state, inner = model.layer(x[:, : t + 1], return_states=True)
            fields = [field.clone().requires_grad_() for field in state]
            loss = loss_from(model, x[:, t + 1 :], type(state)(*fields), batch.targets[:, 0])
            grads = torch.autograd.grad(loss, fields)
            of_h.append(grads[0].norm().item())
            if isinstance(state, HiddenCell) and name != "ql-lstm":
                # c is also what the h of its token is computed from: h = o tanh(c).
                o, c = inner.gates["o"][:, :, -1], state.c
                of_c.append((grads[1] + grads[0] * o * (1 - c.tanh() ** 2)).norm().item())
        at = found["h"].at.index(7 - t)
        assert found["h"].median[at] == pytest.approx(
            torch.tensor(of_h).quantile(0.5).item(), rel=1e-3
        )
        if of_c:
            assert found["c"].median[at] == pytest.approx(
                torch.tensor(of_c).quantile(0.5).item(), rel=1e-3
            )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"num_layers": 2, "bidirectional": True}),
        ("lstm", {"layer_norm": True}),
        ("ql-lstm", {"block_size": 2}),
        ("gru", {"order": True}),
        ("min-lstm", {}),
    ],
)
def test_padding_changes_no_gradient_at_a_state(
    name: str, options: dict[str, Any], model_of: Make, texts: RaggedBatch
) -> None:
    """The curve of one padded row is that of the row by itself."""
    model = model_of("classifier", name, **options)
    row = 3  # five tokens in a batch of seven
    padded = RaggedBatch(*(tensor[[row]] for tensor in texts if tensor is not None))
    alone = state_gradients(model, one_of(texts, row))
    assert [(one.layer, one.of) for one in alone] == [
        (one.layer, one.of) for one in state_gradients(model, padded)
    ]
    for one, other in zip(alone, state_gradients(model, padded), strict=True):
        assert one.curve.at == other.curve.at == tuple(range(5))
        assert one.curve.median == pytest.approx(other.curve.median, rel=1e-3)
        assert min(one.curve.median) > 0


def test_names_of_layers_directions_and_fields(model_of: Make, symbols: Batch) -> None:
    model = model_of("transducer", "lstm", num_layers=2, bidirectional=True)
    assert [(one.layer, one.of) for one in state_gradients(model, symbols)] == [
        (f"layer {level} {side}", field)
        for level in (1, 2)
        for side in ("forward", "backward")
        for field in ("h", "c")
    ]


def test_tree_order_is_looked_at_in_both_orders(model_of: Make, symbols: Batch) -> None:
    """The gradient of a layer that forgets falls with the steps of reading, not of the text."""
    model = model_of("transducer", "min-gru", order=True)
    forgetting_layer = model.layer.layer
    with torch.no_grad():
        H = forgetting_layer.hidden_size
        forgetting_layer.weight_ih_l0[:H] = 0
        forgetting_layer.bias_ih_l0[:H] = 0  # keeps one half
        forgetting_layer.weight_ih_l0[H:].abs_()
        forgetting_layer.bias_ih_l0[H:] = 1
    text, reading = input_gradients(model, symbols)
    assert (text.order, reading.order) == ("text", "reading")
    first = reading.curve.median[0]
    assert reading.curve.median == pytest.approx([first / 2**d for d in range(8)], rel=2e-3)
    read = tr.orders.tree_order(8).tolist()
    by_place = [reading.curve.median[7 - read.index(place)] for place in range(8)]
    assert text.curve.median == pytest.approx(by_place[::-1])


def test_a_language_models_loss_is_that_of_the_last_answer(model_of: Make) -> None:
    model = model_of("stream", "gru")
    assert isinstance(model, LanguageModel)
    tokens = torch.randint(9, (4, 7))
    counted = torch.zeros(4, 6, dtype=torch.bool)
    counted[:, -1] = True
    batch = Batch(tokens[:, :-1], tokens[:, 1:], counted)
    expected = F.cross_entropy(model(tokens[:, :-1])[0][:, -1], tokens[:, -1], reduction="none")
    torch.testing.assert_close(losses(model, batch), expected)
    (found,) = input_gradients(model, batch)
    assert found.curve.at == tuple(range(6))
    assert min(found.curve.median) > 0


@pytest.mark.parametrize("name", ["pr-lstm", "pr-rnn"])
def test_a_trees_earlier_states_are_refused_with_a_reason(
    name: str, model_of: Make, symbols: Batch
) -> None:
    with pytest.raises(NotAvailableError, match="not what the last output is computed from"):
        state_gradients(model_of("transducer", name), symbols)


@pytest.mark.parametrize("name", ["lstm", "pr-lstm"])
def test_the_model_is_left_as_it_was(name: str, model_of: Make, symbols: Batch) -> None:
    model = model_of("transducer", name, schedule=None)
    layer, before = model.layer, {k: v.clone() for k, v in model.state_dict().items()}
    input_gradients(model, symbols)
    if name == "lstm":
        state_gradients(model, symbols)
    broken = symbols._replace(targets=symbols.targets + 99)
    with pytest.raises(IndexError):
        input_gradients(model, broken)
    with pytest.raises((IndexError, NotAvailableError)):
        state_gradients(model, broken)
    assert model.layer is layer
    assert layer.schedule is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.state_dict().keys() == before.keys()
    for name_, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name_])


def test_something_without_a_layer_is_told(symbols: Batch) -> None:
    with pytest.raises(ValueError, match="has no attribute `layer`"):
        input_gradients(nn.Linear(1, 1), symbols)
