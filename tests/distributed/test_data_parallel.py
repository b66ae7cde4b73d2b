"""Training with DistributedDataParallel is training one process on the joined batch.

Legend: T time, B batch, H input and hidden size.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import treering as tr
from conformance.observe import ATOL, RTOL, draw
from treering.layers import Recurrent

from .worlds import in_world

T, B, H = 7, 6, 3
STEPS = 2

Forward = Callable[[Recurrent, Tensor], Tensor]


def once(layer: Recurrent, x: Tensor) -> Tensor:
    return layer(x)[0]


def twice(layer: Recurrent, x: Tensor) -> Tensor:
    """The same parameters in two places of the model."""
    return layer(torch.tanh(layer(x)[0]))[0]


def recomputed(layer: Recurrent, x: Tensor) -> Tensor:
    outputs: Any = checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    return outputs


class Model(nn.Module):
    def __init__(self, layer: Recurrent, forward: Forward) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.output_size, 2)
        self.through_layer = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.through_layer(self.layer, x))


def model(name: str, forward: Forward, **options: Any) -> Model:
    torch.manual_seed(1)
    layer = tr.layers.get(name)(H, H, num_layers=2, **options)
    return Model(layer, forward).double()


def trained(model: nn.Module, x: Tensor, targets: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), targets).backward()
        optimizer.step()


def check_same_parameters(one: nn.Module, other: nn.Module, untrained: nn.Module) -> None:
    for (name, p), q, start in zip(
        one.named_parameters(), other.parameters(), untrained.parameters(), strict=True
    ):
        torch.testing.assert_close(
            p, q, rtol=RTOL, atol=ATOL, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert not torch.equal(q, start), f"{name} was not trained"


def check_layers() -> None:
    x, targets = draw(T, B, H), draw(T, B, 2, seed=1)
    rows = slice(dist.get_rank() * B // 2, (dist.get_rank() + 1) * B // 2)
    for name in tr.layers.names():
        for forward in (once, twice, recomputed):
            together, alone = model(name, forward), model(name, forward)
            trained(DistributedDataParallel(together), x[:, rows], targets[:, rows])
            trained(alone, x, targets)
            check_same_parameters(together, alone, model(name, forward))


def check_time_in_parts() -> None:
    """Ranks with stretches of equal length: the mean over ranks is the mean over positions."""
    x, targets = draw(8, B, H), draw(8, B, 2, seed=1)
    stretch = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    # Messages of the tree and of the gradients may cross, so each has a group of its own.
    schedule: Any = tr.Tree(group=dist.new_group())  # pyright: ignore[reportArgumentType]
    for forward in (once, twice, recomputed):
        together, alone = model("pr-lstm", forward, schedule=schedule), model("pr-lstm", forward)
        trained(DistributedDataParallel(together), x[stretch], targets[stretch])
        trained(alone, x, targets)
        check_same_parameters(together, alone, model("pr-lstm", forward))


def check_all() -> None:
    check_layers()
    check_time_in_parts()


def test_two_processes_are_one_on_the_joined_batch(tmp_path: Path) -> None:
    in_world(2, tmp_path, check_all)
