"""The exporter's table of operators is read once: each export reads it anew for most of a second.

It compiles the source of some 500 functions that do not change between two exports.
"""

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry


@pytest.fixture(autouse=True, scope="session")
def _one_table_of_operators() -> Iterator[None]:
    read = cache(ONNXRegistry.from_torchlib)

    def of_its_own(**given: Any) -> ONNXRegistry:
        table = copy.copy(read(**given))
        # An export may put operators in.
        table.functions = {name: [*known] for name, known in table.functions.items()}
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(of_its_own))
        yield
