"""The options that step cells share, each against its definition written out, for every such layer.

Legend: I input, H hidden, B batch, T time.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import treering as tr
from treering._types import HiddenCell
from treering.cells.regularised import RegularisedCell

I, H, B, T = 3, 5, 4, 6  # noqa: E741  (the letters of the formulas)
LAYERS = [n for n in tr.layers.names() if issubclass(tr.layers.get(n).cell_type, RegularisedCell)]
every_layer = pytest.mark.parametrize("name", LAYERS)

pytestmark = pytest.mark.usefixtures("float64")


def cell_of(layer: Any) -> RegularisedCell:
    assert isinstance(layer.cell, RegularisedCell)
    return layer.cell


def fields(state: Any, cell: RegularisedCell) -> dict[str, Tensor]:
    """What zoneout keeps, by name."""
    return {name: getattr(state, name) for name in cell.zoned}


def random_state(cell: RegularisedCell) -> Any:
    zero: Any = cell.initial_state(B, torch.zeros(1))
    return zero._replace(**{name: torch.randn(B, H) for name in cell.zoned})


def drawn(cell: RegularisedCell) -> dict[str, Tensor]:
    return {name: torch.randn(spec.shape) for name, spec in cell.parameters(I).items()}


def close(made: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)


def normal(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def stepped(cell: RegularisedCell, w: dict[str, Tensor], x: Tensor, state: Any) -> Any:
    return cell.step(w, cell.project(w, x), state)


class TestLayerNorm:
    def test_lstm_written_out(self):
        cell = tr.LSTM(I, H, layer_norm=True).cell
        assert isinstance(cell, RegularisedCell)
        w, x, (h, c) = drawn(cell), torch.randn(B, I), random_state(cell)
        z = w["gain_ih"] * normal(x @ w["weight_ih"].T) + w["gain_hh"] * normal(
            h @ w["weight_hh"].T
        )
        i, f, g, o = (z + w["bias_ih"] + w["bias_hh"]).chunk(4, -1)
        wanted_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        wanted = o.sigmoid() * (w["gain_c"] * normal(wanted_c) + w["shift_c"]).tanh()
        made = stepped(cell, w, x, HiddenCell(h, c))
        close(made.c, wanted_c)
        close(made.h, wanted)

    def test_gru_written_out(self):
        cell = cell_of(tr.GRU(I, H, layer_norm=True))
        w, x, (h,) = drawn(cell), torch.randn(B, I), random_state(cell)
        of_x = (w["gain_ih"] * normal(x @ w["weight_ih"].T) + w["bias_ih"]).chunk(3, -1)
        of_h = (w["gain_hh"] * normal(h @ w["weight_hh"].T) + w["bias_hh"]).chunk(3, -1)
        r, z = ((of_x[k] + of_h[k]).sigmoid() for k in (0, 1))
        n = (of_x[2] + r * of_h[2]).tanh()
        close(stepped(cell, w, x, random_state(cell)._replace(h=h)).h, (1 - z) * n + z * h)

    @every_layer
    def test_scaling_both_matrices_changes_nothing(self, name: str):
        """What normalising the products means, whatever the cell does with them."""
        cell = cell_of(tr.layers.get(name)(I, H, layer_norm=True))
        w, x, state = drawn(cell), torch.randn(B, I), random_state(cell)
        scaled = w | {k: 1e4 * w[k] for k in ("weight_ih", "weight_hh")}
        # The constant added to the variance is then gone: bring it out of play on both sides.
        w |= {k: 1e3 * w[k] for k in ("weight_ih", "weight_hh")}
        for one, other in zip(
            fields(stepped(cell, w, x, state), cell).values(),
            fields(stepped(cell, scaled, x, state), cell).values(),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)

    @every_layer
    def test_gains_start_at_one(self, name: str):
        layer = tr.layers.get(name)(I, H, 2, layer_norm=True)
        for key, value in layer.named_parameters():
            if key.startswith("gain_"):
                assert (value == 1).all()
            elif key.startswith("shift_"):
                assert (value == 0).all()
            else:
                drawn = not ("alpha" in key or "scale" in key)
                assert drawn == (value.unique().numel() > 1)


@every_layer
class TestRecurrentDropout:
    def test_one_mask_for_all_steps(self, name: str):
        """Against a plain loop in which h is masked by hand before every step's matrices."""
        cell = cell_of(tr.layers.get(name)(I, H, recurrent_dropout=0.5))
        plain = cell_of(tr.layers.get(name)(I, H))
        w, x = drawn(cell), torch.randn(T, B, I)
        noise = cell.noise(w, T, B)
        assert noise.keys() == {"noise_hidden"}
        mask = noise["noise_hidden"]
        assert mask.unique().tolist() == [0.0, 2.0]
        made = tr.unroll(cell, w | noise, x)
        state, outputs = plain.initial_state(B, x), []
        for x_t in x:
            # A matrix times a masked h is the matrix with masked columns times h, row by row.
            rows = []
            for b in range(B):
                masked = dict(w)
                for matrix in cell.recurrent_weights:
                    masked[matrix] = w[matrix] * mask[b]
                one = tr.unroll(plain, masked, x_t[None, b : b + 1], _row(state, b))
                rows.append(one.state)
            state = _joined(rows)
            outputs.append(state[0])
        close(made.outputs, torch.stack(outputs))

    def test_drawn_anew_for_each_call_and_absent_in_evaluation(self, name: str):
        layer, x = tr.layers.get(name)(I, H, recurrent_dropout=0.5), torch.randn(T, B, I)
        assert not torch.equal(layer(x)[0], layer(x)[0])
        plain = tr.layers.get(name)(I, H)
        plain.load_state_dict(layer.state_dict())
        close(layer.eval()(x)[0], plain(x)[0])


def _row(state: Any, b: int) -> Any:
    return type(state)(*(s[b : b + 1] if isinstance(s, Tensor) else _row(s, b) for s in state))


def _joined(states: list[Any]) -> Any:
    parts = zip(*states, strict=True)
    return type(states[0])(
        *(torch.cat(p) if isinstance(p[0], Tensor) else _joined(list(p)) for p in parts)
    )


@every_layer
class TestZoneout:
    def test_masked_entries_keep_their_value(self, name: str):
        cell = cell_of(tr.layers.get(name)(I, H, zoneout=0.4))
        plain = cell_of(tr.layers.get(name)(I, H))
        w, x, state = drawn(cell), torch.randn(1, B, I), random_state(cell)
        noise = cell.noise(w, 1, B)
        assert noise["noise_zoneout"].unique().tolist() == [0.0, 1.0]
        made = tr.unroll(cell, w | noise, x, state).state
        new = tr.unroll(plain, w, x, state).state
        masks = noise["noise_zoneout"][0].chunk(len(cell.zoned), -1)
        for mask, (key, kept) in zip(masks, fields(made, cell).items(), strict=True):
            close(kept, torch.where(mask == 1, getattr(state, key), getattr(new, key)))

    def test_evaluation_mixes_in_the_same_proportion(self, name: str):
        cell = cell_of(tr.layers.get(name)(I, H, zoneout=0.4))
        plain = cell_of(tr.layers.get(name)(I, H))
        w, x, state = drawn(cell), torch.randn(1, B, I), random_state(cell)
        made = fields(tr.unroll(cell, w, x, state).state, cell)
        new = fields(tr.unroll(plain, w, x, state).state, cell)
        for key, mixed in made.items():
            close(mixed, 0.4 * getattr(state, key) + 0.6 * new[key])

    def test_masks_differ_from_step_to_step(self, name: str):
        cell = cell_of(tr.layers.get(name)(I, H, zoneout=0.5))
        mask = cell.noise(drawn(cell), 50, 40)["noise_zoneout"]
        assert not torch.equal(mask[0], mask[1])
        assert abs(mask.mean().item() - 0.5) < 0.01


@every_layer
class TestWeightDropout:
    def test_the_matrices_that_h_enters_are_masked_once_a_call(self, name: str):
        layer = tr.layers.get(name)(I, H, weight_dropout=0.5)
        cell, w = cell_of(layer), layer.weights(0)
        noise = cell.noise(w, T, B)
        assert noise.keys() == set(cell.recurrent_weights)
        for matrix, noisy in noise.items():
            close(noisy, torch.where(noisy == 0, 0.0, 2 * w[matrix]))
            assert 0 < (noisy == 0).sum() < noisy.numel()
        x = torch.randn(T, B, I)
        torch.manual_seed(5)
        made = layer(x)[0]
        torch.manual_seed(5)
        noise = cell.noise(w, T, B)
        plain = cell_of(tr.layers.get(name)(I, H))
        close(made, tr.unroll(plain, w | noise, x).outputs)

    def test_gradients_reach_the_parameters_through_the_mask(self, name: str):
        layer, x = tr.layers.get(name)(I, H, weight_dropout=0.5), torch.randn(T, B, I)
        layer(x)[0].sum().backward()
        grad = layer.get_parameter("weight_hh_l0").grad
        assert grad is not None
        assert 0 < (grad == 0).sum() < grad.numel()


@every_layer
class TestStartingValues:
    def test_forget_bias(self, name: str):
        kind = tr.layers.get(name)
        if name == "rnn":
            with pytest.raises(ValueError, match="needs a gate that keeps the state"):
                kind(I, H, forget_bias=1.0)
            return
        with pytest.raises(ValueError, match="with bias=False has none"):
            kind(I, H, bias=False, forget_bias=1.0)
        layer = kind(I, H, 2, bidirectional=True, forget_bias=1.5)
        cell = cell_of(layer)
        specs = cell.parameters(I)
        for level in (0, 1):
            for direction in (0, 1):
                w, total = layer.weights(level, direction), torch.zeros(H)
                for key, spec in specs.items():
                    if "bias" in key and cell.keep_gate in spec.gates:
                        blocks = dict(zip(spec.gates, w[key].chunk(len(spec.gates)), strict=True))
                        total = total + blocks.pop(str(cell.keep_gate))
                        assert all(block.std() > 0 for block in blocks.values())
                close(total.detach(), torch.full((H,), 1.5))

    def test_orthogonal(self, name: str):
        layer = tr.layers.get(name)(I, H, orthogonal=True)
        cell = cell_of(layer)
        for matrix in cell.recurrent_weights:
            gates = cell.parameters(I)[matrix].gates
            for block in layer.weights(0)[matrix].detach().chunk(len(gates)):
                close(block @ block.T, torch.eye(H))
        for dtype in (torch.bfloat16, torch.float16):
            tr.layers.get(name)(I, H, orthogonal=True, dtype=dtype)

    @pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
    @pytest.mark.parametrize("rate", [-0.1, 1.0, True, "much", float("nan")])
    def test_rates_are_probabilities(self, name: str, option: str, rate: Any):
        options: dict[str, Any] = {option: rate}
        with pytest.raises(ValueError, match=f"{option} is a probability of at least 0 and below"):
            tr.layers.get(name)(I, H, **options)


@every_layer
def test_the_same_seed_gives_the_same_bits(name: str):
    noisy: dict[str, Any] = {"recurrent_dropout": 0.3, "zoneout": 0.3, "weight_dropout": 0.3}
    layer, x, found = tr.layers.get(name)(I, H, 2, dropout=0.3, **noisy), torch.randn(T, B, I), []
    for _ in range(2):
        torch.manual_seed(7)
        layer.zero_grad()
        y, _ = layer(x)
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad for p in layer.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_layer
def test_padding_is_not_read_and_noise_is_not_shared_between_sequences(name: str):
    layer = tr.layers.get(name)(I, H, zoneout=0.3, recurrent_dropout=0.3)
    x, lengths = torch.randn(T, B, I), torch.tensor([T, 1, 3, T])
    x[3:, 2] = float("nan")
    y, state = layer(x, lengths=lengths)
    assert y[3:, 2].eq(0).all()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(s).all() for s in state if isinstance(s, Tensor))
    mask = cell_of(layer).noise(layer.weights(0), T, B)["noise_hidden"]
    assert not torch.equal(mask[0], mask[1])


def test_all_at_once_trains():
    """All options together, two layers: the loss falls."""
    layer = tr.LSTM(
        I, H, 2, layer_norm=True, recurrent_dropout=0.1, zoneout=0.1, weight_dropout=0.1,
        forget_bias=1.0, orthogonal=True,
    )  # fmt: skip
    head = nn.Linear(H, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    x = torch.randn(T, 32, I)
    target = x[0, :, :1]
    losses = []
    for _ in range(60):
        loss = (head(layer.reduce(x)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
