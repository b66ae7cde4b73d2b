"""What a record says of the machine and of the program."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from treering.bench.record import Machine
from treering.kernels.native import library

PACKAGE = Path(__file__).parents[1]


def describe(processor: str) -> Machine:
    """The present one. processor: its name in words."""
    return Machine(
        python=platform.python_version(),
        torch=torch.__version__,
        treering=version("treering"),
        commit=_commit(),
        platform=f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        processor=processor,
        native=library.status(),
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
    )


def _commit() -> str | None:
    top = _git("rev-parse", "--show-toplevel")
    # An installed package may lie inside a checkout of something else.
    if not top or Path(top) / "src" / "treering" != PACKAGE:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{_git('rev-parse', '--short', 'HEAD')}{'+' if changed else ''}"


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
