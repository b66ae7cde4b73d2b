"""Penalties against sums written out by hand.

Legend: T time, B batch, H hidden.
"""

import copy
import gc
import math
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import treering as tr
from treering._errors import UserError
from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import MergeCell, ParameterSpec
from treering.layers.recurrent import Recurrent
from treering.penalties import AssociativityInTraining

H = 3
MATRICES = [f"{side}.{gate}" for side in ("weight_ih", "weight_hh") for gate in "ifgo"]
ALIASES = dict(zip([f"{m}_{k}" for m in "UW" for k in "ifgo"], MATRICES, strict=True))


@pytest.fixture
def layer() -> Recurrent:
    return tr.LSTM(2, H, dtype=torch.float64)


def matrix(layer: Recurrent, name: str) -> Tensor:
    """One gate's rows of a parameter, cut out by hand."""
    parameter, gate = name.split(".")
    first = "ifgo".index(gate) * H
    return layer.state_dict()[f"{parameter}_l0"][first : first + H]


def by_hand(layer: Recurrent, a: dict[str, float], p: dict[str, float]) -> float:
    return math.fsum(
        a[name] * abs(value) ** p[name]
        for name in MATRICES
        for value in matrix(layer, name).flatten().tolist()
    )


class TestLp:
    def test_the_eight_matrices(self, layer: Recurrent):
        assert list(tr.LpPenalty(layer).names()) == MATRICES

    @pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 1.3])
    def test_one_number_for_all(self, layer: Recurrent, p: float):
        made = tr.LpPenalty(layer, weights=0.7, exponents=p)().detach()
        wanted = by_hand(layer, dict.fromkeys(MATRICES, 0.7), dict.fromkeys(MATRICES, p))
        assert float(made) == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 1.3])
    @pytest.mark.parametrize("alias", ALIASES)
    def test_each_matrix_by_itself(self, layer: Recurrent, alias: str, p: float):
        wanted = 0.3 * math.fsum(
            abs(v) ** p for v in matrix(layer, ALIASES[alias]).flatten().tolist()
        )
        for name in (alias, ALIASES[alias]):
            made = tr.LpPenalty(layer, weights={name: 0.3}, exponents={name: p})().detach()
            assert float(made) == pytest.approx(wanted, rel=1e-12)

    def test_each_matrix_its_own_weight_and_exponent(self, layer: Recurrent):
        a = {name: 0.1 * k for k, name in enumerate(MATRICES)}
        p = {name: 0.5 + 0.25 * k for k, name in enumerate(MATRICES)}
        made = tr.LpPenalty(layer, a, p)().detach()
        assert float(made) == pytest.approx(by_hand(layer, a, p), rel=1e-12)

    def test_what_is_left_out(self, layer: Recurrent):
        """A weight of 0, an exponent of 2."""
        made = tr.LpPenalty(layer, {"U_i": 1.0}, {"W_o": 1.0})().detach()
        assert float(made) == pytest.approx(float(matrix(layer, "weight_ih.i").square().sum()))

    def test_every_layer_and_direction(self):
        deep = tr.LSTM(2, H, 2, bidirectional=True, dtype=torch.float64)
        wanted = sum(float(p.abs().sum()) for n, p in deep.state_dict().items() if "weight" in n)
        assert float(tr.LpPenalty(deep, 1.0, 1.0)().detach()) == pytest.approx(wanted, rel=1e-12)

    def test_through_an_order(self, layer: Recurrent):
        assert tr.LpPenalty(tr.Reordered(layer))() == tr.LpPenalty(layer)()

    @pytest.mark.parametrize("p", [0.5, 1.0, 1.3, 2.0])
    def test_gradient(self, layer: Recurrent, p: float):
        with torch.no_grad():
            layer.get_parameter("weight_hh_l0")[1, 1] = 0.0
        tr.LpPenalty(layer, 0.7, p)().backward()
        for name in ("weight_ih_l0", "weight_hh_l0"):
            w = layer.get_parameter(name)
            value = w.detach()
            wanted = 0.7 * p * value.abs() ** (p - 1) * value.sign()
            wanted[value == 0] = 0.0
            assert w.grad is not None
            torch.testing.assert_close(w.grad, wanted, rtol=1e-12, atol=1e-13)
        assert layer.get_parameter("bias_ih_l0").grad is None

    def test_gradient_of_a_layer_of_zeros(self, layer: Recurrent):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.zero_()
        penalty = tr.LpPenalty(layer, 1.0, 0.6, learned=True)
        value = penalty()
        value.backward()
        assert value == 0
        for parameter in (*layer.parameters(), *penalty.parameters()):
            assert parameter.grad is None or not parameter.grad.any()

    @pytest.mark.parametrize("name", tr.layers.names())
    def test_every_layer_has_matrices(self, name: str):
        penalty = tr.LpPenalty(tr.layers.get(name)(2, H), 1.0, 2.0)
        assert penalty.names()
        assert penalty() > 0

    def test_precision_of_the_layer(self, layer: Recurrent):
        assert tr.LpPenalty(layer)().dtype == torch.float64
        assert tr.LpPenalty(tr.LSTM(2, H))().dtype == torch.float32

    def test_it_does_not_own_the_layer(self, layer: Recurrent):
        assert list(tr.LpPenalty(layer).parameters()) == []
        model = torch.nn.ModuleDict({"layer": layer, "penalty": tr.LpPenalty(layer)})
        assert len(list(model.parameters())) == 4
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin["layer"].get_parameter("weight_ih_l0").zero_()
        assert twin["penalty"]() < model["penalty"]()


class TestLearnedLp:
    def test_starts_where_it_is_told(self, layer: Recurrent):
        a = {name: 0.1 + 0.1 * k for k, name in enumerate(MATRICES)}
        p = {name: 0.6 + 0.1 * k for k, name in enumerate(MATRICES)}
        made = tr.LpPenalty(layer, a, p, learned=True)()
        assert float(made.detach()) == pytest.approx(by_hand(layer, a, p), rel=1e-10)

    def test_the_total_is_fixed_whatever_is_learned(self, layer: Recurrent):
        penalty = tr.LpPenalty(layer, 0.25, 1.0, learned=True)
        optimiser = torch.optim.SGD(penalty.parameters(), lr=1.0)
        before = float(penalty().detach())
        for _ in range(200):
            optimiser.zero_grad()
            penalty().backward()
            optimiser.step()
        assert float(penalty().detach()) < before
        assert float(penalty.weights().detach().sum()) == pytest.approx(8 * 0.25, rel=1e-9)
        assert bool((penalty.weights() > 0).all())
        assert bool(((penalty.exponents() > 0.5) & (penalty.exponents() < 2)).all())

    def test_both_sets_of_eight_get_gradients(self, layer: Recurrent):
        penalty = tr.LpPenalty(layer, 0.25, 1.0, learned=True)
        inputs = [*penalty.parameters()]
        assert [p.shape for p in inputs] == [(8,), (8,)]
        penalty().backward()
        assert all(p.grad is not None and p.grad.all() for p in inputs)

    def test_saved_and_loaded(self, layer: Recurrent):
        one = tr.LpPenalty(layer, {n: 0.1 + k for k, n in enumerate(MATRICES)}, 1.2, learned=True)
        other = tr.LpPenalty(layer, 1.0, 1.0, learned=True)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(), other())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weights": {"V_i": 1.0}}, "unknown matrix 'V_i'"),
        ({"exponents": {"weight_ih.j": 1.0}}, "unknown matrix 'weight_ih.j'; did you mean"),
        ({"weights": -1.0}, "weights must be finite and not negative, got -1.0"),
        ({"weights": math.inf}, "weights must be finite and not negative, got inf"),
        ({"exponents": 0.0}, "exponents must be finite and above 0, got 0.0"),
        ({"exponents": math.nan}, "exponents must be finite and above 0, got nan"),
        ({"learned": True, "weights": 0.0}, "to be learned, every weight must start above 0"),
        ({"learned": True, "exponents": 2.0}, "and every exponent inside \\(0.5, 2\\)"),
    ],
)
def test_lp_mistakes(layer: Recurrent, options: dict[str, Any], text: str):
    with pytest.raises(UserError, match=text):
        tr.LpPenalty(layer, **options)


@pytest.mark.parametrize("penalty", [tr.LpPenalty, tr.AssociativityPenalty])
def test_not_a_layer(penalty: Any):
    with pytest.raises(TypeError, match="a penalty takes a treering layer, got Linear"):
        penalty(torch.nn.Linear(2, 3))


@final
@dataclass(frozen=True)
class SumCell(MergeCell):
    """merge(a, b) = a + factor * b: associative for a factor of 1 (or 0), and for no other."""

    factor: float = 1.0

    state_type: ClassVar[type[Hidden] | type[HiddenCell]] = Hidden

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        return {"weight_leaf": ParameterSpec((self.hidden_size, input_size))}

    def leaf(self, weights: Weights, x: Tensor) -> Hidden:
        return Hidden(x @ weights["weight_leaf"].T)

    def merge(self, weights: Weights, left: State, right: State) -> Hidden:
        return Hidden(left[0] + self.factor * right[0])


class Sum(Recurrent):
    """A layer made for this file alone; it is not registered."""

    cell_type = SumCell
    name = "sum"


class TestAssociativity:
    def test_zero_for_an_associative_merge(self):
        layer = Sum(2, H, dtype=torch.float64)
        value = tr.AssociativityPenalty(layer)(torch.randn(17, 4, 2, dtype=torch.float64))
        assert float(value.detach()) == pytest.approx(0.0, abs=1e-28)

    def test_three_tokens_by_hand(self):
        """(a + f b) + f c against a + f (b + f c): they differ by (f - f^2) c."""
        layer = Sum(2, H, dtype=torch.float64, factor=0.5)
        x = torch.randn(3, 1, 2, dtype=torch.float64)
        c = (x[2] @ layer.get_parameter("weight_leaf_l0").T).detach()
        wanted = ((0.5 - 0.25) * c).square().mean()
        torch.testing.assert_close(tr.AssociativityPenalty(layer)(x).detach(), wanted)

    def test_levels_and_neighbours_by_hand(self):
        """Seven tokens: five triples of single tokens, one of pairs."""
        layer = Sum(2, H, dtype=torch.float64, factor=0.5)
        x = torch.randn(7, 1, 2, dtype=torch.float64)
        leaf = (x[:, 0] @ layer.get_parameter("weight_leaf_l0").T).detach()
        third = [*leaf[2:], leaf[4] + 0.5 * leaf[5]]
        wanted = (0.25 * torch.stack(third)).square().mean()
        torch.testing.assert_close(tr.AssociativityPenalty(layer)(x).detach(), wanted)

    @pytest.mark.parametrize("make", [tr.PRLSTM, tr.PRRNN])
    def test_three_tokens_of_a_real_merge(self, make: Any):
        layer = make(2, H, dtype=torch.float64)
        cell, w = layer.cell, layer.weights(0)
        x = torch.randn(3, 1, 2, dtype=torch.float64)
        a, b, c = (cell.leaf(w, x_t) for x_t in x)
        one = cell.merge(w, cell.merge(w, a, b), c)
        other = cell.merge(w, a, cell.merge(w, b, c))
        wanted = torch.cat([(p - q).square() for p, q in zip(one, other, strict=True)]).mean()
        torch.testing.assert_close(tr.AssociativityPenalty(layer)(x), wanted)
        assert wanted > 0

    def test_padding_does_not_count(self):
        layer = tr.PRLSTM(2, H, dtype=torch.float64)
        penalty = tr.AssociativityPenalty(layer)
        x = torch.randn(7, 2, 2, dtype=torch.float64)
        lengths = torch.tensor([7, 4])
        poisoned = x.clone()
        poisoned[4:, 1] = torch.nan
        value = penalty(poisoned, lengths)
        value.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        # Weighted by the triples: 5 + 1 in the sequence of 7 tokens, 2 in that of 4.
        wanted = (6 * penalty(x[:, :1]) + 2 * penalty(x[:4, 1:])) / 8
        torch.testing.assert_close(value, wanted)

    @pytest.mark.parametrize("T", [1, 2])
    def test_nothing_to_compare(self, T: int):
        assert tr.AssociativityPenalty(tr.PRLSTM(2, H))(torch.randn(T, 3, 2)) == 0

    def test_two_layers_meet_their_own_inputs(self):
        """The mean over all triples: as many in each layer."""
        deep = tr.PRLSTM(2, H, 2, dtype=torch.float64)
        x = torch.randn(7, 2, 2, dtype=torch.float64)
        parts, given = [], x
        for level, width in enumerate((2, H)):
            single = tr.PRLSTM(width, H, dtype=torch.float64)
            for name, parameter in single.named_parameters():
                with torch.no_grad():
                    parameter.copy_(deep.get_parameter(name.replace("_l0", f"_l{level}")))
            parts.append(tr.AssociativityPenalty(single)(given))
            given = single(given)[0]
        torch.testing.assert_close(tr.AssociativityPenalty(deep)(x), torch.stack(parts).mean())

    def test_batch_first(self):
        layer = tr.PRLSTM(2, H)
        turned = tr.PRLSTM(2, H, batch_first=True)
        turned.load_state_dict(layer.state_dict())
        x = torch.randn(7, 2, 2)
        torch.testing.assert_close(
            tr.AssociativityPenalty(turned)(x.transpose(0, 1)), tr.AssociativityPenalty(layer)(x)
        )

    def test_in_the_order_in_which_the_layer_reads(self):
        layer = tr.PRLSTM(2, H)
        x, lengths = torch.randn(7, 2, 2), torch.tensor([7, 5])
        reordered = tr.AssociativityPenalty(tr.Reordered(layer))
        read = x[tr.orders.tree_order(7)]
        torch.testing.assert_close(reordered(x), tr.AssociativityPenalty(layer)(read))
        read = torch.stack(
            [x[tr.orders.tree_order(7), 0], torch.cat((x[tr.orders.tree_order(5), 1], x[5:, 1]))],
            1,
        )
        torch.testing.assert_close(
            reordered(x, lengths), tr.AssociativityPenalty(layer)(read, lengths)
        )

    def test_a_layer_that_merges_nothing(self):
        with pytest.raises(TypeError, match="LSTM merges nothing; AssociativityPenalty takes a"):
            tr.AssociativityPenalty(tr.LSTM(2, H))

    def test_it_can_be_minimised(self):
        layer = tr.PRLSTM(2, H)
        penalty, x = tr.AssociativityPenalty(layer), torch.randn(8, 4, 2)
        optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
        before = float(penalty(x).detach())
        for _ in range(30):
            optimiser.zero_grad()
            penalty(x).backward()
            optimiser.step()
        assert float(penalty(x).detach()) < before / 2


class TestAssociativityInTraining:
    """What the layer read last, in every way of calling it."""

    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize("ragged", [False, True])
    @pytest.mark.parametrize("wrap", [lambda layer: layer, tr.Reordered])
    @pytest.mark.parametrize("how", ["forward", "reduce"])
    def test_values_and_gradients_of_the_direct_computation(
        self, how: str, wrap: Any, ragged: bool, batch_first: bool
    ):
        layer = tr.PRLSTM(2, H, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
        given = wrap(layer)
        penalty = AssociativityInTraining(given, 0.3)
        x = torch.randn(7, 3, 2, dtype=torch.float64)
        x = (x.transpose(0, 1) if batch_first else x).contiguous().requires_grad_()
        lengths = torch.tensor([7, 3, 5]) if ragged else None
        into = [x, *layer.parameters()]

        given(x, lengths=lengths) if how == "forward" else given.reduce(x, lengths)
        value = penalty()
        wanted = 0.3 * tr.AssociativityPenalty(given)(x, lengths)
        torch.testing.assert_close(value, wanted)
        for found, expected in zip(
            torch.autograd.grad(value, into), torch.autograd.grad(wanted, into), strict=True
        ):
            torch.testing.assert_close(found, expected)
            assert found.any()

    def test_packed_and_unbatched(self):
        layer = tr.PRLSTM(2, H)
        penalty = AssociativityInTraining(layer, 1.0)
        x, lengths = torch.randn(7, 3, 2), torch.tensor([7, 3, 5])
        layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        torch.testing.assert_close(penalty(), tr.AssociativityPenalty(layer)(x, lengths))
        layer(x[:, 0])
        torch.testing.assert_close(penalty(), tr.AssociativityPenalty(layer)(x[:, :1]))

    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize("ragged", [False, True])
    def test_of_a_large_batch_a_few_sequences(self, ragged: bool, batch_first: bool):
        layer = tr.PRLSTM(2, H, batch_first=batch_first)
        penalty = AssociativityInTraining(layer, 1.0, sequences=3)
        x, lengths = torch.randn(7, 5, 2), torch.tensor([7, 3, 5, 4, 6]) if ragged else None
        alone = tr.AssociativityPenalty(tr.PRLSTM(2, H))
        alone._given[0].load_state_dict(layer.state_dict())
        parts = set()
        for seed in range(8):
            drawn = torch.randperm(5, generator=torch.Generator().manual_seed(seed))[:3]
            torch.manual_seed(seed)
            layer(x.transpose(0, 1) if batch_first else x, lengths=lengths)
            value = penalty()
            torch.testing.assert_close(
                value, alone(x[:, drawn], None if lengths is None else lengths[drawn])
            )
            parts.add(round(value.item(), 9))
        assert len(parts) > 1

    def test_no_sequences_are_refused(self):
        with pytest.raises(UserError, match="sequences must be at least 1, got 0"):
            AssociativityInTraining(tr.PRLSTM(2, H), sequences=0)

    def test_the_last_call_counts_once(self):
        layer = tr.PRLSTM(2, H)
        penalty = AssociativityInTraining(layer, 1.0)
        first, second = torch.randn(2, 7, 3, 2)
        layer(first)
        layer(second)
        torch.testing.assert_close(penalty(), tr.AssociativityPenalty(layer)(second))
        with pytest.raises(UserError, match="has read nothing in training since the last term"):
            penalty()

    def test_calls_in_evaluation_are_not_looked_at(self):
        layer = tr.PRLSTM(2, H)
        penalty = AssociativityInTraining(layer)
        x = torch.randn(7, 3, 2)
        layer.eval()(x)
        with torch.no_grad():
            layer.train()(x)
        with pytest.raises(UserError, match="has read nothing in training"):
            penalty()

    def test_it_keeps_no_input_and_no_graph(self):
        layer = tr.PRLSTM(2, H)
        penalty = AssociativityInTraining(layer)
        x = (torch.randn(7, 3, 2, requires_grad=True) * 2).requires_grad_()
        held = weakref.ref(x)
        layer.reduce(x)
        penalty().backward()
        del x
        gc.collect()
        assert held() is None

    def test_it_owns_nothing_and_follows_a_copy(self):
        model = torch.nn.ModuleDict({"layer": tr.PRLSTM(2, H)})
        model["penalty"] = AssociativityInTraining(model["layer"])
        assert not list(model["penalty"].parameters())
        twin, x = copy.deepcopy(model), torch.randn(7, 3, 2)
        twin["layer"](x)
        assert twin["penalty"]() > 0
        with pytest.raises(UserError, match="has read nothing"):
            model["penalty"]()

    @pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
    def test_weights_that_are_none(self, weight: float):
        with pytest.raises(UserError, match="weight must be finite and not negative"):
            AssociativityInTraining(tr.PRLSTM(2, H), weight)
