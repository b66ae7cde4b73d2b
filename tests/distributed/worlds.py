"""Processes that form a process group on this machine, and end with the test."""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from treering.cli.workers import IMPORTED

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
PATIENCE = 120
"""Seconds after which a rank that waits for another one has failed."""


def join(rank: int, size: int, meeting_place: Path) -> None:
    """Become one rank of a group that talks over loopback alone."""
    os.environ.update(LOOPBACK)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting_place}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE),
    )


def in_world(size: int, folder: Path, check: Callable[..., None], *arguments: Any) -> None:
    """Run `check(*arguments)` on every rank; the first exception of any of them is raised here."""
    method = "spawn"
    if "forkserver" in multiprocessing.get_all_start_methods():
        # PyTorch is imported once for all ranks of all tests, not by every rank for seconds.
        method = "forkserver"
        multiprocessing.get_context(method).set_forkserver_preload(list(IMPORTED))
    given = (size, folder / "meeting place", check, arguments)
    context = start_processes(_rank, given, nprocs=size, join=False, start_method=method)
    assert context is not None
    ends = time.monotonic() + 2 * PATIENCE
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < ends, "the ranks wait for each other"
    finally:
        for process in filter(None, context.processes):
            if process.is_alive():
                process.kill()
            process.join()


def _rank(
    rank: int, size: int, meeting_place: Path, check: Callable[..., None], arguments: Any
) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    join(rank, size, meeting_place)
    check(*arguments)
    distributed.barrier()
    distributed.destroy_process_group()
