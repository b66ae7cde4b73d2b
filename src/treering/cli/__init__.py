"""The command `treering`: one file per command, imported when it is called."""

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from treering._errors import UserError

USER_MISTAKE = 2
STOPPED = 130

COMMANDS = {
    "demo": "Watch an LSTM, a QL-LSTM and a PR-LSTM learn parity, in minutes.",
    "list": "List the layers and the tasks.",
    "train": "Train one layer on one task, or go on training it.",
    "compare": "Train several layers on one task over several seeds: a table and a report.",
    "report": "Make one HTML page of all records under a folder, and print their table.",
    "doctor": "Say what this machine has, which kernel each layer runs on it, and why.",
}

app = App(
    name="treering",
    help="LSTM successors for PyTorch: train them, compare them, look at what came out.",
    version=lambda: version("treering"),
    help_format="markdown",
)
for _name, _help in COMMANDS.items():
    # A module called list would hide the built-in name in this package.
    _module = "listing" if _name == "list" else _name
    # By path, so that a command that needs no PyTorch does not wait for it.
    app.command(f"treering.cli.{_module}:{_name}_", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 for a user's mistake, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_none",
        )
    except (UserError, CycloptsError) as error:
        print(f"treering: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt as stop:
        # Only a run that was saved has something to say here.
        saved = f"{stop}: {shlex.join(['treering', *words])}" if str(stop) else "stopped"
        print(f"treering: {saved}", file=sys.stderr)
        return STOPPED
    return 0
