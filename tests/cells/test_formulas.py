"""Each cell against its formula, written out gate by gate on lists of rows.

Nothing here shares code with the cells: gates are cut out of the matrices by hand.
Legend: I input, H hidden, B batch.
"""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import treering as tr
from treering._types import Hidden, HiddenCell, Weights
from treering.cells.abstract import AffineCell, Cell, MergeCell, StepCell
from treering.cells.gru import GRUCell
from treering.cells.lstm import LSTMCell
from treering.cells.min_gru import MinGRUCell
from treering.cells.min_lstm import MinLSTMCell
from treering.cells.nonlinear_gate_lstm import NonlinearGateLSTMCell
from treering.cells.pr_lstm import PRLSTMCell
from treering.cells.pr_rnn import PRRNNCell
from treering.cells.ql_gru import QLGRUCell
from treering.cells.ql_lstm import QLLSTMCell
from treering.cells.ql_rnn import QLRNNCell
from treering.cells.rnn import RNNCell

I, H, B = 3, 4, 2  # noqa: E741  (the letters of the formulas)
sigmoid, tanh = torch.sigmoid, torch.tanh

pytestmark = pytest.mark.usefixtures("float64")


def draw(cell: Cell) -> dict[str, Tensor]:
    return {name: torch.randn(spec.shape) for name, spec in cell.parameters(I).items()}


def rows(weights: Weights, name: str, k: int) -> Any:
    """Rows of gate k; 0 for a bias that is not there."""
    return weights[name][k * H : (k + 1) * H] if name in weights else 0.0


def affine(w: Weights, k: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Gate k's share of the input's and of the recurrent map, each (B, H)."""
    ours = x @ rows(w, "weight_ih", k).T + rows(w, "bias_ih", k)
    return ours, h @ rows(w, "weight_hh", k).T + rows(w, "bias_hh", k)


def total(w: Weights, k: int, x: Tensor, h: Tensor) -> Tensor:
    """Gate k's pre-activation where both maps are simply added."""
    of_x, of_h = affine(w, k, x, h)
    return of_x + of_h


def stepped(cell: StepCell, w: Weights, x: Tensor, state: Any) -> Any:
    return cell.step(w, cell.project(w, x), state)


def close(made: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)


either_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])


@either_bias
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn(bias: bool, nonlinearity: str):
    cell = RNNCell(H, nonlinearity=nonlinearity, bias=bias)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    pre = total(w, 0, x, h)
    wanted = tanh(pre) if nonlinearity == "tanh" else pre.clamp(min=0)
    close(stepped(cell, w, x, Hidden(h)).h, wanted)


@either_bias
def test_gru(bias: bool):
    cell = GRUCell(H, bias=bias)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    r, z = (sigmoid(total(w, k, x, h)) for k in (0, 1))
    of_x, of_h = affine(w, 2, x, h)
    n = tanh(of_x + r * of_h)
    close(stepped(cell, w, x, Hidden(h)).h, (1 - z) * n + z * h)


def lstm(pre: list[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c from the four pre-activations and the c before."""
    i, f, g, o = pre
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@either_bias
def test_lstm(bias: bool):
    cell = LSTMCell(H, bias=bias)
    w, x, h, c = draw(cell), torch.randn(B, I), torch.randn(B, H), torch.randn(B, H)
    pre = [total(w, k, x, h) for k in range(4)]
    made = stepped(cell, w, x, HiddenCell(h, c))
    for one, other in zip(made, lstm(pre, c), strict=True):
        close(one, other)


@either_bias
@pytest.mark.parametrize("gates", ["i", "f", "g", "o", "if", "og", "ifgo", "ogfi"])
def test_nonlinear_gate_lstm(bias: bool, gates: str):
    cell = NonlinearGateLSTMCell(H, gates=gates, bias=bias)
    w, x, h, c = draw(cell), torch.randn(B, I), torch.randn(B, H), torch.randn(B, H)
    pre = {}
    for k, gate in enumerate("ifgo"):
        pre[gate] = total(w, k, x, h)
        if gate in gates:
            row = sorted(gates, key="ifgo".index).index(gate)
            A, B_ = rows(w, "weight_relu_ih", row), rows(w, "weight_relu_hh", row)
            pre[gate] = pre[gate] + (x @ A.T + h @ B_.T).clamp(min=0)
    made = stepped(cell, w, x, HiddenCell(h, c))
    for one, other in zip(made, lstm([pre[k] for k in "ifgo"], c), strict=True):
        close(one, other)


def test_nonlinear_gate_lstm_without_its_new_matrices_is_an_lstm():
    cell = NonlinearGateLSTMCell(H)
    w = draw(cell)
    w |= {name: torch.zeros_like(w[name]) for name in ("weight_relu_ih", "weight_relu_hh")}
    x, state = torch.randn(B, I), HiddenCell(torch.randn(B, H), torch.randn(B, H))
    close(stepped(cell, w, x, state).h, stepped(LSTMCell(H), w, x, state).h)


SKIPS = [
    {},
    {"skip": "fixed", "alpha": -0.3},
    {"skip": "fixed", "alpha": 0.3, "bounded": True},
    {"skip": "channel"},
    {"skip": "input"},
    {"bounded": True},
    {"skip": "channel", "bounded": True},
    {"skip": "input", "bounded": True},
    {"skip": "none"},
]
every_skip = pytest.mark.parametrize("skip", SKIPS, ids=str)


def gate(w: Weights, k: int, z: Tensor, *, shares: bool) -> Tensor:
    """scale_k * z + bias_k where blocks are shared, z itself where they are not."""
    return rows(w, "gate_scale", k) * z + rows(w, "gate_bias", k) if shares else z


def skipped(cell: Any, w: Weights, x: Tensor, f: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
    """f * h + (1 - f) * candidate + alpha * h for every way to say what alpha is."""
    if cell.skip == "none":
        return candidate
    if cell.skip == "fixed":
        alpha: Any = cell.alpha
    elif cell.skip == "input":
        alpha = sigmoid(x @ w["weight_alpha"].T + w["bias_alpha"])
    else:
        alpha = sigmoid(w["alpha"]) if cell.bounded else w["alpha"]
    if cell.bounded:
        alpha = alpha * (1 - f)
    return f * h + (1 - f) * candidate + alpha * h


@either_bias
@every_skip
@pytest.mark.parametrize("shared_blocks", [1, 2, 4])
def test_ql_lstm(bias: bool, skip: dict[str, Any], shared_blocks: int):
    cell = QLLSTMCell(H, bias=bias, shared_blocks=shared_blocks, **skip)
    w, x, h, c = draw(cell), torch.randn(B, I), torch.randn(B, H), torch.randn(B, H)
    block = {1: (0, 0, 0, 0), 2: (0, 0, 1, 0), 4: (0, 1, 2, 3)}[shared_blocks]
    pre = [gate(w, k, total(w, block[k], x, h), shares=shared_blocks < 4) for k in range(4)]
    candidate, c_new = lstm(pre, c)
    made = stepped(cell, w, x, HiddenCell(h, c))
    close(made.c, c_new)
    close(made.h, skipped(cell, w, x, sigmoid(pre[1]), candidate, h))


@either_bias
@every_skip
@pytest.mark.parametrize("shared_blocks", [1, 2, 3])
def test_ql_gru(bias: bool, skip: dict[str, Any], shared_blocks: int):
    cell = QLGRUCell(H, bias=bias, shared_blocks=shared_blocks, **skip)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    block = {1: (0, 0, 0), 2: (0, 0, 1), 3: (0, 1, 2)}[shared_blocks]
    shares = shared_blocks < 3
    r, u = (sigmoid(gate(w, k, total(w, block[k], x, h), shares=shares)) for k in (0, 1))
    of_x, of_h = affine(w, block[2], x, h)
    n = tanh(gate(w, 2, of_x + r * of_h, shares=shares))
    wanted = u * h + (1 - u) * n if cell.skip == "none" else skipped(cell, w, x, u, n, h)
    close(stepped(cell, w, x, Hidden(h)).h, wanted)


@either_bias
@every_skip
@pytest.mark.parametrize("shared_blocks", [1, 2])
def test_ql_rnn(bias: bool, skip: dict[str, Any], shared_blocks: int):
    if skip.get("skip") == "none":
        shared_blocks = 1
    cell = QLRNNCell(H, bias=bias, shared_blocks=shared_blocks, **skip)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    shares = shared_blocks == 1 and cell.skip != "none"
    n = tanh(gate(w, 0, total(w, 0, x, h), shares=shares))
    wanted = n
    if cell.skip != "none":
        z = total(w, shared_blocks - 1, x, h)
        wanted = skipped(cell, w, x, sigmoid(gate(w, 1, z, shares=shares)), n, h)
    close(stepped(cell, w, x, Hidden(h)).h, wanted)


@pytest.mark.parametrize("make", [QLLSTMCell, QLGRUCell, QLRNNCell])
@pytest.mark.parametrize("block_size", [1, 2, 3])
def test_block_level_skip(make: Any, block_size: int):
    """After every block_size steps the state at the block's start is added, past all gates."""
    plain, cell = make(H), make(H, block_size=block_size)
    w, xs = draw(cell), torch.randn(7, B, I)
    made, wanted = cell.initial_state(B, xs), plain.initial_state(B, xs)
    start = wanted[0]
    for t, x in enumerate(xs, start=1):
        made = stepped(cell, w, x, made)
        wanted = stepped(plain, w, x, wanted)
        if t % block_size == 0:
            start = wanted[0] + start
            wanted = wanted._replace(h=start)
        close(made.h, wanted.h)
        close(made.block.start, start)
        assert made.block.steps.tolist() == [[t % block_size]] * B


def test_the_bounded_weight_on_h_never_exceeds_one():
    """With a candidate of 0, h' / h is the whole weight on h."""
    for alpha in (-50.0, 0.0, 50.0):
        cell = QLRNNCell(H, bounded=True)
        w = draw(cell) | {"alpha": torch.tensor([alpha])}
        f, state = torch.rand(100, H), Hidden(torch.ones(100, H))
        gates = cell.alpha_of(w, torch.zeros(100, H), f)
        weight = cell.mix(gates, f, torch.zeros(100, H), state).h
        assert weight.max() <= 1
        assert (weight >= f).all()


@either_bias
def test_min_gru(bias: bool):
    cell = MinGRUCell(H, bias=bias)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    z = sigmoid(x @ rows(w, "weight_ih", 0).T + rows(w, "bias_ih", 0))
    candidate = x @ rows(w, "weight_ih", 1).T + rows(w, "bias_ih", 1)
    close(cell.step(w, cell.coefficients(w, x), Hidden(h)).h, (1 - z) * h + z * candidate)


@either_bias
def test_min_lstm(bias: bool):
    cell = MinLSTMCell(H, bias=bias)
    w, x, h = draw(cell), torch.randn(B, I), torch.randn(B, H)
    f, i, candidate = (x @ rows(w, "weight_ih", k).T + rows(w, "bias_ih", k) for k in range(3))
    f, i = sigmoid(f), sigmoid(i)
    wanted = f / (f + i) * h + i / (f + i) * candidate
    close(cell.step(w, cell.coefficients(w, x), Hidden(h)).h, wanted)


def test_min_lstm_where_both_gates_close():
    """f and i of e^-800 each: the quotient 0/0 that the formula would compute is a half."""
    cell = MinLSTMCell(1, bias=True)
    w = {"weight_ih": torch.zeros(3, 1), "bias_ih": torch.tensor([-800.0, -800.0, 5.0])}
    a, b = cell.coefficients(w, torch.zeros(1, 1))
    assert (a.item(), b.item()) == (0.5, 2.5)


@either_bias
@pytest.mark.parametrize("refinements", [0, 1, 2, 3])
def test_pr_lstm(bias: bool, refinements: int):
    cell = PRLSTMCell(H, refinements=refinements, bias=bias)
    w, x = draw(cell), torch.randn(B, I)
    i, g, o = (x @ rows(w, "weight_leaf", k).T + rows(w, "bias_leaf", k) for k in range(3))
    c = sigmoid(i) * tanh(g)
    made = cell.leaf(w, x)
    close(made.c, c)
    close(made.h, sigmoid(o) * tanh(c))

    left, right = (HiddenCell(torch.randn(B, H), torch.randn(B, H)) for _ in range(2))
    i, g, o, f_l, f_r = (
        left.h @ rows(w, "weight_merge", k)[:, :H].T
        + right.h @ rows(w, "weight_merge", k)[:, H:].T
        + rows(w, "bias_merge", k)
        for k in range(5)
    )
    c = sigmoid(i) * tanh(g) + sigmoid(f_l) * left.c + sigmoid(f_r) * right.c
    h = sigmoid(o) * tanh(c)
    for r in range(refinements):
        i, g, o, f = (
            h @ rows(w, f"weight_refine{r}", k).T + rows(w, f"bias_refine{r}", k) for k in range(4)
        )
        c = sigmoid(i) * tanh(g) + sigmoid(f) * c
        h = sigmoid(o) * tanh(c)
    made = cell.merge(w, left, right)
    close(made.c, c)
    close(made.h, h)


@either_bias
@pytest.mark.parametrize("merging", ["sum", "linear"])
def test_pr_lstm_with_a_plain_merge(bias: bool, merging: Any):
    cell = PRLSTMCell(H, refinements=1, merging=merging, bias=bias)
    w = draw(cell)
    left, right = (HiddenCell(torch.randn(B, H), torch.randn(B, H)) for _ in range(2))
    if merging == "sum":
        assert not [name for name in w if "merge" in name]
        h, c = left.h + right.h, left.c + right.c
    else:
        assert w["weight_merge"].shape == (2 * H, 2 * H)
        h, c = (
            l_part @ rows(w, "weight_merge", k)[:, :H].T
            + r_part @ rows(w, "weight_merge", k)[:, H:].T
            + rows(w, "bias_merge", k)
            for k, (l_part, r_part) in enumerate(zip(left, right, strict=True))
        )
    plain = dataclasses.replace(cell, refinements=0).merge(w, left, right)
    close(plain.h, h)
    close(plain.c, c)
    i, g, o, f = (h @ rows(w, "weight_refine0", k).T + rows(w, "bias_refine0", k) for k in range(4))
    c = sigmoid(i) * tanh(g) + sigmoid(f) * c
    made = cell.merge(w, left, right)
    close(made.c, c)
    close(made.h, sigmoid(o) * tanh(c))


def test_pr_lstm_of_sums_is_the_sum_of_its_leaves():
    layer = tr.PRLSTM(I, H, merging="sum", refinements=0, dtype=torch.float64)
    x = torch.randn(9, B, I, dtype=torch.float64)
    leaves = PRLSTMCell(H).leaf(layer.weights(0), x)
    y, state = layer(x)
    close(y, leaves.h.cumsum(0))
    close(state.last.c[0], leaves.c.sum(0))


@either_bias
@pytest.mark.parametrize("refinements", [0, 1, 2])
def test_pr_rnn(bias: bool, refinements: int):
    cell = PRRNNCell(H, refinements=refinements, bias=bias)
    w, x = draw(cell), torch.randn(B, I)
    close(cell.leaf(w, x).h, x @ w["weight_leaf"].T + w.get("bias_leaf", 0.0))
    left, right = torch.randn(B, H), torch.randn(B, H)
    merge = w["weight_merge"]
    h = left @ merge[:, :H].T + right @ merge[:, H:].T + w.get("bias_merge", 0.0)
    h = h.clamp(min=0)
    for r in range(refinements):
        h = (h @ w[f"weight_refine{r}"].T + w.get(f"bias_refine{r}", 0.0)).clamp(min=0)
    close(cell.merge(w, Hidden(left), Hidden(right)).h, h)


CELLS = [
    RNNCell, GRUCell, LSTMCell, QLLSTMCell, QLGRUCell, QLRNNCell, NonlinearGateLSTMCell,
    PRLSTMCell, PRRNNCell, MinGRUCell, MinLSTMCell,
]  # fmt: skip


def test_every_registered_cell_is_here():
    assert {tr.layers.get(name).cell_type for name in tr.layers.names()} == set(CELLS)


@pytest.mark.parametrize("make", [cell for cell in CELLS if not issubclass(cell, MergeCell)])
def test_the_first_state_is_zero(make: Any):
    state = make(H).initial_state(B, torch.zeros(5, B, I, dtype=torch.float32))
    assert all(part.shape == (B, H) for part in state)
    assert all(part.dtype == torch.float32 and not part.any() for part in state)


@pytest.mark.parametrize("make", CELLS)
class TestEveryCell:
    def test_frozen_and_hashable(self, make: Any):
        assert make(3) == make(3)
        assert hash(make(3)) == hash(make(3))
        assert make(3) != make(4)
        with pytest.raises(AttributeError):
            make(3).hidden_size = 5

    def test_leading_axes_do_not_matter(self, make: Any):
        """What does not depend on the state is computed for all tokens at once, or one by one."""
        cell = make(H)
        w, x = draw(cell), torch.randn(5, B, I)
        compute = {
            StepCell: lambda x: (cell.project(w, x),),
            AffineCell: lambda x: cell.coefficients(w, x),
            MergeCell: lambda x: cell.leaf(w, x),
        }[next(kind for kind in (StepCell, AffineCell, MergeCell) if isinstance(cell, kind))]
        for whole, *single in zip(compute(x), *(compute(x_t) for x_t in x), strict=True):
            close(whole, torch.stack(single))

    def test_initialise_fills_every_entry(self, make: Any):
        cell = make(H)
        w = {n: torch.full(s.shape, math.nan) for n, s in cell.parameters(I).items()}
        cell.initialise(w)
        assert all(v.isfinite().all() for v in w.values())
