"""What a terminal and a pipe get while runs go on."""

import io
import re
import sys

import pytest

from treering.cli import main

from .conftest import FAST, Call

WORDS = ["compare", "parity_check", "--layers=lstm,gru", "--seeds=1", *FAST]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("force_color", [False, True])
def test_a_pipe_gets_a_line_per_run_and_no_codes(
    force_color: bool, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    if force_color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = call(*WORDS)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", outcome.err).splitlines()
    assert [re.sub(r"\d+\.\d s", "TIME", line) for line in lines] == [
        "[1/2] lstm seed 0: TIME",
        "[2/2] gru seed 0: TIME",
    ]
    if not force_color:
        assert "\x1b" not in outcome.out + outcome.err


def test_a_finished_run_is_not_run_again(call: Call) -> None:
    call(*WORDS)
    assert call(*WORDS).err.splitlines() == [
        "[1/2] lstm seed 0: finished before",
        "[2/2] gru seed 0: finished before",
    ]


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert main(WORDS) == 0
    written = terminal.getvalue()
    assert "━" in written
    assert "[2/2] gru seed 0" in written
    # The cursor is back, and the last thing on the line of the bar is its erasure.
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert written.rindex("\x1b[2K") > written.rindex("━")


def test_json_silences_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert main([*WORDS, "--json"]) == 0
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_numbers_of_the_table_are_never_cut(
    columns: int, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    words = ["compare", "parity_check", "--layers=lstm,nonlinear-gate-lstm", "--seeds=2", *FAST]
    expected = call(*words, "--json").json["results"]
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(words) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    for row in expected:
        assert row["label"] in shown
        assert f"{100 * row['score']:.1f}%" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines()[:-1])) <= columns
    assert ("A wider terminal shows peak memory" in shown) == (columns == 80)
