"""Every worked example in the tasks' docstrings, run."""

import doctest
import importlib
import pkgutil

import pytest

from treering import tasks


def modules() -> list[str]:
    found = pkgutil.walk_packages(tasks.__path__, "treering.tasks.")
    return ["treering.tasks", *(module.name for module in found)]


@pytest.mark.parametrize("name", modules())
def test_examples(name: str):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", tasks.all_names())
def test_every_task_has_a_worked_example(name: str):
    task = tasks.get(name)
    assert ">>> task.solve(" in (type(task).__doc__ or "")
