"""The command `treering`: one file per command, imported when it is called."""

import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError, UnusedCliTokensError

from treering._errors import UserError
from treering.cli.streams import discard_output, tolerate_narrow_encodings

USER_MISTAKE = 2
STOPPED = 130

COMMANDS = {
    "demo": "Watch an LSTM, a QL-LSTM and a PR-LSTM learn parity, in minutes.",
    "list": "List the layers and the tasks.",
    "train": "Train one layer on one task, or go on training it.",
    "compare": "Train several layers on one task over several seeds: a table and a report.",
    "sweep": "Try combinations of options, here or on a Ray cluster, and say which are best.",
    "reproduce": "Run a paper's experiments and say which of its claims hold.",
    "inspect": "Look into trained runs: gradients, gates, memory, brackets, probes; a page.",
    "predict": "Answer each line of a file or of standard input with one line.",
    "export": "Write the model of a run as an ONNX file, in int8 if wanted.",
    "bench": "Measure time and memory beside peers, correctness first: a table and a page.",
    "report": "Make one HTML page of all records under a folder, and print their table.",
    "doctor": "Say what this machine has, which kernel each layer runs on it, and why.",
}


def application(called: str | None) -> App:
    """The command line, with nothing imported yet of the commands.

    Only the command that is called is imported; its own help is its docstring. In the list of
    commands each has its line from COMMANDS.
    """
    app = App(
        name="treering",
        help="LSTM successors for PyTorch: train them, compare them, look at what came out.\n\n"
        "Start with: `treering demo`",
        version=lambda: version("treering"),
        help_format="markdown",
        # Otherwise the parser ends the process, and nobody says how to go on.
        suppress_keyboard_interrupt=False,
    )
    for place, (name, line) in enumerate(COMMANDS.items()):
        # listing.py, because a module called list would hide the built-in one in this package.
        module = "listing" if name == "list" else name
        path = f"treering.cli.{module}:{name}_"
        shown = None if name == called else line
        app.command(path, name=name, help=shown, sort_key=place)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what was asked, 2 for a user's mistake, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in words if word in COMMANDS), None)
    tolerate_narrow_encodings()
    try:
        _check_encoding(words)
        application(called)(
            words, exit_on_error=False, print_error=False, result_action="return_none"
        )
    except UnusedCliTokensError as error:
        unused = ", ".join(repr(word) for word in error.unused_tokens or ())
        return _mistake(f"unexpected {unused}; see `treering {called} --help`")
    except (UserError, CycloptsError) as error:
        return _mistake(str(error))
    except BrokenPipeError:
        # The reader, `head` for instance, has seen enough.
        discard_output()
        return 0
    except KeyboardInterrupt as stop:
        # Only a run that was saved has something to say here.
        saved = f"{stop}: {shlex.join(['treering', *words])}" if str(stop) else "stopped"
        print(f"treering: {saved}", file=sys.stderr)
        return STOPPED
    return 0


def _check_encoding(words: Sequence[str]) -> None:
    # Python keeps bytes that are not UTF-8 as half characters, which no record can hold.
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise UserError(f"{word!a} is not valid UTF-8; rename the file or folder")


def _mistake(message: str) -> int:
    print(f"treering: {' '.join(message.split())}", file=sys.stderr)
    return USER_MISTAKE
