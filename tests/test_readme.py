"""The README's examples, commands, table and links, executed as they stand.

Commands run with the budget of a test: fewer steps, and small files under the names they use.
"""

import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from treering.cli import main
from treering.cli.listing import markdown_layers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORDS = {
    "good": ("lovely", "great", "tasty", "perfect"),
    "bad": ("awful", "stale", "broken", "poor"),
}


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line for line in lines if "treering " in line]


def texts(label: str, count: int) -> list[str]:
    draw = random.Random(label)
    return [
        " ".join(["it", "was", *draw.choices(WORDS[label], k=3), f"item{draw.randrange(10**6)}"])
        for _ in range(count)
    ]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README's commands name."""
    monkeypatch.chdir(tmp_path)
    # One core: runs follow each other in this process, which has PyTorch imported already.
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 1)
    rows = [f"{text},{label}" for label in WORDS for text in texts(label, 30)]
    (tmp_path / "new.txt").write_text("it was lovely\nit was stale\n", encoding="utf-8")
    (tmp_path / "reviews.csv").write_text("review,stars\n" + "\n".join(rows), encoding="utf-8")
    folder = tmp_path / "data" / "r8"
    folder.mkdir(parents=True)
    for name, count in (("train.txt", 30), ("test.txt", 10)):
        lines = [f"{label}\t{text}" for label in WORDS for text in texts(label, count)]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def shortened(command: str) -> list[str]:
    """The command's words with a test's budget in place of the real one."""
    words = shlex.split(command)
    words = words[words.index("treering") + 1 :]
    if "RUN" in words:
        # The folder that the README's own `treering train` has printed.
        words[words.index("RUN")] = str(next(Path("runs/reviews.csv/lstm").iterdir()))
    if "--steps" in words:
        words[words.index("--steps") + 1] = "3"
        words += ["--test-every", "450", "--test-samples", "4", "--hidden-size", "4"]
    elif words[0] == "bench":
        words += ["--budget", "smoke"]
    elif words[0] in ("train", "compare", "sweep"):
        words += ["--epochs", "1", "--hidden-size", "4"]
    return words


def test_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    assert len(blocks("python")) == 2
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["outputs"].shape == (8, 40, 128)
    assert scope["y_t"].shape == scope["last"].shape == (8, 128)
    assert "Tree(bracket='balanced'" in capsys.readouterr().out


def test_swap_example_is_ten_lines() -> None:
    lines = blocks("python")[0].splitlines()
    assert len([line for line in lines if line]) == 10


def test_commands_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(commands()) == 14
    for command in commands():
        for assignment in re.findall(r"^(\w+)=(\S+) ", command):
            monkeypatch.setenv(*assignment)
        code = main(shortened(command))
        printed = capsys.readouterr()
        assert code == 0, (command, printed.err)
        assert printed.out.strip(), command
    assert "<html" in (workplace / "report.html").read_text(encoding="utf-8")


def test_make_targets_exist_and_call_what_is_promised() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = dict(re.findall(r"^([\w-]+):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    assert "treering demo" in targets["demo"]
    assert "pytest" in targets["test"]
    used = {word for block in blocks("console") for word in re.findall(r"^make (\S+)", block, re.M)}
    assert used == {"demo", "test"}
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_table_of_layers_is_the_generated_one() -> None:
    table = re.search(r"compares -->\n\n(.*?)\n\n<!-- end -->", README, re.DOTALL)
    assert table is not None
    assert table[1] == markdown_layers(), "run `treering list --markdown` and paste it"


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page.name, target)
