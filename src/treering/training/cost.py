"""What a run takes: seconds by part, and memory."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import psutil
import torch


class Stopwatch:
    """Adds up seconds by part, into a dictionary that it is given.

    An accelerator works behind Python's back, so there each part waits for it to finish;
    otherwise the seconds of one part would show up in the next.
    """

    def __init__(self, seconds: dict[str, float], device: torch.device) -> None:
        self._seconds = seconds
        self._device = device

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            if self._device.type != "cpu":
                torch.get_device_module(self._device).synchronize()
            self._seconds[name] = self._seconds.get(name, 0.0) + perf_counter() - start


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most that tensors took on the device, else the process's peak.

    The process's peak is the largest resident size since the process began. It contains Python and
    torch themselves, and whatever ran in the same process before: runs after one another in one
    process cannot be told apart by it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # Unix has no peak in psutil, Windows no `resource`

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
