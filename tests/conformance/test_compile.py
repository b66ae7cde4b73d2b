"""Under torch.compile: one graph, whatever the number of tokens, and eager's numbers.

Legend: T time, B batch, I input.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import treering as tr
from treering import operator
from treering._errors import UserError
from treering._types import map_tensors
from treering.unroll import Recipe

from .cases import CASES, REGISTERED, Case
from .observe import assert_same, draw, floats, observe, widened

every_layer = pytest.mark.parametrize("case", REGISTERED, ids=str)
B, SLOTS = 3, 32


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Each test compiles for itself."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that counts: `sizes` holds the number of nodes of every graph it was given."""

    def __init__(self, backend: str = "aot_eager") -> None:
        self.sizes: list[int] = []
        self.backend = torch._dynamo.lookup_backend(backend)

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.sizes.append(len(graph.graph.nodes))
        return self.backend(graph, inputs)


def compiled(module: nn.Module, backend: Any = "aot_eager", **options: Any) -> Any:
    return torch.compile(module, fullgraph=True, backend=backend, **options)


def assert_as_eager(layer: Any, run: Any, x: Tensor, state: Any = None, **more: Any) -> None:
    """The compiled call `run` against the layer itself: outputs, state, every gradient."""

    def of(function: Callable[..., Any]) -> Any:
        def call(layer: Any, x: Tensor, state: Any) -> Any:
            y, last = function(x, state, **more)
            return y, widened(last, SLOTS)

        return call

    # A mutable copy of the state per call, as `observe` makes one.
    assert_same(observe(layer, x, state, of(run)), observe(layer, x, state, of(layer)))


def lengths_of(T: int) -> Tensor:
    return torch.tensor([T, 1, max(1, T // 2)])


def a_state(layer: Any) -> Any:
    with torch.no_grad():
        return layer(draw(5, B, layer.input_size, seed=3), lengths=torch.tensor([2, 5, 3]))[1]


@every_layer
def test_one_graph_for_every_length(case: Case):
    layer, backend = case.build(), Counting()
    run = compiled(layer, backend)
    for T in (8, 512, 33, 1, 2, 64):
        x = draw(T, B, 2, seed=T)
        with torch.no_grad():
            y, last = run(x)
            want, state = layer(x)
        torch.testing.assert_close(y, want, rtol=0, atol=0)
        for a, b in zip(floats(widened(last, SLOTS)), floats(widened(state, SLOTS)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    # The first length, any length, and a single token, which PyTorch always takes for itself.
    assert len(backend.sizes) <= 3
    assert max(backend.sizes) - min(backend.sizes) <= 2


@every_layer
def test_the_graph_is_small(case: Case):
    backend = Counting()
    compiled(case.build(), backend, dynamic=False)(draw(512, B, 2))
    assert len(backend.sizes) == 1
    assert backend.sizes[0] < 40


@every_layer
def test_forward_and_backward(case: Case):
    layer = case.build()
    run = compiled(layer, dynamic=True)
    for T in (2, 17):
        assert_as_eager(layer, run, draw(T, B, 2), lengths=lengths_of(T))


@pytest.mark.slow
@every_layer
def test_every_layer_in_two_layers_and_directions(case: Case):
    layer = case.build(num_layers=2, bidirectional=True)
    run = compiled(layer, dynamic=True)
    for T in (2, 17):
        assert_as_eager(layer, run, draw(T, B, 2), lengths=lengths_of(T))


@pytest.mark.parametrize("name", ["gru", "min-gru", "pr-rnn"])
def test_two_layers_and_directions(name: str):
    layer = Case(name, {}).build(num_layers=2, bidirectional=True)
    assert_as_eager(layer, compiled(layer), draw(17, B, 2), lengths=lengths_of(17))


@every_layer
def test_state_and_reset(case: Case):
    layer = case.build()
    run, state = compiled(layer, dynamic=True), a_state(layer)
    for T in (3, 17):
        reset = torch.rand(T, B, generator=torch.Generator().manual_seed(T)) < 0.3
        assert_as_eager(layer, run, draw(T, B, 2), state, reset=reset)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.options], ids=str)
def test_options(case: Case):
    layer = case.build()
    run = compiled(layer, dynamic=True)
    for T in (2, 17):
        assert_as_eager(layer, run, draw(T, B, 2), lengths=lengths_of(T))


@pytest.mark.parametrize("bracket", ["left", "random"])
def test_brackets(bracket: Any):
    layer = Case("pr-rnn", {"schedule": tr.Tree(bracket, seed=2)}).build()
    run = compiled(layer, dynamic=True)
    assert_as_eager(layer, run, draw(17, B, 2), a_state(layer), lengths=lengths_of(17))


@pytest.mark.parametrize("name", ["lstm", pytest.param("pr-rnn", marks=pytest.mark.slow)])
def test_reordered(name: str):
    layer = tr.Reordered(Case(name, {}).build())
    run = compiled(layer, dynamic=True)
    for T in (2, 40):
        x, lengths = draw(T, B, 2), lengths_of(T)
        for y, want in zip(run(x, lengths=lengths), layer(x, lengths=lengths), strict=True):
            for a, b in zip(floats(widened(y, SLOTS)), floats(widened(want, SLOTS)), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lstm", "min-lstm", "pr-lstm"])
def test_the_last_output_alone(name: str):
    layer = Case(name, {}).build()
    x, lengths = draw(17, B, 2), lengths_of(17)
    run = torch.compile(layer.reduce, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(x, lengths), layer.reduce(x, lengths), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ql-lstm", "min-gru", "pr-lstm"])
def test_inner_states(name: str):
    layer = Case(name, {}).build(num_layers=2)
    run = compiled(layer, dynamic=True)
    x, lengths = draw(7, B, 2), lengths_of(7)
    _, _, seen = run(x, lengths=lengths, return_states=True)
    _, _, want = layer(x, lengths=lengths, return_states=True)
    assert seen.gates.keys() == want.gates.keys()
    for a, b in zip(
        [*floats(seen.state), *seen.gates.values()],
        [*floats(want.state), *want.gates.values()],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["lstm", "min-lstm", "pr-rnn"])
def test_autocast_of_the_traced_code(name: str):
    """The operator runs under the autocast it was traced under, forward and backward."""
    layer = Case(name, {}).build(input_size=8, hidden_size=8).float()
    run = compiled(layer, dynamic=True)
    x = draw(9, B, 8).float()

    def gradients(function: Any, enabled: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, _ = function(x)
        return [y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]

    for enabled in (True, False):
        for a, b in zip(gradients(run, enabled), gradients(layer, enabled), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert not torch.equal(gradients(run, True)[0], gradients(run, False)[0])


def test_inside_a_model():
    """Embedding, layers and head in one graph, with a loss, as in training."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 4)
            self.layer = tr.QLLSTM(4, 5, num_layers=2, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.layer(self.embedding(ids), lengths=lengths)[0])

    model = Tagger().double()
    backend = Counting()
    run = compiled(model, backend, dynamic=True)
    graphs = []
    # Sizes that no other size equals: PyTorch takes equal ones for the same.
    for T in (7, 19):
        ids, lengths = torch.randint(11, (2, T)), torch.tensor([T, 2])
        grads = [
            torch.autograd.grad(f(ids, lengths).square().sum(), list(model.parameters()))
            for f in (run, model)
        ]
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        graphs.append(len(backend.sizes))
    assert graphs[1] == graphs[0]


def test_equal_layers_mean_the_same_key():
    """A deep copy runs on, and two layers of different options never share a recipe."""
    one, other = (tr.QLLSTM(2, 3, skip=skip) for skip in ("learned", "channel"))
    x = torch.randn(4, B, 2)
    for layer in (one, other):
        torch.testing.assert_close(compiled(layer)(x)[0], layer(x)[0], rtol=0, atol=0)


def test_a_cell_defined_twice_is_two_cells():
    """As in a notebook: two classes of one name, alive at once."""

    class Twice:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __repr__(self) -> str:
            return "Twice()"

        def run(self, tensors: Any) -> list[Tensor]:
            return [tensors[0] * self.factor]

        def blank(self, tensors: Any) -> list[Tensor]:
            return [torch.empty_like(tensors[0])]

    two, three = Twice(2), Twice(3)
    names = [operator.key(recipe) for recipe in (two, three, two)]
    assert names[0] == names[2] != names[1]
    x = torch.ones(2)
    assert [operator.apply([x], name)[0].tolist() for name in names[:2]] == [[2, 2], [3, 3]]


def test_mistakes_are_named_when_it_runs():
    layer = tr.GRU(2, 3)
    run = compiled(layer, dynamic=True)
    x = torch.randn(4, B, 2)
    run(x, lengths=torch.tensor([4, 1, 2]))
    with pytest.raises(UserError, match="lengths has an element 9"):
        run(x, lengths=torch.tensor([9, 1, 2]))
    with pytest.raises(ValueError, match="greater than 0"):
        run(x, lengths=torch.tensor([0, 1, 2]))


def test_the_operator_keeps_pytorchs_contract():
    """Schema, shapes, gradient registration and traced gradients, by PyTorch's own checks."""
    layer = Case("ql-lstm", {"block_size": 2}).build()
    weights = layer.weights(0)
    cell, schedule = layer.cell, tr.Sequential()
    recipe = Recipe(cell, schedule, tuple(weights), None, True, False, False, "all", True, None)
    name = operator.key(recipe)
    x = draw(4, B, 2).requires_grad_()
    given = [x, *weights.values(), torch.tensor([4, 1, 2])]
    torch.library.opcheck(torch.ops.treering.run.default, (given, name))


# PyTorch's own import, when the compiler is first loaded.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "ql-gru", "min-lstm", "pr-lstm"])
def test_inductor(name: str):
    layer = Case(name, {}).build(num_layers=2, bidirectional=True)
    run = compiled(layer, "inductor", dynamic=True)
    for T in (2, 17, 65):
        assert_as_eager(layer, run, draw(T, B, 2), lengths=lengths_of(T))
    state = map_tensors(torch.clone, a_state(layer))
    assert_as_eager(layer, run, draw(9, B, 2), state)
