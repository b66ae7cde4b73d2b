"""What a run takes: seconds by part, and memory."""

import sys
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

import psutil
import torch


class Stopwatch:
    """Adds up seconds by part, into a dictionary that it is given.

    On the CPU by the clock, at about a microsecond a part. An accelerator works behind Python's
    back: there a part lies between two events in its queue, and training does not wait for them.
    Such a part takes as long as the device came to its end after its beginning, so that nothing
    counts twice that Python does while the device is still busy.
    """

    def __init__(self, seconds: dict[str, float], device: torch.device) -> None:
        self._seconds = seconds
        self._device = device
        self._begun: deque[tuple[str, torch.Event, torch.Event]] = deque()

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """What happens inside counts as `name`."""
        if self._device.type == "cpu":
            start = perf_counter()
            try:
                yield
            finally:
                self._add(name, perf_counter() - start)
            return
        begin = self._event()
        try:
            yield
        finally:
            self._begun.append((name, begin, self._event()))
            # At once what is done: of a thousand steps there would be too many events.
            self._collect(wait=False)

    def settle(self) -> None:
        """Wait until all parts that have ended are in the dictionary."""
        self._collect(wait=True)

    def _event(self) -> torch.Event:
        event = torch.Event(self._device, enable_timing=True)
        event.record()
        return event

    def _collect(self, *, wait: bool) -> None:
        while self._begun:
            name, begin, end = self._begun[0]
            if wait:
                end.synchronize()
            elif not end.query():
                return
            self._begun.popleft()
            self._add(name, begin.elapsed_time(end) / 1000)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds


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
