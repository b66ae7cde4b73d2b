"""Several runs at the same time, each in a process of its own.

A small model does not keep two cores busy: threads wait for each other at every operation, and
for milliseconds if anything else runs on the machine. One process and one thread per run keeps
every core at work, and its peak memory is the run's own.

Importing PyTorch takes seconds, so where the system can, one process imports it and every run's
process is forked from that one, which does nothing else: no thread, no tensor, no accelerator.
"""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from treering._errors import UserError
from treering.cli.progress import Bars, RunBar
from treering.records import Metric
from treering.training import Interrupted

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

QUIET_SECONDS = 0.1
"""Between two words of a run on how far it is."""
IMPORTED = ("treering.cli.queue", "torch._dynamo")
"""What every run needs; PyTorch imports the second when it makes the first optimiser."""


class Call(NamedTuple):
    """One run: what its bar is called, what its scores are, and what it is called with."""

    title: str
    metric: Metric
    arguments: tuple[Any, ...]
    has_diverged: Callable[[], bool]
    """Asked at its end: did its loss become no finite number?"""


class Reporter:
    """What `treering.training` calls a Progress, at the run's end of a pipe.

    The other end says "stop" when the user pressed Ctrl-C; here that becomes the signal which
    the training loop waits for.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.spoke = 0.0

    def start(self, total: int) -> None:
        self._tell("start", total)

    def advance(self, step: int, loss: float, score: float) -> None:
        self._listen()
        if perf_counter() - self.spoke > QUIET_SECONDS:
            self._tell("advance", step, loss, score)

    def message(self, text: str) -> None:
        self._listen()
        self._tell("message", text)

    def stop(self) -> None:
        """The process ends with the run."""

    def _tell(self, what: str, *details: Any) -> None:
        self.spoke = perf_counter()
        self.pipe.send((what, details))

    def _listen(self) -> None:
        if self.pipe.poll():
            self.pipe.recv()
            signal.raise_signal(signal.SIGINT)


@dataclass
class _Running:
    index: int
    process: BaseProcess
    bar: RunBar


def work(pipe: Connection, run: Any, arguments: bytes) -> None:
    """In the new process: `run(*arguments, reporter)`, and how it ended."""
    # Until here Ctrl-C was ignored, so that an import does not end in a traceback.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(*pickle.loads(arguments), Reporter(pipe))
    except Interrupted as stop:
        pipe.send(("interrupted", (str(stop),)))
    except UserError as error:
        pipe.send(("mistake", (str(error),)))
    except KeyboardInterrupt:
        pipe.send(("interrupted", ("",)))
    else:
        pipe.send(("done", ()))


def run_in_processes(run: Any, calls: Sequence[Call], jobs: int, bars: Bars) -> None:
    """Run `run(*arguments, progress)` for every call, at most `jobs` at a time.

    Raises KeyboardInterrupt after Ctrl-C, when all that ran have saved; UserError, after stopping
    the others, if one of them does.
    """
    context = _context()
    waiting = list(enumerate(calls))[::-1]
    running: dict[Connection, _Running] = {}
    stopped: list[str] = []
    mistakes: list[str] = []

    def begin() -> None:
        index, call = waiting.pop()
        here, there = context.Pipe()
        # As bytes: PyTorch would have tensors shared through /dev/shm, small in many containers.
        given = (there, run, pickle.dumps(call.arguments))
        process = context.Process(target=work, args=given, daemon=True)
        with _ctrl_c_ignored():
            process.start()
        there.close()
        running[here] = _Running(index, process, bars.add(call.title, call.metric))

    def stop_all() -> None:
        waiting.clear()
        for pipe in running:
            # A run that has just ended no longer listens.
            with _gone_is_fine():
                pipe.send("stop")

    def hear(pipe: Connection) -> None:
        one = running[pipe]
        try:
            what, details = pipe.recv()
        except EOFError:
            one.process.join()
            raise RuntimeError(
                f"the process of {one.bar.title} ended with exit code {one.process.exitcode} and"
                " no word; what it printed is above"
            ) from None
        if what in ("start", "advance", "message"):
            getattr(one.bar, what)(*details)
            return
        del running[pipe]
        pipe.close()
        one.process.join()
        one.bar.finish(diverged=calls[one.index].has_diverged())
        if what == "interrupted":
            stopped.extend(details)
        elif what == "mistake":
            mistakes.extend(details)
            stop_all()

    try:
        while waiting or running:
            try:
                while waiting and len(running) < jobs:
                    begin()
                for pipe in wait(list(running)):
                    assert isinstance(pipe, Connection)
                    hear(pipe)
            except KeyboardInterrupt:
                if stopped or not running:
                    raise
                stopped.append("")
                stop_all()
    finally:
        for one in running.values():
            one.process.terminate()
    if mistakes:
        raise UserError(mistakes[0])
    if stopped:
        raise KeyboardInterrupt(next((text for text in stopped if text), ""))


def _context() -> "ForkServerContext | SpawnContext":
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except (BrokenPipeError, ConnectionResetError):
        return
