"""How many operations a call takes, from the shapes of its weights.

Only matrix products are counted, a multiplication and an addition as two. Legend: T time, B batch.
"""

import torch

from treering.bench.problem import Problem
from treering.cells.abstract import MergeCell
from treering.dispatch import default_schedule
from treering.schedules.abstract import Call
from treering.schedules.tree import program

READS_INPUT = ("_ih", "_leaf")
"""In the names of matrices that are multiplied with the input alone."""


def operations(problem: Problem) -> int:
    """Of one call: every matrix is applied to each token, those of a merge to each merge.

    A backward pass has two products for each of the forward, one for the matrix and one for what
    it was multiplied with, unless that is an input without gradient.
    """
    case, layer = problem.case, problem.layer
    merges = _merges(problem) if isinstance(layer.cell, MergeCell) else 0
    total = 0
    for name, spec in layer.cell.parameters(case.input_size).items():
        if len(spec.shape) != 2:
            continue
        reads_input = any(part in name for part in READS_INPUT)
        of_merge = isinstance(layer.cell, MergeCell) and not reads_input
        times = case.batch * (merges if of_merge else case.time)
        products = 1
        if case.mode == "train":
            products = 3 if problem.differentiable_input or not reads_input else 2
        total += 2 * products * times * spec.shape[0] * spec.shape[1]
    return total


def _merges(problem: Problem) -> int:
    """Merges of one sequence, by writing them down."""
    case, layer = problem.case, problem.layer
    schedule = layer.schedule or default_schedule(layer.cell)
    x = torch.zeros(case.time, 1, 1)
    call = Call(layer.cell, {}, x, None, None, None, case.outputs, schedule)
    return program.program_of(call).merges


def widest_product(problem: Problem) -> tuple[int, int, int]:
    """Rows, columns and inner size of the product with most operations, as one over all tokens.

    What a library's product would be given if nothing had to wait for the token before.
    """
    case = problem.case
    shapes = [s.shape for s in problem.layer.cell.parameters(case.input_size).values()]
    columns, inner = max((s for s in shapes if len(s) == 2), key=lambda s: s[0] * s[1])
    return case.batch * case.time, columns, inner
