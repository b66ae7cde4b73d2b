"""Runs on a Ray cluster: each is a task there, and its folder comes back whole.

Nodes need the same treering, PyTorch and Python as the caller, and no common file system: data is
sent once, the files of a run that was stopped go out with it, and all its files come back.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch

from treering._errors import UserError
from treering.cli.options import RunOptions
from treering.cli.progress import Bars
from treering.cli.queue import Run, run_to_the_end
from treering.cli.runs import Protocol, folder_of
from treering.cli.specs import LayerSpec
from treering.records import FILE_NAME, Record, write_atomically
from treering.training import Interrupted
from treering.training.checkpoint import FILE_NAME as CHECKPOINT
from treering.training.progress import Silent

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, which ends with the command."""

SECONDS_TO_ANSWER = 10
UNKNOWN_THERE = "failed to import on the worker"
"""What Ray says where a node does not know the function that it should run."""


class Ending(NamedTuple):
    """How a run ended on its node."""

    how: Literal["over", "interrupted", "mistake"]
    told: str
    files: dict[str, bytes]
    """All of its folder."""


def check_device(device: str) -> None:
    """UserError for a device that a run on a cluster cannot have."""
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"--device {device} with --ray: write cpu, or cuda, which gives each run a GPU of its"
            " own"
        )


def needs(options: RunOptions) -> dict[str, int]:
    """What Ray keeps free for a run: a core for each of its threads, and a GPU for cuda."""
    gpus = 1 if options.device == "cuda" else 0
    return {"num_cpus": options.threads or 1, "num_gpus": gpus}


def run_on_cluster(runs: Sequence[Run], bars: Bars, *, address: str) -> None:
    """Have the runs done on the cluster at the address, as many at a time as it has room for.

    A run has one thread unless its options say otherwise. After Ctrl-C, and after a mistake in one
    of them, those under way save and come back. A run whose worker died is named at the end.

    Raises:
        UserError: no Ray, no cluster there, a mistake in a run, or a worker that died.
        KeyboardInterrupt: after Ctrl-C.
    """
    if not runs:
        return
    with _cluster(address):
        _check_room(needs(runs[0].protocol.run), address)
        _Sweep(runs, bars).run()


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connected; what the caller has connected to or started before is used and left as it is."""
    try:
        import ray
    except ImportError:
        raise UserError(
            '--ray needs Ray, which is not installed: pip install "treering[cluster]"'
        ) from None
    if ray.is_initialized():
        yield
        return
    try:
        if address == LOCAL:
            start_here()
        else:
            _check_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--ray {address}: {reason}; give the address of a cluster that runs, such as"
            f" 10.0.0.1:6379, auto, or {LOCAL}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def start_here(**options: Any) -> None:
    """A cluster of this machine alone, with `ray.init`'s options, that leaves nothing behind."""
    import ray

    # Nobody asked for word of this to go anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else Ray writes one into the user's home, and clusters started later ask for it.
    os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))
    ray.init(
        address=LOCAL,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **options,
    )


def _check_reachable(address: str) -> None:
    """OSError where nobody listens: Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_ANSWER).close()


def _check_room(needed: dict[str, int], address: str) -> None:
    """UserError where a local cluster could never begin; others may grow."""
    import ray

    here = ray.cluster_resources()
    for name, resource, option in (("num_cpus", "CPU", "threads"), ("num_gpus", "GPU", "device")):
        if address == LOCAL and needed[name] > here.get(resource, 0):
            raise UserError(
                f"each run needs {needed[name]} {resource} and this machine has"
                f" {here.get(resource, 0):g}; change --{option}"
            )


@dataclass
class _Sweep:
    """Runs on a cluster that is connected."""

    runs: Sequence[Run]
    bars: Bars

    def __post_init__(self) -> None:
        import ray

        self.tasks = {id(run.protocol.task): ray.put(run.protocol.task) for run in self._by_task()}
        self.waiting = list(self.runs)[::-1]
        self.pending: dict[Any, Run] = {}
        self.stopping = False
        self.interrupted = False
        self.mistakes: list[str] = []
        self.dead: list[str] = []

    def _by_task(self) -> list[Run]:
        return list({id(run.protocol.task): run for run in self.runs}.values())

    def run(self) -> None:
        import ray

        jobs = self.runs[0].protocol.run.jobs or len(self.runs)
        overall = self.bars.bars.add_task("runs", total=len(self.runs), note="")
        while self.waiting or self.pending:
            try:
                while self.waiting and len(self.pending) < jobs:
                    self._begin(self.waiting.pop())
                (done,), _ = ray.wait(list(self.pending))
                self._end(done)
                self.bars.bars.advance(overall)
            except KeyboardInterrupt:
                if self.interrupted:
                    self._leave()
                    raise
                self.interrupted = True
                self._stop()
            except Exception:
                self._leave()
                raise
        if self.mistakes:
            raise UserError(self.mistakes[0])
        if self.interrupted:
            raise KeyboardInterrupt(
                f"stopped; what was under way is saved in {self.runs[0].protocol.run.out}; the"
                " same command goes on from there"
            )
        if self.dead:
            raise UserError(
                f"{'; '.join(self.dead)}; the other runs are finished, and the same command runs"
                " what is missing"
            )

    def _begin(self, run: Run) -> None:
        import ray

        protocol = run.protocol
        rest = {f.name: getattr(protocol, f.name) for f in fields(Protocol) if f.name != "task"}
        # Not tried again by Ray: what was too large for a node's memory would be so once more.
        task = ray.remote(work).options(**needs(protocol.run), max_retries=0, name=run.title)
        reference = task.remote(
            self.tasks[id(protocol.task)],
            rest,
            run.spec,
            run.seed,
            run.may_diverge,
            read_files(run.folder),
        )
        self.pending[reference] = run

    def _stop(self) -> None:
        """A signal as of Ctrl-C for each: those under way save, the others never begin."""
        import ray

        self.stopping = True
        self.waiting.clear()
        for reference in self.pending:
            ray.cancel(reference)

    def _mistake(self, told: str) -> None:
        self.mistakes.append(told)
        if not self.stopping:
            self._stop()

    def _leave(self) -> None:
        """End what is under way without a word from it: a cluster of others does not end here."""
        import ray

        for reference in self.pending:
            ray.cancel(reference, force=True)

    def _end(self, reference: Any) -> None:
        """Keep what the run has brought, or what there is to say of it."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        run = self.pending[reference]
        try:
            ending = Ending(*ray.get(reference))
        except RayTaskError as error:
            if UNKNOWN_THERE not in str(error):
                # No mistake of the user's: the whole of what it raised is worth reading.
                raise
            del self.pending[reference]
            self._mistake(
                f"a node of the cluster cannot import treering ({str(error).splitlines()[-1]});"
                " install the same version of it on every node"
            )
            return
        except RayError as error:
            del self.pending[reference]
            if not self.stopping:
                self.dead.append(f"the worker of {run.title} died ({_reason(error)})")
            return
        write_files(run.folder, ending.files)
        del self.pending[reference]
        if ending.how == "mistake":
            self._mistake(f"{run.title}: {ending.told}")
            return
        if ending.how == "interrupted" and not self.stopping:
            self.dead.append(f"{run.title} was stopped on its node")
            return
        seconds = Record.load(run.folder).cost.wall_seconds
        self.bars.add(run.title).finish(seconds, diverged=run.has_diverged())


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(". ") or type(error).__name__


def work(
    task: Any,
    rest: dict[str, Any],
    spec: LayerSpec,
    seed: int,
    may_diverge: bool,
    files: dict[str, bytes],
) -> Ending:
    """On a node: one run in a folder of its own, from the files that it has already."""
    with TemporaryDirectory() as out:
        protocol = Protocol(task=task, **rest)
        threads = protocol.run.threads or 1
        torch.set_num_threads(threads)
        here = replace(protocol, run=replace(protocol.run, out=Path(out), threads=threads))
        folder = folder_of(here, spec, seed)
        write_files(folder, files)
        how, told = "over", ""
        try:
            run_to_the_end(here, spec, seed, may_diverge, Silent())
        except Interrupted:
            how = "interrupted"
        except UserError as error:
            # The folder on the node means nothing to who reads this.
            how, told = "mistake", str(error).replace(out, str(protocol.run.out))
        return Ending(how, told, read_files(folder))


def read_files(folder: Path) -> dict[str, bytes]:
    """All files of a run, by name; none if it has no folder yet."""
    if not folder.exists():
        return {}
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix != ".part"
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Each whole or not at all; what names others after them, and the record at the very end."""
    last = [name for name in (CHECKPOINT, FILE_NAME) if name in files]
    for name in (*(name for name in files if name not in last), *last):
        write_atomically(folder / name, files[name])
    if CHECKPOINT in files:
        for older in folder.glob("checkpoint-*.safetensors"):
            if older.name not in files:
                older.unlink()
