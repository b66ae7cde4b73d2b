"""The page's Python, run as it stands from top to bottom."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "hugging-face.md"


# Trainer asks for pinned memory by default, and PyTorch warns where there is no GPU.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), scope)
    assert scope["tokens"].shape == scope["beams"].shape == (2, 9)
    assert scope["longer"].shape == (1, 7)
    assert "the old oak and" in capsys.readouterr().out
