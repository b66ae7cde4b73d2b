"""The state: carried on, cut off, started anew, taken token by token.

Legend: T time, B batch.
"""

import pytest
import torch

import treering as tr
from conformance import test_layouts, test_time
from conformance.cases import Case
from conformance.features.feature import Refused, every, feature
from conformance.observe import draw, floats
from treering._types import map_tensors

THEME = "State"


@feature(THEME, "`step` token by token gives the whole call's outputs, states and gradients")
def step(case: Case) -> None:
    for T in (1, 2, 3, 17):
        test_time.test_whole_sequence_is_token_by_token(case, T)
    test_time.test_token_by_token_from_a_state(case, 8, ragged=True)


@feature(
    THEME,
    "`step` of a layer in two directions",
    Refused(
        every, "cannot step: its reverse direction starts", "the second direction needs the end"
    ),
)
def step_both_ways(case: Case) -> None:
    case.build(bidirectional=True).step(draw(3, 2))


@feature(THEME, "cut anywhere and carried on: the same numbers")
def carry(case: Case) -> None:
    test_time.test_cut_anywhere_and_carried_on(case, 17)
    test_time.test_cut_anywhere_from_a_ragged_state(case, 17)


@feature(THEME, "`tr.detach`: values carried on, gradients end at the cut (truncated BPTT)")
def detach(case: Case) -> None:
    layer, x = case.build(), draw(9, 3, 2)
    parameters = list(layer.parameters())
    first, second = x[:5].clone().requires_grad_(), x[5:].clone().requires_grad_()
    y, state = layer(first)
    z, last = layer(second, tr.detach(state))
    expected, expected_last = layer(x)
    torch.testing.assert_close(torch.cat((y, z)), expected, rtol=1e-12, atol=1e-13)
    test_layouts.same_state(last, expected_last)

    heads = [z, *floats(last)]
    weights = [draw(*head.shape) for head in heads]
    into = [first, second, *parameters]
    found = torch.autograd.grad(heads, into, weights, allow_unused=True, materialize_grads=True)
    assert not found[0].any()
    constant = map_tensors(lambda s: s.detach().clone(), state)
    again, after = layer(second, constant)
    alone = torch.autograd.grad(
        [again, *floats(after)], into[1:], weights, allow_unused=True, materialize_grads=True
    )
    for one, other in zip(found[1:], alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@feature(THEME, "reset mask in mid-sequence: pieces run separately")
def reset(case: Case) -> None:
    for padded in (False, True):
        test_time.test_reset_is_pieces_run_separately(case, padded, "here and there")
    test_time.test_after_a_reset_token_by_token(case)


@feature(
    THEME,
    "reset mask in two directions",
    Refused(every, "reset cannot be used with bidirectional", "split the batch at the resets"),
)
def reset_both_ways(case: Case) -> None:
    flags = torch.zeros(5, 3, dtype=torch.bool)
    case.build(bidirectional=True)(draw(5, 3, 2), reset=flags)


@feature(THEME, "`reduce`: the last output alone")
def reduce(case: Case) -> None:
    test_time.test_reduce_is_the_last_output(case, 17)


@feature(THEME, "a state may be plain tuples, as read from a file")
def plain_tuples(case: Case) -> None:
    test_layouts.test_a_state_may_be_plain_tuples(case)


@feature(THEME, "zeros (L*D, B, H), a pair as nn.LSTM's `init_hidden` makes them, start any layer")
def zeros(case: Case) -> None:
    layer, x = case.build(num_layers=2, bidirectional=True), draw(5, 3, 2)
    y, last = layer(x)
    zero = x.new_zeros(4, 3, 3)
    for start in ((zero, zero), [zero, zero]):
        z, end = layer(x, start)
        assert torch.equal(z, y)
        assert type(end) is type(last)
        test_layouts.same_state(end, last)
    alone = zero[:, 0]
    torch.testing.assert_close(layer(x[:, 0], (alone, alone))[0], y[:, 0], rtol=1e-12, atol=1e-13)
    if getattr(last, "_fields", ()) == ("h", "c"):
        return
    # Nothing else of that shape passes for a start, and no gradient is lost on the way.
    for other in (zero + 1e-9, torch.zeros_like(zero, requires_grad=True)):
        for wrong in ((zero, other), (other, zero)):
            with pytest.raises(ValueError, match=r"hidden|state|hx"):
                layer(x, wrong)


@feature(THEME, "a state that does not fit is refused, whatever it is")
def wrong_states(case: Case) -> None:
    layer, x = case.build(num_layers=2), draw(5, 3, 2)
    for other in ("gru", "ql-lstm", "pr-lstm"):
        wider = tr.layers.get(other)(2, 4, 2, dtype=torch.float64)
        _, state = wider(x)
        with pytest.raises(ValueError, match=r"\S"):
            layer(x, state)
    _, of_two = layer(x[:, :2])
    _, single = case.build()(x)
    _, rounded = case.build(num_layers=2).float()(x.float())
    for state in (of_two, single, rounded, (), "state", 0.5):
        with pytest.raises((ValueError, TypeError), match=r"\S"):
            layer(x, state)
