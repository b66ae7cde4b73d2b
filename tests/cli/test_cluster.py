"""Sweeps on a Ray cluster of this machine: the same records, stopped, gone on with, failing."""

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import ray

from treering._errors import UserError
from treering.cli import cluster
from treering.cli.cluster import needs, read_files, run_on_cluster, write_files
from treering.cli.options import ModelOptions, RunOptions, TrainingOptions
from treering.cli.progress import Bars
from treering.cli.queue import Run
from treering.cli.runs import prepare, run_one
from treering.cli.specs import LayerSpec
from treering.records import Record, find_records
from treering.training import checkpoint
from treering.training.progress import Silent

from .conftest import FAST, Call, assert_mistake
from .test_runs import assert_same_run, content

SWEEP = ["sweep", "parity_check", "--layers=lstm", "--seeds=1", "--threads=1", *FAST]
SWEEP += ["--validate-every=2", "--grid=learning-rate=1e-3,1e38"]


@pytest.fixture(autouse=True)
def one_core() -> None:
    """Not here: workers of the cluster see the machine as it is, and so should the caller."""


@pytest.fixture(scope="module")
def two_cores() -> Iterator[None]:
    """One cluster for all tests of the file: starting one takes seconds."""
    with pytest.MonkeyPatch.context() as context:
        # Set and removed, so that all that is changed is put back.
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            context.setenv(name, "")
            context.delenv(name)
        cluster.start_here(num_cpus=2, object_store_memory=80 * 2**20)
        yield
        ray.shutdown()


def a_run(out: Path, steps: int, rate: float = 1e-3, *, layer: str = "lstm") -> Run:
    protocol = prepare(
        "parity_check",
        None,
        ModelOptions(hidden_size=4),
        TrainingOptions(
            steps=steps, batch_size=4, learning_rate=rate, train_length=6, test_length=10
        ),
        RunOptions(out=out, threads=1, json=True),
    )
    return Run(protocol, LayerSpec.parse(layer), 0)


def on_cluster(*runs: Run) -> None:
    with Bars(len(runs), quiet=True) as bars:
        run_on_cluster(runs, bars, address="local")


def telling(path: Path) -> Callable[..., cluster.Ending]:
    """A run's work that makes a file in its first step; a GRU waits for that of another run."""

    def work_and_tell(*arguments: Any) -> cluster.Ending:
        from treering.cli.cluster import work

        class Telling(Silent):
            def advance(self, step: int, loss: float, score: float) -> None:
                if step == 1:
                    path.touch()

        while arguments[2].name == "gru" and not path.exists():
            time.sleep(0.01)
        # Put back, for the worker has other runs to come.
        with patch("treering.cli.cluster.Silent", Telling):
            return work(*arguments)

    return work_and_tell


def press_after(path: Path) -> None:
    """Ctrl-C as soon as the file is there."""
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("two_cores")
def test_records_are_those_of_a_sweep_without_ray(call: Call, folder: Path) -> None:
    here = call(*SWEEP, "--out=here", "--jobs=1", "--json")
    there = call(*SWEEP, "--out=there", "--ray=local", "--json")
    assert (there.code, there.err) == (0, "")
    assert there.json["results"] == here.json["results"]
    found = sorted((folder / "here").rglob("record.json"))
    assert len(found) == 2
    for path in found:
        other = folder / "there" / path.parent.relative_to(folder / "here")
        # As text, for one of the two diverges: its last loss is no number, and unequal to itself.
        assert str(content(path.parent)[0]) == str(content(other)[0])
        # Names of checkpoints have a hash of all their tensors.
        assert {p.name for p in path.parent.iterdir()} == {p.name for p in other.iterdir()}
    again = call(*SWEEP, "--out=there", "--ray=local")
    assert again.err.count("finished before") == again.err.count("diverged before") == 1
    fresh = call(*SWEEP, "--out=more", "--ray=local", "--jobs=1")
    assert fresh.code == 0
    assert sorted(line.split("]")[0] for line in fresh.err.splitlines()) == ["[1/2", "[2/2"]
    assert "finished before" not in fresh.err


@pytest.mark.usefixtures("two_cores")
def test_a_mistake_stops_the_others_which_save_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = a_run(tmp_path / "runs", 100_000)
    wrong = a_run(tmp_path / "runs", 3, 1e38, layer="gru")

    monkeypatch.setattr(cluster, "work", telling(tmp_path / "begun"))
    with pytest.raises(UserError, match=r"^gru seed 0: the loss is not finite"):
        on_cluster(long, wrong)
    assert Record.load(long.folder).status == "interrupted"
    assert 0 < checkpoint.load(long.folder).header.position.step < 100_000


@pytest.mark.usefixtures("two_cores")
def test_a_run_that_was_stopped_on_a_node_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = a_run(tmp_path / "whole", 40), a_run(tmp_path / "stopped", 40)
    run_one(whole.protocol, whole.spec, 0, Silent())

    def stopped_at_20(*arguments: Any) -> cluster.Ending:
        from treering.cli.cluster import work

        class Stopping(Silent):
            def advance(self, step: int, loss: float, score: float) -> None:
                if step == 20:
                    # As Ray cancels; it keeps the signal itself from its processes.
                    _thread.interrupt_main()

        # Put back, for the worker has other runs to come.
        with patch("treering.cli.cluster.Silent", Stopping):
            return work(*arguments)

    with monkeypatch.context() as context:
        context.setattr(cluster, "work", stopped_at_20)
        with pytest.raises(UserError, match="lstm seed 0 was stopped on its node; the other runs"):
            on_cluster(stopped)
    record = Record.load(stopped.folder)
    assert record.status == "interrupted"
    assert checkpoint.load(stopped.folder).header.position.step == 20
    on_cluster(stopped)
    assert_same_run(whole.folder, stopped.folder)


@pytest.mark.usefixtures("two_cores")
def test_a_node_that_does_not_know_treering_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("only_here")
    exec("def work(*arguments): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    monkeypatch.setattr(cluster, "work", module.work)
    with pytest.raises(UserError, match=r"cannot import treering \(.*'only_here'\); install"):
        on_cluster(a_run(tmp_path, 3))


@pytest.mark.usefixtures("two_cores")
def test_a_worker_that_dies_is_named_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_if_gru(*arguments: Any) -> cluster.Ending:
        from treering.cli.cluster import work

        if arguments[2].name == "gru":
            os._exit(7)
        return work(*arguments)

    monkeypatch.setattr(cluster, "work", die_if_gru)
    dies, lives = a_run(tmp_path, 3, layer="gru"), a_run(tmp_path, 3)
    with pytest.raises(UserError, match=r"the worker of gru seed 0 died .* runs what is missing"):
        on_cluster(dies, lives)
    assert [record.model.layer for record in find_records(tmp_path)] == ["lstm"]


@pytest.mark.usefixtures("two_cores")
def test_ctrl_c_brings_back_what_was_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, 100_000)
    monkeypatch.setattr(cluster, "work", telling(tmp_path / "begun"))
    presses = threading.Thread(target=press_after, args=(tmp_path / "begun",))
    presses.start()
    with pytest.raises(KeyboardInterrupt, match="stopped; what was under way is saved in"):
        on_cluster(run)
    presses.join()
    assert Record.load(run.folder).status == "interrupted"


def test_files_replace_older_ones_as_a_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert read_files(run) == {}
    write_files(run, {"record.json": b"1", "checkpoint-1-a.safetensors": b"a"})
    (run / ".record.json.7.part").write_bytes(b"half")
    newer = {"record.json": b"2", "checkpoint.json": b"{}", "checkpoint-2-b.safetensors": b"b"}
    write_files(run, newer)
    assert read_files(run) == newer


def test_a_run_has_a_core_for_each_thread_and_a_gpu_of_its_own() -> None:
    assert needs(RunOptions()) == {"num_cpus": 1, "num_gpus": 0}
    assert needs(replace(RunOptions(), threads=4)) == {"num_cpus": 4, "num_gpus": 0}
    assert needs(RunOptions(device="cuda")) == {"num_cpus": 1, "num_gpus": 1}


@pytest.mark.usefixtures("two_cores")
def test_a_run_that_this_machine_has_no_room_for_is_refused(call: Call) -> None:
    words = [word for word in SWEEP if word != "--threads=1"]
    outcome = call(*words, "--threads=3", "--ray=local")
    assert_mistake(outcome, "needs 3 CPU", "has 2", "--threads")


def test_without_ray_the_extra_is_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert_mistake(call(*SWEEP, "--ray=auto"), 'pip install "treering[cluster]"')


def test_an_address_where_nothing_runs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for address in (nobody, f"ray://{nobody}", "127.0.0.1:99999"):
        assert_mistake(call(*SWEEP, f"--ray={address}"), f"--ray {address}: ", "auto, or local")

    def refuse(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore of it")

    monkeypatch.setattr(ray, "init", refuse)
    outcome = call(*SWEEP, "--ray=auto")
    assert_mistake(outcome, "--ray auto: Could not find any running Ray instance", "local")
    assert "More of it" not in outcome.err
