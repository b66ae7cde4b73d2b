"""Every command: help with an example that works, JSON, exit codes, streams."""

import errno
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from treering.cli import COMMANDS, main, presets, streams
from treering.cli.options import TrainingOptions

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, assert_mistake, reviews, write_reviews

MODULES = {name: "listing" if name == "list" else name for name in COMMANDS}
TREERING = [sys.executable, "-c", "import sys; from treering.cli import main; sys.exit(main())"]


def docstring(command: str) -> str:
    function = getattr(import_module(f"treering.cli.{MODULES[command]}"), f"{command}_")
    return inspect.cleandoc(function.__doc__)


def example(command: str) -> list[str]:
    found = re.search(r"^Example: treering (.*)$", docstring(command), re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_its_docstring_with_an_example(command: str, call: Call) -> None:
    outcome = call(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    shown = " ".join(outcome.out.split())
    assert f"Usage: treering {command}" in shown
    assert shlex.join(["treering", *example(command)]) in shown
    description = docstring(command).partition("\n\nParameters\n---")[0]
    assert " ".join(description.replace("`", "").split()) in shown
    assert "--json" in shown


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_the_commands_in_order(words: list[str], call: Call) -> None:
    outcome = call(*words)
    assert outcome.code == 0
    listed = re.findall(r"^│ (\w+) ", outcome.out, re.MULTILINE)
    assert listed == list(COMMANDS)
    shown = " ".join(outcome.out.replace("│", " ").split())
    for line in COMMANDS.values():
        assert line in shown


def test_help_shows_the_defaults_of_each_kind_of_task(call: Call) -> None:
    shown = " ".join(call("train", "--help").out.replace("│", " ").split())
    assert f"[default: generated {presets.GENERATED['steps']:,}]" in shown
    rates = "; ".join(f"{kind} {own['learning_rate']}" for kind, own in presets.BY_KIND.items())
    kinds = (
        "generated; file; r8, fine-foods; imdb; listops; sst; logical-inference; text; wikitext2"
    )
    assert "; ".join(presets.BY_KIND) == kinds
    assert f"[default: {rates}]" in shown
    assert "[default: 1.0]" in shown  # the same clip for all


def test_help_imports_no_command() -> None:
    script = (
        "import sys, treering; before = set(sys.modules); from treering.cli import main;"
        "main(['--help']); print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    imported = set(ran.stderr.split())
    assert "treering.cli" in imported
    assert not imported & {f"treering.cli.{module}" for module in MODULES.values()}
    heavy = {"pydantic", "tokenizers", "matplotlib", "jinja2", "psutil", "safetensors", "pooch"}
    assert not imported & heavy


@pytest.mark.parametrize("command", COMMANDS)
def test_example_runs_with_a_small_budget(
    command: str, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_r8(folder, monkeypatch)
    small_demo(monkeypatch)
    write_reviews(folder / "reviews.csv", reviews(40))
    assert call("train", "even_pairs", *FAST).code == 0
    budget = FAST_TEXT if command in ("train", "compare", "sweep") else []
    words = example(command)
    if command in ("inspect", "predict", "export"):
        (folder / "new.txt").write_text("The film was lovely\n")
        trained = call("train", "reviews.csv", *COLUMNS, *FAST_TEXT, "--layer=lstm").out
        place = trained.splitlines()[-1].removeprefix("Record and checkpoint: ")
        # The example's folder has a made-up number in its name.
        words = [place if word.startswith(place.rsplit("-", 1)[0]) else word for word in words]
    if command == "bench":
        # One row at a small size for the whole table, which takes minutes.
        small = {"table": "lstm-infer", "quick": "smoke", "2": "1"}
        words = [small.get(word, word) for word in words]
    outcome = call(*words, *budget)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip()


def small_r8(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "r8").mkdir()
    for name, count in (("train.txt", 40), ("test.txt", 10)):
        rows = reviews(count, seed=count)
        text = "".join(f"{row['stars']}\t{row['review']}\n" for row in rows)
        (folder / "r8" / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("TREERING_DATA", str(folder))


def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    small = TrainingOptions(
        steps=2, batch_size=4, train_length=6, test_length=9, test_every=2, test_samples=4
    )
    monkeypatch.setattr("treering.cli.demo.BUDGET", small)


def constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["list"], {"layers", "baselines", "tasks"}),
        (["doctor"], {"machine", "layers"}),
        (["demo"], {"report", "results"}),
        (["report"], {"report", "results"}),
        (["compare", "parity_check", "--layers=lstm", "--seeds=2", *FAST], {"report", "results"}),
        (["train", "parity_check", *FAST], {"run_id", "command", "evaluation", "learning"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_alone_is_on_standard_output(
    words: list[str], keys: set[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_demo(monkeypatch)
    assert call("train", "even_pairs", *FAST).code == 0
    outcome = call(*words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    content = json.loads(outcome.out, parse_constant=constant)
    assert keys <= content.keys()


@pytest.mark.parametrize("command", ["list", "report"])
def test_two_formats_at_once_are_a_mistake(command: str, call: Call) -> None:
    assert call("train", "even_pairs", *FAST).code == 0
    assert_mistake(call(command, "--json", "--markdown"), "not both")


def test_version(call: Call) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", call("--version").out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], ["trian", "train"]),
        (["train"], ["TASK"]),
        (["train", "parity_check", "--stepz", "3"], ["--stepz", "--steps"]),
        (["train", "parity_check", "--steps"], ["--steps"]),
        (["train", "parity_check", "more"], ["unexpected 'more'", "treering train --help"]),
        (["list", "--jsn"], ["--jsn", "--json"]),
        (["train", "caf\udce9.csv"], ["caf\\udce9.csv", "UTF-8"]),
    ],
)
def test_mistakes_of_the_command_itself(words: list[str], expected: list[str], call: Call) -> None:
    assert_mistake(call(*words), *expected)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("treering.cli.runs.fit", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["train", "parity_check", *FAST])


def test_ctrl_c_before_a_run_is_not_a_traceback(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("treering.cli.queue.build", stop)
    outcome = call("train", "parity_check", *FAST)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "treering: stopped\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_list_cuts_nothing_on_a_narrow_terminal(
    columns: int, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = call("list", "--json").json
    monkeypatch.setattr(streams, "WIDE", columns)
    shown = call("list").out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= columns
    words = " ".join(shown.split())
    for layer in content["layers"]:
        assert layer["class"] in words
        for option in layer["options"]:
            assert f"{option}=" in words
    headings = ["Formal languages", "State tracking and recall", "Data sets"]
    first = [shown.index(f"\n{name} ") for name in ("even_pairs", "streaming_parity", "r8")]
    for heading, at in zip(headings, first, strict=True):
        assert heading in shown[:at]
        assert heading not in shown[at:]
    for task in content["tasks"]:
        numbers = [task.get(name, "") for name in ("symbols", "classes", "output_length_at_10")]
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{task['name']} ")]
        assert line.split()[-3:] == list(map(str, numbers)) or "symbols" not in task


class Unwritable(io.TextIOWrapper):
    """Standard output on a full disk, or with a reader that has gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["list", "--markdown"]])
def test_a_full_disk_behind_standard_output(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    discarded = []
    monkeypatch.setattr(streams, "discard_output", lambda: discarded.append(True))
    monkeypatch.setattr(sys, "stdout", Unwritable(OSError(errno.ENOSPC, "No space left")))
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "treering: cannot write the result to standard output: No space left\n"
    )
    assert discarded


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["list", "--markdown"]])
def test_a_reader_that_has_seen_enough_is_no_mistake(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("treering.cli.discard_output", lambda: None)
    monkeypatch.setattr(sys, "stdout", Unwritable(BrokenPipeError()))
    assert main(words) == 0
    assert capsys.readouterr().err == ""


def test_a_pipe_that_closes_early_leaves_no_message() -> None:
    process = subprocess.Popen(
        [*TREERING, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_a_terminal_without_unicode_shows_question_marks(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    words = ["compare", "parity_check", "--layers=lstm", "--seeds=2", *FAST]
    assert main(words) == 0
    assert "parity_check" in buffer.getvalue().decode("ascii")
