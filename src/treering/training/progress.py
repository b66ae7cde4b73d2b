"""How a run tells somebody how far it is."""

from typing import Protocol


class Progress(Protocol):
    """What the training loop calls. The command line draws a bar with it; nothing is the default.

    An exception from any of these leaves the run like a crash: the last checkpoint stays.
    """

    def start(self, total: int) -> None:
        """Training begins (or goes on); it ends at step `total` at the latest."""
        ...

    def advance(self, step: int, loss: float, score: float) -> None:
        """Step number `step`, counted from 1, is done; cross entropy and score of its batch."""
        ...

    def message(self, text: str) -> None:
        """A short line on what happens now, in place of the one before."""
        ...

    def stop(self) -> None:
        """The run is over, one way or another. Called once for every `start`."""
        ...


class Silent:
    """Says nothing."""

    def start(self, total: int) -> None:
        pass

    def advance(self, step: int, loss: float, score: float) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def stop(self) -> None:
        pass
