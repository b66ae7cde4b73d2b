"""`tr.Reordered`: every layer in the order of the tree.

Legend: T time, B batch.
"""

import torch

import treering as tr
from conformance.cases import Case
from conformance.features.feature import Refused, every, feature
from conformance.observe import assert_same, draw, flat, observe
from layers import test_reordered
from treering.layers import Recurrent

THEME = "Tree order, `tr.Reordered(layer)`"
T, B = 7, 3


@feature(THEME, "outputs at their tokens' places, one direction or both")
def places(case: Case) -> None:
    test_reordered.test_a_gather_before_and_after(case.name, bidirectional=False)
    test_reordered.test_a_gather_before_and_after(case.name, bidirectional=True)


@feature(THEME, "`lengths`, batch first, unbatched, packed: each sequence by its own length")
def layouts(case: Case) -> None:
    test_reordered.test_every_sequence_by_its_own_length(case.name, bidirectional=True)
    test_reordered.test_batch_first_and_unbatched(case.name)
    test_reordered.test_packed(case.name, batch_first=True)


@feature(THEME, "gradients are those of the layer on the tokens in that order")
def gradients(case: Case) -> None:
    layer, x, order = case.build(), draw(T, B, 2), tr.orders.tree_order(T)

    def reordered(layer: Recurrent, x: torch.Tensor, state: object):
        return tr.Reordered(layer)(x, state)

    def by_hand(layer: Recurrent, x: torch.Tensor, state: object):
        y, last = layer(x[order], state)
        return y[order.argsort()], last

    assert_same(observe(layer, x, None, reordered), observe(layer, x, None, by_hand))


@feature(THEME, "`return_states=True`: inner states and gates at their tokens' places")
def inner(case: Case) -> None:
    layer, x, order = case.build(2, 3, num_layers=2), draw(T, B, 2), tr.orders.tree_order(T)
    _, _, seen = tr.Reordered(layer)(x, return_states=True)
    _, _, read = layer(x[order], return_states=True)
    for a, b in zip(flat(seen.state), flat(read.state), strict=True):
        assert torch.equal(a[:, order], b)
    assert seen.gates.keys() == read.gates.keys()
    assert all(torch.equal(seen.gates[k][:, order], read.gates[k]) for k in read.gates)


@feature(
    THEME,
    "`step`",
    Refused(every, "in tree order cannot step: it reads the centre", "the centre is read first"),
)
def step(case: Case) -> None:
    tr.Reordered(case.build()).step(draw(B, 2))


@feature(
    THEME,
    "reset mask",
    Refused(every, "reset cannot be used in tree order", "split the sequences there instead"),
)
def reset(case: Case) -> None:
    flags = torch.zeros(T, B, dtype=torch.bool)
    tr.Reordered(case.build())(draw(T, B, 2), reset=flags)
