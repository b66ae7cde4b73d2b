"""Index tensors that depend on sizes alone, built once and kept for later calls."""

from collections.abc import Callable
from functools import cached_property, lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Like `lru_cache(most)`, for tensors: what is kept must serve calls of every kind.

    A tensor that is made under a transform of torch.func belongs to it, one of inference mode
    cannot be saved for a backward pass, and one of a dispatch mode may have no numbers. The first
    two are left for the time of building; under a mode nothing is kept.
    """

    def decorate(build: Callable[P, R]) -> Callable[P, R]:
        plain = _plain(build)
        cached: Callable[..., Any] = lru_cache(maxsize=most)(plain)

        @wraps(build)
        def found(*args: P.args, **kwargs: P.kwargs) -> R:
            return (plain if _get_current_dispatch_mode_stack() else cached)(*args, **kwargs)

        return found

    return decorate


def _plain(build: Callable[P, R]) -> Callable[P, R]:
    @wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> R:
        with temporarily_clear_interpreter_stack(), torch.inference_mode(False):
            return build(*args, **kwargs)

    return built


def once(build: Callable[[Any], R]) -> cached_property[R]:
    """Like `cached_property`, for tensors of an object that `remembered` may have kept."""
    return cached_property(_plain(build))
