"""hatch_build.py as a module, and what tests that compile need."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


def hatch_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler() -> list[str]:
    """The compiler's words. Without one the test is skipped, but never under CI."""
    builder = hatch_build()
    try:
        return builder.compiler()
    except builder.NoCompilerError as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
