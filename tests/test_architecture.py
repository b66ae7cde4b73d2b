"""Who may import whom, read from the source.

A room is a module or package directly inside `treering`. Below, for each room, everything of
treering that it may import; a room may always import itself, `_types` and `_errors`. A dotted
entry allows that one module of another room and nothing else of it.
"""

import ast
import dataclasses
import doctest
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import treering as tr
from treering.cells.abstract import AffineCell, MergeCell, StepCell

MAY_IMPORT: dict[str, set[str]] = {
    "_types": set(),
    "_errors": set(),
    "cells": set(),
    "schedules": {"cells.abstract"},
    "kernels": {"operator"},
    "dispatch": {"cells", "schedules", "kernels"},
    "operator": set(),
    "unroll": {"dispatch", "operator", "schedules", "cells.abstract"},
    "layers": {"unroll", "cells", "schedules"},
    "penalties": {"layers", "schedules", "cells.abstract"},
    "models": {"layers"},
    "hf": {"layers"},
    "export": {"layers", "models", "schedules"},
    "tasks": set(),
    "records": set(),
    "training": {"tasks.abstract", "records"},
    "bench": {
        "layers",
        "models.baselines",
        "dispatch",
        "schedules",
        "cells.abstract",
        "tasks",
        "records",
    }
    | {"kernels.native.library"},
    "inspect": {"layers", "models", "schedules", "cells.abstract", "dispatch", "tasks", "records"}
    | {"training.seeds"},
    "report": {"records", "bench.record", "inspect.record"},
    "experiments": {"records", "report", "inspect.record", "bench.record"},
    "__init__": {
        "export",
        "layers",
        "models",
        "tasks",
        "dispatch",
        "unroll",
        "penalties",
        "schedules",
    },
    "cli": {"*"},
}
EVERYBODY = {"_types", "_errors"}

# Of the world outside: what a room may import beside the standard library. Rooms that are not
# listed may import what the package depends on; records and report never see torch.
OUTSIDE: dict[str, set[str]] = {
    "_types": {"torch"},
    "_errors": set(),
    "cells": {"torch"},
    "schedules": {"torch"},
    "kernels": {"torch"},
    "dispatch": {"torch"},
    "operator": {"torch"},
    "unroll": {"torch"},
    "layers": {"torch"},
    "penalties": {"torch"},
    "export": {"torch", "onnx", "onnxruntime"},
    "models": {"torch"},
    "records": {"pydantic", "numpy", "psutil"},
    "bench": {"torch", "pydantic", "numpy", "psutil"},
    "inspect": {"torch", "pydantic"},
    "report": {"pydantic", "jinja2", "markupsafe", "matplotlib", "numpy", "rich"},
    "experiments": {"pydantic"},
}
NO_PLACE_FOR = {"utils", "util", "common", "helpers", "helper", "misc", "tools", "base"}
CELL_LINES = 150
# Imported by none of the above, so that `import treering` stays as light as `import torch`.
HEAVY = {
    "matplotlib", "pydantic", "rich", "tokenizers", "jinja2", "cyclopts", "safetensors", "pooch",
    "platformdirs", "psutil", "pandas", "triton",
    "onnx", "onnxruntime", "onnxscript", "ray",
}  # fmt: skip

ROOT = Path(tr.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    """Name inside treering: `cells.lstm`, `cells` for its `__init__`, `__init__` for the top."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all that a file imports, also inside functions."""
    package = ["treering", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                inside = full.removeprefix("treering.")
                # `from treering import layers` imports a module, `from ... import LSTM` a name.
                yield full if inside in MODULES else source


def inner(path: Path) -> set[str]:
    """Modules of treering that a file imports, named inside treering."""
    names = {name for name in imports(path) if name.split(".")[0] == "treering"}
    return {name.removeprefix("treering").removeprefix(".") or "__init__" for name in names}


def room(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_stay_inside_the_rules(module: str):
    assert room(module) in MAY_IMPORT, f"give the room {room(module)!r} a line in MAY_IMPORT"
    allowed = MAY_IMPORT[room(module)] | EVERYBODY | {room(module)}
    for target in inner(MODULES[module]):
        assert "*" in allowed or room(target) in allowed or target in allowed, (
            f"{module} imports {target}; {room(module)} may import {sorted(allowed)}"
        )


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) != "cli"])
def test_nothing_imports_the_command_line(module: str):
    assert not {target for target in inner(MODULES[module]) if room(target) == "cli"}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in OUTSIDE])
def test_packages_stay_inside_the_rules(module: str):
    outside = {name.split(".")[0] for name in imports(MODULES[module])} - {"treering"}
    assert outside <= OUTSIDE[room(module)] | set(sys.stdlib_module_names)


def test_no_room_without_a_use_of_its_line():
    """Rules of rooms that are gone would hide a new room of the same name."""
    assert set(MAY_IMPORT) == {room(module) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_every_name_says_what_is_inside(module: str):
    assert not NO_PLACE_FOR & {part.strip("_") for part in module.split(".")}


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) == "cells"])
class TestCells:
    def test_they_look_at_no_device(self, module: str):
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not named & {"cuda", "is_cuda", "is_cpu", "is_mps", "backends", "distributed"}

    def test_they_do_not_loop_over_time(self, module: str):
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        assert not [node for node in nodes if isinstance(node, ast.While)]
        named = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not named & {"unbind", "flip", "cumsum", "cumprod", "roll"}
        letters = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert not letters & {"T", "time", "timestep"}

    def test_a_cell_is_one_short_file(self, module: str):
        text = MODULES[module].read_text(encoding="utf-8")
        classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        final = [node for node in classes if "@final" in text and _is_final(node)]
        assert len(final) <= 1
        if final:
            assert text.count("\n") <= CELL_LINES


def _is_final(node: ast.ClassDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "final" for d in node.decorator_list)


class Counting(TorchDispatchMode):
    """Counts the tensor operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", tr.layers.names())
def test_a_cells_work_on_all_tokens_is_one_pass(name: str):
    """As many operations for 64 tokens as for 2: what a loop in disguise could not do."""
    layer = tr.layers.get(name)(2, 3)
    cell, weights, counts = layer.cell, layer.weights(0), []
    for T in (2, 64):
        with Counting() as counting:
            x = torch.randn(T, 2, 2)
            if isinstance(cell, StepCell):
                cell.project(weights, x)
            elif isinstance(cell, AffineCell):
                cell.coefficients(weights, x)
            elif isinstance(cell, MergeCell):
                leaf = cell.leaf(weights, x)
                cell.merge(weights, leaf, leaf)
        counts.append(counting.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", tr.layers.names())
def test_cells_are_final_frozen_and_hold_no_tensor(name: str):
    cell = tr.layers.get(name)(2, 3).cell
    assert getattr(type(cell), "__final__", False)
    assert dataclasses.is_dataclass(cell)
    assert not any(isinstance(value, torch.Tensor) for value in vars(cell).values())


def loaded_by(*statements: str) -> list[set[str]]:
    """Modules that a fresh interpreter has after each of the statements."""
    code = "import sys, json; "
    code += "; ".join(f"{one}; print(json.dumps(sorted(sys.modules)))" for one in statements)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_import_treering_is_as_light_as_import_torch():
    """By modules loaded, because a clock would depend on the machine."""
    torchs, ours = loaded_by("import torch", "import treering")
    assert {"treering.tasks", "treering.layers", "treering.export"} <= ours
    assert len(ours) < 2 * len(torchs)
    more = {name.split(".")[0] for name in ours - torchs}
    assert not more & HEAVY
    packages = {name for name in more if name not in sys.stdlib_module_names}
    assert packages <= {"treering", "torch"}


@pytest.mark.parametrize(
    "module", [m for m in MODULES if room(m) not in ("tasks", "cli", "report", "training")]
)
def test_examples_in_docstrings(module: str):
    name = "treering" if module == "__init__" else f"treering.{module}"
    assert doctest.testmod(importlib.import_module(name)).failed == 0
