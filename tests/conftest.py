"""What every test gets: fixed seeds, poisoned memory, and a look at whether it left things behind.

pytest's own `monkeypatch` undoes what it did; what is checked here is state that code under test
could leave in the process.
"""

import copy
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

NAN = float("nan")

# Tensors here are tiny: threads would only wait for each other.
torch.set_num_threads(1)


def _poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def allocate_poisoned(*args: Any, **kwargs: Any) -> Tensor:
        tensor = allocate(*args, **kwargs)
        if tensor.is_floating_point() or tensor.is_complex():
            with torch.no_grad():
                tensor.fill_(NAN)
        return tensor

    return allocate_poisoned


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody has written holds NaN, so reading it cannot go unnoticed.

    This covers what Python allocates; `conformance/test_memory.py` covers PyTorch's own.
    """
    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (Tensor, "new_empty"),
        (Tensor, "new_empty_strided"),
    ):
        monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)


def _process() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs under no kernel request but the test's own, and fails what changes the process."""
    monkeypatch.delenv("TREERING_KERNELS", raising=False)
    before = _process()
    yield
    assert _process() == before


@pytest.fixture
def float64() -> Iterator[None]:
    """Tensors and parameters are float64 unless told otherwise."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="session")
def one_table_of_operators() -> Iterator[None]:
    """ONNX's exporter reads its table of operators once, and not anew for every export.

    It compiles the source of some 500 functions for it, a third of a small export's time.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = cache(ONNXRegistry.from_torchlib)

    def of_its_own(**given: Any) -> ONNXRegistry:
        table = copy.copy(read(**given))
        # An export may put operators in.
        table.functions = {name: [*known] for name, known in table.functions.items()}
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(of_its_own))
        yield
