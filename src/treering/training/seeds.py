"""Seeds for each purpose from the run's one seed, and the name of a run."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from treering.tasks.abstract import DatasetTask, StreamTask, Task
from treering.training.settings import Settings

_FINGERPRINTS: WeakKeyDictionary[Task, dict[bool, str | None]] = WeakKeyDictionary()


def derive(seed: int, purpose: str) -> int:
    """A seed for one purpose: the first 63 bits of SHA-256 of `seed:purpose`.

    Streams for data, dropout and evaluation must not be one another's, nor those of the next seed:
    seed + 1 would do for neither.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """A new CPU generator, seeded for the purpose. Data is drawn on the CPU for every device."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def fingerprint(task: Task, *, ranks: bool = False) -> str | None:
    """A hash of what a task holds of data, 16 hex digits; None for a generated task.

    A file that was edited must not go on with, or be taken for, a run on the old one. Computed
    once for each task object: hashing some hundred megabytes takes a second.

    Args:
        ranks: With the rows' trees, for a model that reads them; to others they say nothing.
    """
    known = _FINGERPRINTS.setdefault(task, {})
    if ranks not in known:
        known[ranks] = _fingerprint(task, ranks)
    return known[ranks]


def _fingerprint(task: Task, ranks: bool) -> str | None:
    if isinstance(task, DatasetTask):
        kept = list(task.labels)
        tensors = []
        for split in (task.train, task.validation, task.test):
            tensors += [split.tokens, split.lengths, split.labels]
            tensors += [split.ranks] if ranks and split.ranks is not None else []
    elif isinstance(task, StreamTask):
        kept = [task.unit]
        tensors = [task.train, task.validation, task.test]
    else:
        return None
    digest = hashlib.sha256(json.dumps(kept).encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def run_id(
    task: Task,
    layer: str,
    settings: Settings,
    seed: int,
    model: Mapping[str, str | int | float | None] = MappingProxyType({}),
    *,
    ranks: bool = False,
) -> str:
    """A short stable name of a run, for its folder: the same command finds the same folder.

    Args:
        task: The task; a data set counts with its content, so an edited file is another run.
        layer: The layer's specification, e.g. `ql-lstm:block_size=8`.
        model: Whatever else makes the model: hidden size, embedding, device, ...
        ranks: Whether it reads the trees of the task's rows.

    Returns:
        12 hex digits of a SHA-256 over all of these; it does not depend on the process, the
        machine, or the order of the names in `model`.
    """
    content = {
        "task": task.name,
        "data": fingerprint(task, ranks=ranks),
        "layer": layer,
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "model": dict(model),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
