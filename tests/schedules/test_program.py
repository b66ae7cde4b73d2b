"""Merges written down, and equal ones done once: the same states and gradients as the schedule's.

Legend: T time, B batch, I input, H hidden.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import treering as tr
from conformance.observe import assert_same, draw, met_before, observe
from treering.layers import Recurrent
from treering.schedules.abstract import Call
from treering.schedules.tree.program import equal_tokens, program_of

B = 32
SCHEDULES = [tr.Tree(), tr.Tree("left"), tr.Tree("random", seed=3)]


def tokens(T: int, symbols: int, batch: int = B) -> Tensor:
    """One-hot symbols (T, B, 3) in float64."""
    generator = torch.Generator().manual_seed(T + symbols)
    return F.one_hot(torch.randint(symbols, (T, batch), generator=generator), 3).double()


def observed(layer: Recurrent, x: Tensor, state: Any, kernel: str, **options: Any) -> Any:
    """As `observe`, of an input that wants no gradient."""

    def call(layer: Recurrent, _: Tensor, state: Any) -> tuple[Tensor, Any]:
        with tr.use_kernels(kernel):
            return layer(x, state, **options)

    return observe(layer, torch.zeros(1, dtype=torch.float64), state, call)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.bracket)
@pytest.mark.parametrize("name", ["pr-lstm", "pr-rnn"])
@pytest.mark.parametrize("T", [8, 17, 40])
class TestSharing:
    def build(self, name: str, schedule: tr.Tree) -> Recurrent:
        return tr.layers.get(name)(3, 4, schedule=schedule, dtype=torch.float64)

    def test_plain_and_carried_on(self, name: str, schedule: tr.Tree, T: int):
        layer, x = self.build(name, schedule), tokens(T, 2)
        for state in (None, met_before(layer, B, ragged=True)):
            seen = [observed(layer, x, state, k) for k in (f"shared-{name}", "reference")]
            assert_same(*seen)

    def test_lengths_and_resets(self, name: str, schedule: tr.Tree, T: int):
        layer, x = self.build(name, schedule), tokens(T, 2)
        lengths = torch.arange(B) % T + 1
        x[3:, 2] = float("nan")
        reset = torch.arange(T * B).view(T, B) % 11 == 0
        options = {"lengths": lengths, "reset": reset}
        seen = [observed(layer, x, None, k, **options) for k in (f"shared-{name}", "reference")]
        assert_same(*seen)

    def test_the_last_output_and_inner_states(self, name: str, schedule: tr.Tree, T: int):
        layer, x = self.build(name, schedule), tokens(T, 2)
        found = []
        for kernel in (f"shared-{name}", "reference"):
            with tr.use_kernels(kernel):
                found.append((layer.reduce(x), layer(x, return_states=True)[2].state))
        torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def plan(x: Tensor, schedule: Any, wanted: Any = "last", lengths: Tensor | None = None) -> Call:
    cell = tr.PRLSTM(3, 4).cell
    return Call(cell, {}, x, None, lengths, None, wanted, schedule)


@pytest.mark.parametrize("T", [1, 2, 3, 7, 8, 63, 64, 65])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.bracket)
def test_the_last_state_takes_one_merge_less_than_tokens(T: int, schedule: tr.Tree):
    program = program_of(plan(torch.zeros(T, 3, 3), schedule))
    assert program.merges == 3 * (T - 1)
    lengths = torch.tensor([T, 1, max(1, T - 2)])
    if T > 1:
        ragged = program_of(plan(torch.zeros(T, 3, 3), schedule, "last", lengths))
        assert ragged.merges == int((lengths - 1).sum())


@pytest.mark.parametrize("wanted", ["last", "all"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.bracket)
def test_operands_are_older_than_their_round(schedule: tr.Tree, wanted: str):
    program = program_of(plan(torch.zeros(37, 3, 3), schedule, wanted))
    begin = 0
    for end in program.ends:
        oldest = program.rows + begin
        assert int(program.left[begin:end].max()) < oldest
        assert int(program.right[begin:end].max()) < oldest
        begin = end
    start, uses = program.uses
    assert len(uses) == 2 * program.merges == int(start[-1])
    for row in range(program.rows + program.merges):
        for use in uses[start[row] : start[row + 1]].tolist():
            side = (program.left, program.right)[use % 2]
            assert int(side[use // 2]) == row


def test_parity_needs_a_sixth_of_the_merges():
    """2 symbols, 128 sequences of 40: 4,992 merges without sharing."""
    x = tokens(40, 2, 128)
    found = equal_tokens(x)
    assert found is not None
    alone = program_of(plan(x, tr.Tree()))
    shared = program_of(plan(x, tr.Tree()), found[0], share=True)
    assert alone.merges == 4992
    assert shared.merges < 800
    everywhere = program_of(plan(x, tr.Tree(), "all"), found[0], share=True)
    assert f"{everywhere.merges:,} of 9,216 merges" in str(
        tr.explain(tr.PRLSTM(3, 4, dtype=torch.float64), x)
    )


class TestWhatIsShared:
    def test_equal_rows_bit_by_bit(self):
        x = tokens(20, 2)
        found = equal_tokens(x)
        assert found is not None
        numbers, first = found
        assert torch.equal(x.flatten(0, 1)[first][numbers], x)
        assert len(first) == 2
        assert len(set(first.tolist())) == 2

    def test_different_tokens_are_not_looked_at_twice(self):
        assert equal_tokens(draw(20, B, 3)) is None

    def test_sums_that_agree_by_chance_are_seen_through(self):
        """Rows whose weighted sums are equal but which differ are not taken for one another."""
        x = tokens(20, 2)
        x[5, 3] = float("nan")
        assert equal_tokens(x) is None

    def test_an_input_that_wants_a_gradient_is_not_shared(self):
        layer, x = tr.PRLSTM(3, 4, dtype=torch.float64), tokens(20, 2)
        assert "shared-pr-lstm (" in str(tr.explain(layer, x))
        with (
            tr.use_kernels("shared-pr-lstm"),
            pytest.raises(ValueError, match="need gradients of their own"),
        ):
            layer(x.requires_grad_())
