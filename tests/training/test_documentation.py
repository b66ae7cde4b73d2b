"""docs/training.md: what its Python gives, that its options exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from treering.cli.options import ModelOptions, TaskOptions, TrainingOptions

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_python_examples_do_what_they_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    truncated, folder = blocks("python")
    exec(compile(truncated, "training.md", "exec"), scope)
    assert scope["logits"].shape == (8, 999 - 15 * 64, 50)
    assert scope["state"].length.unique().tolist() == [999]
    assert scope["state"].length.requires_grad is False
    assert torch.isfinite(scope["loss"])
    exec(compile(folder, "training.md", "exec"), scope)
    assert scope["logits"].shape == (1, 18, len(scope["vocabulary"]))
    assert len(scope["following"]) == 1
    assert scope["record"].status == "finished"
    assert "test bits per character" in capsys.readouterr().out


def test_the_example_of_truncation_is_ten_lines_and_its_imports() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line]
    assert len([line for line in lines if not line.startswith("import")]) == 10


def test_options_exist() -> None:
    known = {"layer", "layers", "seeds"} | set(TaskOptions.__annotations__)
    known |= set(TrainingOptions.__annotations__) | set(ModelOptions.__annotations__)
    named = re.findall(r"--([a-z][a-z-]*)", PAGE.split("## What a run's folder holds")[0])
    assert {name.replace("-", "_") for name in named} <= known
