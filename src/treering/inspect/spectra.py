"""Singular values and spectral radius of every matrix that a state is multiplied with.

A plain recurrence with spectral radius below 1 forgets; gates and sums, which the matrix does not
know of, may keep what it would lose, so read it beside the gradients.

Legend: I input, H hidden, P width of the state that is multiplied.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from treering.cells.abstract import Cell, MergeCell
from treering.inspect.curves import thinned
from treering.inspect.record import Spectrum, significant
from treering.inspect.subject import NotAvailableError, names_of, recurrent_of

KEPT = 32
"""Singular values kept of each matrix."""


def spectra(model: nn.Module) -> list[Spectrum]:
    """By layer, direction, matrix and gate; of a merge for each of its two operands.

    Errors: NotAvailableError for no recurrence, or one that multiplies its state elementwise.
    Cost: a singular value and an eigenvalue decomposition of (H, P) for each.
    """
    recurrent = recurrent_of(model)
    names = matrices(recurrent.cell)
    if not names:
        raise NotAvailableError(
            f"a {type(recurrent).__name__} multiplies its state elementwise, with its gate a"
        )
    found = []
    for number, layer in enumerate(names_of(recurrent)):
        weights = recurrent.weights(*divmod(number, recurrent.num_directions))
        for name in names:
            gates = recurrent.cell.parameters(1)[name].gates or ("",)
            for gate, rows in zip(gates, weights[name].detach().chunk(len(gates)), strict=True):
                for operand, matrix in _operands(recurrent.cell, rows):
                    found.append(_spectrum(layer, name, gate, operand, matrix))
    return found


def matrices(cell: Cell) -> list[str]:
    """Names of the matrices whose shape does not depend on the input's width: a state's."""
    one, two = cell.parameters(1), cell.parameters(2)
    return [
        name for name, spec in one.items() if len(spec.shape) == 2 and spec.shape == two[name].shape
    ]


def _operands(cell: Cell, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The part of a gate's rows (H, P) for each state that they are multiplied with."""
    if isinstance(cell, MergeCell) and rows.shape[1] == 2 * cell.hidden_size:
        yield from zip(("left", "right"), rows.chunk(2, dim=1), strict=True)
    else:
        yield "", rows


def _spectrum(layer: str, name: str, gate: str, operand: str, matrix: Tensor) -> Spectrum:
    matrix = matrix.double()
    values = torch.linalg.svdvals(matrix).tolist()
    kept = thinned(len(values), KEPT)
    square = matrix.shape[0] == matrix.shape[1]
    radius = torch.linalg.eigvals(matrix).abs().max().item() if square else None
    return Spectrum(
        layer=layer,
        matrix=name,
        gate=gate,
        operand=operand,
        rows=matrix.shape[0],
        columns=matrix.shape[1],
        at=tuple(k + 1 for k in kept),
        singular_values=tuple(significant(values[k]) for k in kept),
        radius=None if radius is None else significant(radius),
    )
