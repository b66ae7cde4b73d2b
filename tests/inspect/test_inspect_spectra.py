"""Spectra: matrices with known singular values, and which matrices there are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import treering as tr
from treering.inspect.spectra import KEPT, matrices, spectra
from treering.inspect.subject import NotAvailableError

Make = Callable[..., Any]

MATRICES = {
    "rnn": ["weight_hh"],
    "gru": ["weight_hh"],
    "lstm": ["weight_hh"],
    "ql-lstm": ["weight_hh"],
    "ql-gru": ["weight_hh"],
    "ql-rnn": ["weight_hh"],
    "pr-lstm": ["weight_merge", "weight_refine0"],
    "pr-rnn": ["weight_merge", "weight_refine0"],
    "nonlinear-gate-lstm": ["weight_hh", "weight_relu_hh"],
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_of_a_state(name: str) -> None:
    assert matrices(tr.layers.get(name)(2, 3).cell) == MATRICES[name]


def test_an_orthogonal_start_has_equal_singular_values(model_of: Make) -> None:
    found = spectra(model_of("transducer", "lstm", num_layers=2, orthogonal=True))
    assert [(one.layer, one.gate) for one in found] == [
        (f"layer {level}", gate) for level in (1, 2) for gate in "ifgo"
    ]
    for one in found:
        assert (one.rows, one.columns, one.matrix, one.operand) == (6, 6, "weight_hh", "")
        assert one.at == tuple(range(1, 7))
        assert one.singular_values == pytest.approx([1] * 6)
        assert one.radius == pytest.approx(1)


def test_a_shear_has_a_radius_below_its_largest_singular_value(model_of: Make) -> None:
    model = model_of("transducer", "rnn", bidirectional=True)
    with torch.no_grad():
        model.layer.weight_hh_l0.copy_(torch.diag(torch.arange(6.0)))
        shear = torch.diag(torch.full((6,), 0.5))
        shear[0, 5] = 3
        model.layer.weight_hh_l0_reverse.copy_(shear)
    first, second = spectra(model)
    assert first.singular_values == (5, 4, 3, 2, 1, 0)
    assert first.radius == 5
    assert second.layer == "layer 1 backward"
    assert second.radius == pytest.approx(0.5, rel=1e-3)
    # Of [[1/2, 3], [0, 1/2]]: the eigenvalues of A^T A sum to 9.5, their product is 1/16.
    largest = ((9.5 + (9.5**2 - 4 / 16) ** 0.5) / 2) ** 0.5
    assert second.singular_values[0] == pytest.approx(largest, rel=1e-3)


def test_a_merge_has_a_matrix_for_each_operand(model_of: Make) -> None:
    model = model_of("transducer", "pr-lstm")
    with torch.no_grad():
        model.layer.weight_merge_l0.zero_()
        model.layer.weight_merge_l0[18:24, :6] = 2 * torch.eye(6)  # f_left, of the left operand
    found = [one for one in spectra(model) if one.matrix == "weight_merge"]
    assert [(one.gate, one.operand) for one in found] == [
        (gate, operand)
        for gate in ("i", "g", "o", "f_left", "f_right")
        for operand in ("left", "right")
    ]
    radii = {(one.gate, one.operand): one.radius for one in found}
    assert radii.pop(("f_left", "left")) == 2
    assert set(radii.values()) == {0}


def test_a_projection_is_not_square(model_of: Make) -> None:
    found = spectra(model_of("transducer", "lstm", proj_size=2))
    assert [(one.matrix, one.rows, one.columns, one.radius) for one in found] == [
        *[("weight_hh", 6, 2, None)] * 4,
        ("weight_hr", 2, 6, None),
    ]


def test_many_singular_values_are_thinned() -> None:
    model = tr.models.Transducer(tr.RNN(3, 50, batch_first=True), 2, 2)
    (found,) = spectra(model)
    values = torch.linalg.svdvals(model.layer.weight_hh_l0).tolist()
    assert len(found.at) == KEPT
    assert (found.at[0], found.at[-1]) == (1, 50)
    assert found.singular_values == pytest.approx([values[k - 1] for k in found.at], rel=1e-3)


@pytest.mark.parametrize("name", ["min-gru", "min-lstm"])
def test_what_is_multiplied_elementwise_has_no_matrix(name: str, model_of: Make) -> None:
    with pytest.raises(NotAvailableError, match="elementwise"):
        spectra(model_of("transducer", name))
