"""A case in a process of its own: its peak memory, and how long a call takes.

`measure` starts the process, which is this module run as a program: a request in JSON on standard
input, an answer in JSON on standard output.
"""

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch

from treering.bench.peers import transformer
from treering.bench.peers.treering_itself import Treering
from treering.bench.problem import make
from treering.bench.record import Case
from treering.dispatch import explain

WARM_UP = {"batch": 2, "time": 16}
"""Sizes of the call that loads libraries and starts threads. Small: memory that it leaves free in
the process would be used again and not seen."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Alone:
    """What a process of its own found."""

    peak_bytes: int
    """Resident memory at its highest during the first call, above that before it."""
    seconds: list[float]
    """Of each call; of the first alone if it took as long as all were to take."""
    ran: str


class EndedError(Exception):
    """The process did not answer; the text says what ended it."""


def measure(
    case: Case, kernels: str, *, threads: int, calls: int, seconds: float, patience: float
) -> Alone:
    """Run the case up to `calls` times, no further once `seconds` have passed.

    Errors: EndedError where the process was ended by the system, as for lack of memory, or took
    more than `patience` seconds.
    """
    request = {
        "case": case.model_dump(),
        "kernels": kernels,
        "threads": threads,
        "calls": calls,
        "seconds": seconds,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "treering.bench.alone"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=patience,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
    except subprocess.TimeoutExpired:
        raise EndedError(f"no answer in {patience:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        by = f"by signal {-done.returncode}" if done.returncode < 0 else f"with {last}"
        raise EndedError(f"the process ended {by}")
    return Alone(**json.loads(done.stdout))


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    case = Case(**request["case"])
    attention = case.layer == transformer.NAME
    contender = transformer.Transformer() if attention else Treering(kernels=request["kernels"])
    # Any layer of its width gives the transformer its inputs.
    given = case.model_copy(update={"layer": "lstm"}) if attention else case
    small = {name: min(most, getattr(case, name)) for name, most in WARM_UP.items()}
    contender.prepare(make(given.model_copy(update=small))).call()
    problem = make(given)
    call = contender.prepare(problem).call
    _give_back_what_is_free()
    begin = perf_counter()
    peak, first = _peak_of(call)
    times = [first]
    while len(times) < request["calls"] and perf_counter() - begin < request["seconds"]:
        again = perf_counter()
        call()
        times.append(perf_counter() - again)
    # Of more calls than one the first is the one that met cold caches and fresh memory.
    times = times[1:] or times
    ran = str(explain(problem.layer, problem.x[: WARM_UP["time"]]))
    if attention:
        ran = f"PyTorch: {contender.title}"
    json.dump({"peak_bytes": peak, "seconds": times, "ran": ran}, sys.stdout)


def _peak_of(call: Callable[[], Any]) -> tuple[int, float]:
    """Bytes above those before, and seconds. What came before is smaller than what is measured."""
    resettable = os.access(_CLEAR, os.W_OK)
    if resettable:
        # Linux: the high-water mark becomes what is resident now.
        _CLEAR.write_text("5", encoding="ascii")
        before = _resident()
    else:
        before = max(psutil.Process().memory_info().rss, _highest())
    begin = perf_counter()
    kept = call()
    took = perf_counter() - begin
    peak = _high_water() if resettable else _highest()
    del kept
    return max(0, peak - before), took


def _give_back_what_is_free() -> None:
    gc.collect()
    # glibc keeps freed memory; other C libraries have no such function.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident() -> int:
    return psutil.Process().memory_info().rss


def _high_water() -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _highest() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
