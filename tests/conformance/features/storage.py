"""Copies and files: nothing that is stored comes back different.

Legend: T time, B batch.
"""

import copy
import io
import pickle
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

import treering as tr
from conformance.cases import Case
from conformance.features.feature import feature
from conformance.observe import draw, flat
from treering.layers import Recurrent

THEME = "Storage"
T, B = 6, 3


def build(case: Case) -> tuple[Recurrent, Tensor]:
    return case.build(num_layers=2, bidirectional=True), draw(T, B, 2)


@feature(THEME, "`copy.deepcopy`: a module of its own")
def deepcopy(case: Case) -> None:
    layer, x = build(case)
    twin = copy.deepcopy(layer)
    y = layer(x)[0]
    assert torch.equal(twin(x)[0], y)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(layer(x)[0], y)


@feature(THEME, "`pickle` of the layer and of its state")
def pickled(case: Case) -> None:
    layer, x = build(case)
    twin = pickle.loads(pickle.dumps(layer))
    y, state = layer(x)
    assert torch.equal(twin(x)[0], y)
    again = pickle.loads(pickle.dumps(state))
    assert type(again) is type(state)
    assert torch.equal(twin(x, again)[0], layer(x, state)[0])


@feature(THEME, "state_dict through `torch.save` and `torch.load(weights_only=True)`")
def state_dict(case: Case) -> None:
    layer, x = build(case)
    file = io.BytesIO()
    torch.save({"layer": layer.state_dict(), "state": list(flat(layer(x)[1]))}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    other = tr.layers.get(case.name)(2, 3, 2, bidirectional=True, dtype=torch.float64)
    other.load_state_dict(loaded["layer"])
    assert torch.equal(other(x)[0], layer(x)[0])
    assert all(torch.equal(a, b) for a, b in zip(loaded["state"], flat(layer(x)[1]), strict=True))


class Shared(nn.Module):
    """One layer at two places."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.first = layer
        self.second = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]


@feature(THEME, "safetensors with a layer used at two places: one copy, tied when loaded")
def safetensors(case: Case) -> None:
    model, other = (Shared(case.build(3, 3)) for _ in range(2))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    x = draw(T, B, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, str(path))
        count = sum(p.numel() * p.element_size() for p in model.first.parameters())
        assert count <= path.stat().st_size < 2 * count + 2000
        load_model(other, str(path))
    assert other.first is other.second
    assert torch.equal(other(x), model(x))


@feature(THEME, "built on the meta device and filled from a state_dict")
def meta(case: Case) -> None:
    layer, x = build(case)
    other = tr.layers.get(case.name)(2, 3, 2, bidirectional=True, device="meta")
    assert all(parameter.is_meta for parameter in other.parameters())
    other.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(other(x)[0], layer(x)[0])
