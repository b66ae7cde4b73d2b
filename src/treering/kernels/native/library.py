"""The shared library of C++ kernels: found and loaded at first use."""

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Status(NamedTuple):
    """target: the instructions in use; missing: why there is no library. One of them is None."""

    target: str | None
    missing: str | None


@lru_cache(maxsize=1)
def _open() -> tuple[ctypes.CDLL | None, Status]:
    found = sorted(Path(__file__).parent.glob("_treering*.so"))
    if not found:
        return None, Status(None, "the C++ kernels are not built")
    return ctypes.CDLL(str(found[0])), Status("avx512", None)


def status() -> Status:
    return _open()[1]


def load() -> ctypes.CDLL:
    library, state = _open()
    if library is None:
        raise RuntimeError(state.missing)
    return library
