"""Ctrl-C that waits for the step to end; the second one does not."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self


class Interrupted(Exception):  # noqa: N818 - a wish fulfilled, not an error
    """The run was stopped by Ctrl-C, and is saved: the same call goes on from `step`."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(
            f"stopped after step {step}, saved in {folder}; the same command goes on from there"
        )
        self.folder = folder
        self.step = step


class CtrlC:
    """While entered, the first Ctrl-C only sets `requested`, and the second kills the process.

    Python allows handlers in the main thread only, so elsewhere this does nothing. A process whose
    Ctrl-C is ignored (a job in the background) or belongs to code outside of Python keeps that.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            present = signal.getsignal(signal.SIGINT)
            if present is not None and present is not signal.SIG_IGN:
                self._previous = present
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        # Not Python's own handler: its KeyboardInterrupt waits until a long operation returns.
        # Files are replaced whole, so dying at any moment leaves a loadable checkpoint.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
