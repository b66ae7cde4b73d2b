"""The compiled kernels: found and loaded by ctypes, at first use.

There is one library for each target (TARGETS), all from the same sources. The best
one that the processor runs is chosen, or what the environment variable TREERING_TARGET names.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch

from treering._errors import UserError, nearest

# Of what isa.cpp exports; raised together with `tr_abi` there.
ABI = 6
TARGETS = ("avx512bf16", "avx512", "avx2", "portable")
FOLDER = Path(__file__).parent
_NOT_BUILT = FOLDER / "not_built.txt"
_BUILD = "run `make native` in the checkout, or install treering again"

_asked: ContextVar[str | None] = ContextVar("treering_target", default=None)
_declared: dict[str, tuple[tuple[str, Any], ...]] = {}


def declare(function: str, *arguments: Any, **structures: type[ctypes.Structure]) -> None:
    """Say what a function of isa.cpp takes, in order: ctypes types, or structures by reference.

    >>> class _TreeCall(ctypes.Structure):
    ...     _fields_ = (("given", ctypes.c_size_t),)
    >>> declare("tr_of_mine", _TreeCall, ctypes.c_int)  # doctest: +SKIP

    A structure has its name in C++, underscores in front aside; one that is called otherwise here
    follows as `TreeCall=Call`. `load` compares their sizes. The function then takes the structure
    itself, and raises MemoryError where the kernel had too little memory, OSError where it got no
    threads.
    """
    named = ((kind.__name__.lstrip("_"), kind) for kind in arguments)
    _declared[function] = (*named, *structures.items())
    _open.cache_clear()
    _found.cache_clear()


def load() -> ctypes.CDLL:
    """The library of the target in use. Errors: UserError where there is none, with the reason."""
    reason = missing()
    if reason is not None:
        raise UserError(reason)
    return _open(target())


def missing() -> str | None:
    """Why there are no native kernels here, in one line; None where there are.

    Errors: UserError for a target asked for that does not run here.
    """
    if not (FOLDER / "portable.so").exists():
        why = (
            " ".join(_NOT_BUILT.read_text(encoding="utf-8").split()) if _NOT_BUILT.exists() else ""
        )
        return f"native kernels were not built{': ' if why else ''}{why}; {_BUILD}"
    try:
        _open(target())
    except (OSError, _OtherLibraryError) as error:
        return str(error)
    return None


def at_hand() -> ctypes.CDLL | None:
    """What `load` returns, or None where it raises; looked for once, for calls that cannot wait."""
    return _found(_asked.get() or os.environ.get("TREERING_TARGET"), FOLDER)


@cache
def _found(asked: str | None, folder: Path) -> ctypes.CDLL | None:
    del asked, folder
    return None if missing() else load()


def status() -> str:
    """The target in use, or why there is none."""
    reason = missing()
    if reason is not None:
        return f"none: {reason}"
    older = "; older than its sources, run `make native`" if stale() else ""
    return f"{target()} (of {', '.join(targets())}){older}"


def stale() -> bool:
    """Whether a checkout's library is older than the sources beside it."""
    sources = [*FOLDER.glob("*.h"), *FOLDER.glob("*.cpp")]
    built = (FOLDER / f"{target()}.so").stat().st_mtime
    return any(source.stat().st_mtime > built for source in sources)


def target() -> str:
    """What `use_target` or TREERING_TARGET asks for, else the best that the processor runs."""
    name = _asked.get() or os.environ.get("TREERING_TARGET")
    return targets()[0] if name is None else _checked(name)


@contextmanager
def use_target(name: str) -> Iterator[None]:
    """Within the block run the kernels of one target. Errors: UserError if it cannot run here."""
    token = _asked.set(_checked(name))
    try:
        yield
    finally:
        _asked.reset(token)


def _checked(name: str) -> str:
    if name not in TARGETS:
        raise UserError(nearest(name, TARGETS, "target"))
    if name not in targets():
        raise UserError(f"target {name!r} does not run here; {', '.join(targets())} do")
    return name


@cache
def targets() -> tuple[str, ...]:
    """All that were built and run on this processor, best first."""
    runs = _checked_library("portable").tr_runs
    runs.argtypes = (ctypes.c_char_p,)
    built = (name for name in TARGETS if (FOLDER / f"{name}.so").exists())
    return tuple(name for name in built if runs(name.encode()) == 1)


class _OtherLibraryError(UserError):
    """The library was built from other sources than this Python."""


def _checked_library(name: str) -> ctypes.CDLL:
    path = FOLDER / f"{name}.so"
    library = ctypes.CDLL(str(path))
    if library.tr_abi() != ABI:
        has = f"has interface {library.tr_abi()}, wanted is {ABI}"
        raise _OtherLibraryError(f"{path} {has}; {_BUILD}")
    return library


@cache
def _open(name: str) -> ctypes.CDLL:
    library = _checked_library(name)
    size_of = library.tr_size_of
    size_of.argtypes, size_of.restype = (ctypes.c_char_p,), ctypes.c_size_t
    for function, arguments in _declared.items():
        bound = getattr(library, function, None)
        if bound is None:
            raise _OtherLibraryError(f"{library._name} has no {function}; {_BUILD}")
        bound.argtypes = [ctypes.POINTER(k) if _structure(k) else k for _, k in arguments]
        bound.errcheck = _done
        for there, kind in arguments:
            if _structure(kind) and size_of(there.encode()) != ctypes.sizeof(kind):
                raise _OtherLibraryError(f"{there} has another size in {library._name}; {_BUILD}")
    _share_threads(library)
    return library


def threads() -> str:
    """Whose threads kernels work on: PyTorch's where its OpenMP runtime is found, or their own.

    Threads that have just computed for PyTorch stay awake for some milliseconds: they would keep a
    core from others. The environment variable TREERING_THREADS=own leaves them alone.
    """
    runtime = _openmp()
    return "their own" if runtime is None else f"PyTorch's ({Path(runtime._name).name})"


def _share_threads(library: ctypes.CDLL) -> None:
    runtime = _openmp()
    if runtime is not None:
        library.tr_use_team(
            *(ctypes.cast(getattr(runtime, name), ctypes.c_void_p) for name in TEAM)
        )


TEAM = ("GOMP_parallel", "omp_get_num_threads", "omp_get_thread_num")
"""What `tr_use_team` needs, in its order; GNU's, Intel's and LLVM's runtimes have them."""


def _openmp() -> ctypes.CDLL | None:
    """The OpenMP runtime that PyTorch has loaded, where it may be used and can be found."""
    wanted = os.environ.get("TREERING_THREADS", "shared")
    if wanted not in ("shared", "own"):
        raise UserError(f"TREERING_THREADS={wanted!r} is not known; write shared or own")
    if wanted == "own" or not hasattr(os, "RTLD_NOLOAD"):
        return None
    beside = sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*.so*"))
    for name in (*map(str, beside), "libgomp.so.1", "libiomp5.so", "libomp.so"):
        with suppress(OSError):
            runtime = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            if all(hasattr(runtime, function) for function in TEAM):
                return runtime
    return None


def _structure(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ctypes.Structure)


def _done(code: int, function: Any, arguments: Any) -> None:
    """What export.h reports as an exception."""
    if code == 1:
        raise MemoryError("a native kernel could not get the memory that it needs")
    if code == 2:
        raise OSError(
            "a native kernel could not start its threads; allow the process more of them, or ask"
            " for fewer: torch.set_num_threads(1)"
        )
