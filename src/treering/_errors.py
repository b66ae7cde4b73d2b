"""Messages for people: what was given, why it fails, what to write instead."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what the user gave; its text is one line a user can act on.

    The command line prints it and exits with code 2; in Python it is a ValueError.
    """


class ShapeError(UserError, RuntimeError):
    """A shape that does not fit, which nn.LSTM reports as a RuntimeError with the same text.

    Code that expects nn.LSTM's exception catches this one too.
    """


def nearest(name: str, known: Iterable[str], kind: str) -> str:
    """Compose the message for an unknown name, nearest known names first.

    >>> nearest("lstn", ["lstm", "gru"], "layer")
    "unknown layer 'lstn'; did you mean 'lstm'? Known: gru, lstm"
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else "."
    return f"unknown {kind} {name!r}{guess} Known: {', '.join(names)}"
