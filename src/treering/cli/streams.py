"""Standard output: for people, for programs, and when it cannot be written."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from treering._errors import UserError

WIDE = 160
"""Columns in a pipe or a file, where nothing says how wide the reader is."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process here.
        raise BrokenPipeError


@contextmanager
def standard_output() -> Iterator[Console]:
    """What to print on, wide enough in a pipe that tables are not cut.

    UserError if standard output cannot be written, for instance to a full disk.
    """
    console = _Console(highlight=False)
    try:
        yield console if console.is_terminal else _Console(highlight=False, width=WIDE)
        # Here and not at exit, where a failure could not be told any more.
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        reason = error.strerror or error
        raise UserError(f"cannot write the result to standard output: {reason}") from None


def plain_table(title: str, *, header: bool = True) -> Table:
    """A table with no lines but one under its headings, so that 80 columns go far."""
    return Table(
        title=title,
        title_justify="left",
        show_header=header,
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    with standard_output():
        sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def discard_output() -> None:
    """Send what is still buffered nowhere: at exit Python would fail on it a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tolerate_narrow_encodings() -> None:
    """Print ? for what a terminal's encoding lacks (such as ±), where Python would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
