"""The tree over processes against the tree in one: outputs, states, every gradient, refusals.

Legend: R ranks, P tokens of every part but the last, L of the last, B batch, H hidden.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch.utils.checkpoint import checkpoint

import treering as tr
from conformance.observe import ATOL, RTOL, draw, flat, floats
from distributed.worlds import in_world, join
from treering.layers import Recurrent
from treering.schedules.tree import ranks

B, WIDTH, H = 2, 3, 4
PARTS = ((1, 1), (2, 1), (4, 4), (8, 5))


def same(one: Tensor, other: Tensor, what: object) -> None:
    torch.testing.assert_close(
        one, other, rtol=RTOL, atol=ATOL, msg=lambda text: f"rank {dist.get_rank()} {what}: {text}"
    )


def pair(name: str, **options: Any) -> tuple[Recurrent, Recurrent]:
    """A layer over the ranks, and the same in one process."""
    torch.manual_seed(1)
    options |= {"dtype": torch.float64}
    split = tr.layers.get(name)(WIDTH, H, schedule=tr.Tree(group="world"), **options)
    whole = tr.layers.get(name)(WIDTH, H, **options)
    whole.load_state_dict(split.state_dict())
    return split, whole


def parts(P: int, L: int) -> tuple[Tensor, Tensor, list[slice]]:
    """A sequence to take gradients of, this rank's part likewise, and where every rank's is."""
    R = dist.get_world_size()
    x = draw((R - 1) * P + L, B, WIDTH).requires_grad_()
    places = [slice(rank * P, min((rank + 1) * P, len(x))) for rank in range(R)]
    return x, x.detach()[places[dist.get_rank()]].clone().requires_grad_(), places


def weighed(state: Any, seed: int) -> Tensor:
    """A function of a state's every number, another one for every seed."""
    return torch.stack(
        [(s * draw(*s.shape, seed=50 * seed + k)).sum() for k, s in enumerate(floats(state))]
    ).sum()


Losses = Callable[[Recurrent, Recurrent, Tensor, Tensor, list[slice]], tuple[Tensor, Tensor]]
"""(split, whole, x, this rank's x, where ranks' are) -> this rank's loss, and the sum of all."""


def of_outputs_and_states(
    split: Recurrent, whole: Recurrent, x: Tensor, part: Tensor, places: list[slice]
) -> tuple[Tensor, Tensor]:
    """Every rank uses its outputs and the state, each in its own way."""
    (y, state), (expected, expected_state) = split(part), whole(x)
    mine = places[dist.get_rank()]
    same(y, expected[mine], "outputs")
    for k, (one, other) in enumerate(zip(flat(state), flat(expected_state), strict=True)):
        same(one, other, f"state {k}")
    to_outputs = draw(*expected.shape, seed=9)
    total = (expected * to_outputs).sum()
    for rank in range(len(places)):
        total = total + weighed(expected_state, rank)
    return (y * to_outputs[mine]).sum() + weighed(state, dist.get_rank()), total


def of_different_results(
    split: Recurrent, whole: Recurrent, x: Tensor, part: Tensor, places: list[slice]
) -> tuple[Tensor, Tensor]:
    """The last rank uses its outputs, the first one the state, the others nothing."""
    (y, state), (expected, expected_state) = split(part), whole(x)
    by_rank = {0: lambda: weighed(state, 0), len(places) - 1: lambda: (y**2).sum()}
    here = by_rank.get(dist.get_rank(), lambda: 0 * y.sum())()
    return here, (expected[places[-1]] ** 2).sum() + weighed(expected_state, 0)


def of_last_output(
    split: Recurrent, whole: Recurrent, x: Tensor, part: Tensor, places: list[slice]
) -> tuple[Tensor, Tensor]:
    """What all ranks use alike counts as often as there are ranks."""
    last, expected = split.reduce(part), whole.reduce(x)
    same(last, expected, "last output")
    return (last**2).sum() / len(places), (expected**2).sum()


def through_checkpoints(
    split: Recurrent, whole: Recurrent, x: Tensor, part: Tensor, places: list[slice]
) -> tuple[Tensor, Tensor]:
    """The layer's forward pass runs a second time, in the backward pass."""
    result: Any = checkpoint(split, part, use_reentrant=False)
    y, state = result
    expected, expected_state = whole(x)
    here = weighed(state, 1) if dist.get_rank() == 0 else (y**3).sum()
    return here, weighed(expected_state, 1) + (expected[places[0].stop :] ** 3).sum()


def check_gradients(losses: Losses, name: str, options: dict[str, Any], P: int, L: int) -> None:
    split, whole = pair(name, **options)
    x, part, places = parts(P, L)
    mine = places[dist.get_rank()]
    here, total = losses(split, whole, x, part, places)
    here.backward()
    total.backward()
    what = f"{losses.__name__} {name} {options} {P} {L}"
    assert part.grad is not None
    assert x.grad is not None
    same(part.grad, x.grad[mine], f"{what}: gradient of x")
    for (key, weight), other in zip(split.named_parameters(), whole.parameters(), strict=True):
        assert weight.grad is not None, (what, key)
        dist.all_reduce(weight.grad)
        assert other.grad is not None
        same(weight.grad, other.grad, f"{what}: gradient of {key}")


def check_gradients_asked_of_weights_alone() -> None:
    """What is not asked for is not computed, but other ranks wait for it."""
    split, whole = pair("pr-lstm")
    x, part, _ = parts(2, 1)
    weight = split.get_parameter("weight_merge_l0")
    (grad,) = torch.autograd.grad(split.reduce(part).sum() / dist.get_world_size(), [weight])
    dist.all_reduce(grad)
    expected = whole.get_parameter("weight_merge_l0")
    same(grad, torch.autograd.grad(whole.reduce(x).sum(), [expected])[0], "of one weight")


def check_without_gradients() -> None:
    split, whole = pair("pr-rnn")
    x, part, places = parts(4, 2)
    mine = places[dist.get_rank()]
    with torch.no_grad():
        assert not split(part)[0].requires_grad
    for weight in split.parameters():
        weight.requires_grad_(False)
    assert not split(part.detach())[0].requires_grad
    # One rank alone wants a gradient, of what reached all others.
    given = part if dist.get_rank() == 0 else part.detach()
    split(given)[0].pow(2).sum().backward()
    if dist.get_rank() == 0:
        whole(x)[0].pow(2).sum().backward()
        assert part.grad is not None
        assert x.grad is not None
        same(part.grad, x.grad[mine], "frozen")


def check_layouts() -> None:
    split, whole = pair("pr-lstm", batch_first=True)
    x, part, places = parts(4, 3)
    mine = places[dist.get_rank()]
    same(split(part.transpose(0, 1))[0], whole(x.transpose(0, 1))[0][:, mine], "batch first")
    y, state = split(part[:, 0])
    expected, expected_state = whole(x[:, 0])
    same(y, expected[mine], "unbatched")
    same(state.last.h, expected_state.last.h, "unbatched")
    y, state = split(part.transpose(0, 1)[:0])
    assert y.shape == (0, len(part), H)
    assert state.length.shape == (1, 0)
    y.sum().backward()


def check_inner_states() -> None:
    split, whole = pair("pr-lstm", num_layers=2)
    x, part, places = parts(4, 1)
    mine = places[dist.get_rank()]
    inner, expected = split(part, return_states=True)[2], whole(x, return_states=True)[2]
    same(inner.state.c, expected.state.c[:, mine], "inner states")


def check_carrying_on_in_one_process() -> None:
    split, whole = pair("pr-lstm")
    x, part, _ = parts(4, 3)
    _, state = split(part)
    more = draw(5, B, WIDTH, seed=3)
    same(whole(more, state)[0], whole(torch.cat((x, more)))[0][len(x) :], "carried on")


def check_cost() -> None:
    """Messages of one state in ceil(log2 R) rounds, forward and backward."""
    split, _ = pair("pr-lstm")
    _, part, _ = parts(8, 8)
    swaps: list[int] = []
    plain = ranks._swap

    def counted(group: Any, partner: int, sends: bool, receives: bool, message: Tensor) -> Tensor:
        swaps.append(message.numel())
        return plain(group, partner, sends, receives, message)

    ranks._swap = counted
    try:
        y, _ = split(part)
        rounds = (dist.get_world_size() - 1).bit_length()
        assert len(swaps) <= rounds
        assert set(swaps) <= {2 * B * H}
        y.sum().backward()
        assert len(swaps) <= 2 * rounds
    finally:
        ranks._swap = plain


def refusal(call: Callable[[], object]) -> str:
    """The message of a call that all ranks must refuse in the same words."""
    try:
        call()
    except ValueError as error:
        message = str(error)
    else:
        message = "nothing was refused"
    messages: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(messages, message)
    assert len(set(messages)) == 1, messages
    assert "\n" not in message
    return message


def check_refusals() -> None:
    split, _ = pair("pr-lstm")
    other = tr.PRLSTM(WIDTH, H, refinements=0, dtype=torch.float64, schedule=split.schedule)
    rank, R = dist.get_rank(), dist.get_world_size()

    def tokens(*sizes: int, batch: int = B) -> Tensor:
        return draw((sizes + sizes[-1:] * R)[rank], batch, WIDTH)

    first, last = rank == 0, rank == R - 1
    message = refusal(lambda: split(draw(3, B, WIDTH)))
    assert f"{', '.join(['3'] * R)} tokens" in message
    assert f"4 ({4 * R - 3} to {4 * R} in all)" in message
    assert "same power of two" in refusal(lambda: split(draw(5 if last else 4, B, WIDTH)))
    if R > 2:
        assert "same power of two" in refusal(lambda: split(tokens(4, 2, 4)))
    message = refusal(lambda: split(tokens(2, batch=B + (not first))))
    assert f"batches are {B}, {B + 1}" in message
    _, state = tr.PRLSTM(WIDTH, H, dtype=torch.float64)(draw(2, B, WIDTH))
    assert "rank 0 was given a state" in refusal(lambda: split(tokens(2), state if first else None))
    lengths = torch.tensor([1, 2]) if last else None
    message = refusal(lambda: split(tokens(2), lengths=lengths))
    assert f"rank {R - 1} was given lengths" in message
    assert "was given reset" in refusal(
        lambda: split(tokens(2), reset=torch.ones(2, B, dtype=torch.bool))
    )
    assert "different layers" in refusal(lambda: (split if first else other)(tokens(2)))
    assert "different layers" in refusal(
        lambda: split.reduce(tokens(2)) if first else split(tokens(2))
    )
    with torch.set_grad_enabled(first):
        assert "switched off on rank 1" in refusal(lambda: split(tokens(2)))
    assert "no group of that name" in refusal(
        lambda: tr.PRLSTM(WIDTH, H, schedule=tr.Tree(group="wrold"))(draw(2, B, WIDTH).float())
    )
    # All that was refused has left nothing on its way to another rank.
    check_gradients(of_outputs_and_states, "pr-lstm", {}, 2, 2)


def check_second_derivatives_are_refused() -> None:
    split, _ = pair("pr-rnn")
    _, part, _ = parts(2, 2)
    (grad,) = torch.autograd.grad(split.reduce(part).pow(2).sum(), [part], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def check_explain() -> None:
    split, _ = pair("pr-lstm")
    _, part, _ = parts(2, 1)
    over = f"Tree(bracket='balanced', seed=0, group='world') over {dist.get_world_size()} ranks"
    assert tr.explain(split, part).lines[0].startswith(f"{over}: ")


def check_part_of_the_world() -> None:
    """A group's ranks are its own; whoever is not in it is told so."""
    group: Any = dist.new_group([1, 2])
    if dist.get_rank() == 0:
        with pytest.raises(TypeError, match="only the members of a group"):
            tr.Tree(group=group)
        return
    schedule = tr.Tree(group=group)
    assert pickle.loads(pickle.dumps(schedule)) == copy.deepcopy(schedule) == schedule
    assert "0x" not in repr(schedule)
    torch.manual_seed(1)
    split = tr.PRLSTM(WIDTH, H, schedule=schedule, dtype=torch.float64)
    whole = tr.PRLSTM(WIDTH, H, dtype=torch.float64)
    whole.load_state_dict(split.state_dict())
    x, here = draw(7, B, WIDTH), dist.get_rank() - 1
    same(split(x[4 * here :][:4])[0], whole(x)[0][4 * here :][:4], "two of three")


def check_all() -> None:
    for P, L in PARTS:
        check_gradients(of_outputs_and_states, "pr-lstm", {}, P, L)
        check_gradients(of_last_output, "pr-lstm", {}, P, L)
        check_gradients(of_different_results, "pr-rnn", {"num_layers": 2}, P, L)
        check_gradients(through_checkpoints, "pr-rnn", {"num_layers": 2}, P, L)
    check_gradients(of_outputs_and_states, "pr-rnn", {"num_layers": 2}, 4, 3)
    check_gradients(of_last_output, "pr-rnn", {"refinements": 0}, 4, 4)
    check_gradients_asked_of_weights_alone()
    check_without_gradients()
    check_layouts()
    check_inner_states()
    check_carrying_on_in_one_process()
    check_cost()
    check_explain()
    check_second_derivatives_are_refused()
    check_refusals()
    if dist.get_world_size() == 3:
        check_part_of_the_world()


@pytest.mark.parametrize(
    "R", [2, 3, 4, pytest.param(5, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_ranks_together_are_one_process(R: int, tmp_path: Path) -> None:
    in_world(R, tmp_path, check_all)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A world of this process alone."""
    join(0, 1, tmp_path / "meeting place")
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_single_rank_refuses_nothing() -> None:
    split, whole = pair("pr-lstm")
    x = draw(7, B, WIDTH)
    lengths = torch.tensor([7, 3])
    y, state = split(x, lengths=lengths)
    expected, expected_state = whole(x, lengths=lengths)
    assert torch.equal(y, expected)
    assert torch.equal(split(x, state)[0], whole(x, expected_state)[0])


@pytest.mark.usefixtures("alone")
def test_the_world_is_kept_by_name() -> None:
    assert tr.Tree(group=dist.group.WORLD) == tr.Tree(group="world")


def test_a_tree_over_ranks_is_a_value_like_any_other_schedule() -> None:
    tree = tr.Tree(group="world")
    assert tree == tr.Tree("balanced", 0, "world") != tr.Tree()
    assert hash(tree) == hash(copy.deepcopy(tree)) == hash(pickle.loads(pickle.dumps(tree)))
    assert repr(tree) == str(tree) == "Tree(bracket='balanced', seed=0, group='world')"
    assert repr(tr.Tree("left")) == "Tree(bracket='left', seed=0)"
    assert "group='world'" in repr(copy.deepcopy(tr.PRLSTM(WIDTH, H, schedule=tree)))


def test_what_can_be_refused_before_a_call_is() -> None:
    tree = tr.Tree(group="world")
    with pytest.raises(ValueError, match="'left' cannot be split over ranks"):
        tr.Tree("left", group="world")
    with pytest.raises(TypeError, match="name of a process group or a ProcessGroup"):
        tr.Tree(group=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="bidirectional=True cannot be used under Tree"):
        tr.PRLSTM(WIDTH, H, bidirectional=True, schedule=tree)
    with pytest.raises(ValueError, match="order='tree' cannot be used under Tree"):
        tr.Reordered(tr.PRLSTM(WIDTH, H, schedule=tree), order="tree")
    with pytest.raises(ValueError, match=r"call torch\.distributed\.init_process_group first"):
        tr.PRLSTM(WIDTH, H, schedule=tree)(torch.zeros(2, B, WIDTH))
    with pytest.raises(ValueError, match="a tree over ranks cannot be exported"):
        torch.export.export(tr.PRLSTM(WIDTH, H, schedule=tree), (torch.zeros(2, B, WIDTH),))
