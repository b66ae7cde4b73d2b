"""Everything that the next step of a run depends on, as tensors for a checkpoint and back.

Names in a checkpoint: `model.*`, `penalty.0.*` (parameters and buffers), `best.*` (the model's at
the best validation), `optimizer.*` (moments), `data.*` (the batches' place), `carried.*` (the
recurrent state between two pieces of a stream), `random.*`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from treering.training import checkpoint
from treering.training.batches import BatchSource
from treering.training.carried import Carried
from treering.training.seeds import derive, generator


class TrainingState:
    """Modules, optimiser, batches and random generators of one run."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        source: BatchSource,
        carried: Carried,
        device: torch.device,
    ) -> None:
        self.modules = modules
        self.optimizer = optimizer
        self.source = source
        self.carried = carried
        self.device = device
        self.best: dict[str, Tensor] = {}

    def seed_dropout(self, seed: int) -> None:
        """Set torch's global generators, which dropout draws from."""
        torch.set_rng_state(generator(seed, "dropout").get_state())
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(derive(seed, "dropout"))

    def remember_best(self) -> None:
        """Keep a copy of the model's tensors as they are now."""
        self.best = checkpoint.copies(checkpoint.tensors_of(self.modules["model"], "best"))

    def use_best(self, folder: Path) -> None:
        """Give the model the tensors remembered, if any are; `folder` is for the message."""
        if self.best:
            tensors = checkpoint.tensors_of(self.modules["model"], "best")
            checkpoint.copy_into(tensors, self.best, folder)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        tensors = self._of_modules() | self.best
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        tensors |= {f"data.{key}": value for key, value in self.source.state_dict().items()}
        tensors |= {f"carried.{key}": value for key, value in self.carried.tensors().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type != "cpu":
            tensors["random.device"] = torch.get_device_module(self.device).get_rng_state()
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Be again what `tensors()` was; UserError naming `folder` if a tensor does not fit."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            groups.setdefault(name.partition(".")[0], {})[name] = tensor
        of_modules = groups.get("model", {}) | groups.get("penalty", {})
        checkpoint.copy_into(self._of_modules(), of_modules, folder)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups.get("optimizer", {}).items():
            _, number, key = name.split(".")
            # A clone, for the alignment: see copy_into.
            moments.setdefault(int(number), {})[key] = tensor.clone()
        unchanged = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": unchanged})
        self.best = {
            name: tensor.to(self.device)
            for name, tensor in checkpoint.copies(groups.get("best", {})).items()
        }
        self.source.load_state_dict(
            {name.removeprefix("data."): tensor for name, tensor in groups["data"].items()}
        )
        carried = groups.get("carried", {})
        self.carried.restore(
            {name.removeprefix("carried."): tensor for name, tensor in carried.items()}, self.device
        )
        torch.set_rng_state(tensors["random.cpu"].clone())
        if self.device.type != "cpu":
            states = torch.get_device_module(self.device)
            states.set_rng_state(tensors["random.device"].clone())

    def _of_modules(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for prefix, module in self.modules.items():
            tensors |= checkpoint.tensors_of(module, prefix)
        return tensors
