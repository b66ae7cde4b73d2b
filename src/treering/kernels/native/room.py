"""Room for what a forward pass keeps: memory of an earlier one, as soon as that is free again.

The C library gives large blocks back to the system, which clears every page before it hands them
out once more. In training that takes a fifth of the time of the arithmetic.
"""

import ctypes
import math
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

SMALLEST = 1 << 20
"""Bytes, below which the C library keeps free memory itself."""
MOST = 1 << 29
"""Bytes that are kept while nobody uses them."""
SPARE = 1.5
"""How many times as large as wanted a block may be: lengths differ from batch to batch."""
STEP = 1 << 18
"""Sizes in bytes are multiples of it, so that about equal ones are equal."""

# Memory nobody uses, the longest unused first.
_free: deque[Tensor] = deque()


def empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`like.new_empty(shape, dtype=dtype)`, on memory that returns here when nobody holds it.

    Only for tensors that no user sees: their storage cannot be resized.
    """
    dtype = like.dtype if dtype is None else dtype
    # Shapes of FakeTensors may be unknown, and must not be compared with anything.
    # Deterministic algorithms are promised fresh memory full of NaN.
    if isinstance(like, FakeTensor) or torch.are_deterministic_algorithms_enabled():
        return like.new_empty(shape, dtype=dtype)
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < SMALLEST:
        return like.new_empty(shape, dtype=dtype)
    memory = _taken(-(-size // STEP) * STEP)
    lease = memoryview((ctypes.c_char * size).from_address(memory.data_ptr()))
    # The tensor holds on to the lease, and nothing else does.
    weakref.finalize(lease, _returned, memory).atexit = False
    return torch.frombuffer(lease, dtype=dtype, count=count).view(*shape)


def _taken(size: int) -> Tensor:
    # Another thread may be faster: no lock, which a child forked meanwhile would never get.
    with suppress(IndexError):
        for _ in range(len(_free)):
            memory = _free.popleft()
            if size <= memory.numel() <= SPARE * size:
                return memory
            _free.append(memory)
    return torch.empty(size, dtype=torch.uint8, device="cpu")


def _returned(memory: Tensor) -> None:
    _free.append(memory)
    with suppress(IndexError):
        while sum(block.numel() for block in tuple(_free)) > MOST:
            _free.popleft()
