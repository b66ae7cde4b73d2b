"""In which order a layer reads the tokens of an example, and what it makes of them.

For a layer that merges: the tree of the whole sequence, node by node. For any other the state
after each token read, and how far the token has moved it.

Legend: B batch, T time, I input, H hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from treering._types import State, Weights, map_tensors
from treering.cells.abstract import MergeCell
from treering.inspect.record import Node, Reading, significant
from treering.inspect.subject import (
    AnyBatch,
    NotAvailableError,
    entering,
    layer_of,
    names_of,
    recurrent_of,
    steps_of,
    valid_tokens,
)
from treering.layers import Recurrent, Reordered
from treering.schedules.tree import Tree
from treering.schedules.tree.shift_reduce import (
    Program,
    balanced_rank,
    given_rank,
    program,
    random_ranks,
)


@torch.no_grad()
def readings(model: nn.Module, batch: AnyBatch, words: Sequence[str]) -> list[Reading]:
    """One for each sequence and direction of the first layer, the one that reads tokens.

    words: the text of each token id, the empty token that a Transducer adds last.

    Errors: NotAvailableError for no recurrence, or a schedule whose order is not known here.
    Cost: one forward pass; of a tree one merge at a time, as many as tokens.
    """
    recurrent, layer = recurrent_of(model), layer_of(model)
    x = entering(model, batch)
    valid = valid_tokens(x, batch)
    order = torch.arange(x.shape[1]).expand_as(valid)
    if isinstance(layer, Reordered):
        x, steps = layer.reorder(x, batch.lengths)
        order = steps.t()
    found = []
    for row in range(len(x)):
        size = int(valid[row].sum())
        ids: list[int] = batch.inputs[row].tolist()
        texts = [words[i] for i in ids] + [words[-1]] * (x.shape[1] - len(ids))
        for direction, name in enumerate(names_of(recurrent)[: recurrent.num_directions]):
            places = order[row, :size]
            tokens = x[row, :size].unsqueeze(1)
            if direction:
                places, tokens = places.flip(0), tokens.flip(0)
            if isinstance(recurrent.cell, MergeCell):
                schedule = tree_of(recurrent)
                weights = recurrent.weights(0, direction)
                ranks = None if batch.ranks is None else batch.ranks[row].tolist()
                plan = merges(schedule, size, ranks)
                nodes = tree_nodes(recurrent.cell, weights, tokens, plan)
            else:
                schedule, nodes = None, _steps(model, batch, row, direction, size)
            found.append(
                Reading(
                    layer=name,
                    tokens=tuple(texts[:size]),
                    order=tuple(places.tolist()),
                    nodes=tuple(nodes),
                    bracket=None if schedule is None else schedule.bracket,
                )
            )
    return found


def tree_of(recurrent: Recurrent) -> Tree:
    """The schedule of a layer that merges.

    Errors: NotAvailableError for another one than a tree in one process.
    """
    schedule = Tree() if recurrent.schedule is None else recurrent.schedule
    if not isinstance(schedule, Tree) or schedule.group is not None:
        raise NotAvailableError(f"the order of merges under {schedule} is not known here")
    return schedule


def merges(schedule: Tree, size: int, ranks: Sequence[float] | None = None) -> Program:
    """The merges of a sequence of `size` tokens, as a shift-reduce program; ranks: if given."""
    if schedule.bracket == "given":
        assert ranks is not None
        return program(given_rank(ranks, size), 0, size)
    known = {
        "left": float,
        "balanced": balanced_rank,
        "random": random_ranks(schedule.seed, schedule.block),
    }
    return program(known[schedule.bracket], 0, size)


def tree_nodes(cell: MergeCell, weights: Weights, x: Tensor, plan: Program) -> list[Node]:
    """The nodes below the last state of a plan over x (T, 1, I), tokens first, in their order."""
    T = len(x)
    leaves = cell.leaf(weights, x)
    states: list[State] = [map_tensors(lambda f, t=t: f[t], leaves) for t in range(T)]
    spans = [(t, 1) for t in range(T)]
    for left, right in plan.merges:
        states.append(cell.merge(weights, states[left], states[right]))
        spans.append((spans[left][0], spans[left][1] + spans[right][1]))
    needed, waiting = set(range(T)), [plan.states[-1]]
    while waiting:
        node = waiting.pop()
        needed.add(node)
        waiting += plan.merges[node - T] if node >= T else ()
    number = {node: place for place, node in enumerate(sorted(needed))}
    found = []
    for node in sorted(needed):
        h: Tensor = states[node][0]
        left, right = plan.merges[node - T] if node >= T else (None, None)
        moved = h if left is None else h - states[left][0]
        found.append(
            Node(
                start=spans[node][0],
                size=spans[node][1],
                left=None if left is None else number[left],
                right=None if right is None else number[right],
                norm=significant(h.norm().item()),
                change=significant(moved.norm().item()),
            )
        )
    return found


def _steps(model: nn.Module, batch: AnyBatch, row: int, direction: int, size: int) -> list[Node]:
    """The state after each token that a step or affine cell reads, and how far it moved."""
    h = steps_of(model, batch).inner.state[0][direction, row, :size]
    if direction:
        h = h.flip(0)
    before = torch.cat((torch.zeros_like(h[:1]), h[:-1]))
    norms, changes = h.norm(dim=-1).tolist(), (h - before).norm(dim=-1).tolist()
    return [
        Node(start=0, size=k + 1, norm=significant(norm), change=significant(change))
        for k, (norm, change) in enumerate(zip(norms, changes, strict=True))
    ]
