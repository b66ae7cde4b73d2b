"""Rows: correctness first, peers that are not there, numbers that are not the same."""

import dataclasses
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from treering.bench import agreement, table
from treering.bench.peers import jax_pr_lstm
from treering.bench.peers.abstract import Peer, Prepared, not_installed
from treering.bench.peers.jax_pr_lstm import JaxPRLSTM
from treering.bench.peers.torchrecurrent_layers import Torchrecurrent
from treering.bench.problem import Problem, make
from treering.bench.record import Comparison
from treering.bench.rows import Row, rows, smoke
from treering.cells.lstm import LSTMCell
from treering.dispatch import Kernel
from treering.schedules.abstract import Call
from treering.schedules.sequential import Sequential

from .making import SESSION


def row(name: str) -> Row:
    return next(one for one in rows() if one.name == name)


def measured(name: str, **others: Any) -> Comparison:
    return table.compare(dataclasses.replace(row(name), **others), SESSION)


@pytest.mark.parametrize(
    "name", ["lstm-train", "lstm-infer", "ql-lstm-train", "step-gru-own", "step-pr-lstm"]
)
def test_a_row(name: str):
    one = measured(name)
    assert one.status == "measured"
    assert one.pairs == SESSION.budget.pairs
    assert one.ours is not None
    assert one.theirs is not None
    assert one.ratio is not None
    assert one.ratio.low <= one.ratio.median <= one.ratio.high
    # Another function has no numbers to compare; ours is always held to the reference.
    assert len(one.agreements) == (1 if one.case.layer in ("ql-lstm", "pr-lstm") else 2)
    assert all(a.holds for a in one.agreements)
    assert one.ran


def test_gradients_of_all_parameters_and_of_the_input_are_compared():
    (ours, theirs) = measured("lstm-train").agreements
    assert ours.tensors == theirs.tensors == 6
    assert "nn.LSTM" in theirs.against


def test_a_fraction_of_the_best_product():
    one = measured("gemm-lstm-infer")
    assert one.status == "measured"
    assert one.rate is not None
    assert one.ratio is not None
    assert 0 < one.ratio.median < 1.5


@pytest.mark.parametrize("part", ["outputs", "gradients"])
def test_a_wrong_kernel_is_caught_and_not_timed(part: str, monkeypatch: pytest.MonkeyPatch):
    class Off(torch.autograd.Function):
        """The identity, a hundredth too large in one of its passes."""

        @staticmethod
        def forward(ctx: Any, y: torch.Tensor) -> torch.Tensor:
            return 1.01 * y if part == "outputs" else y.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            return grads[0] if part == "outputs" else 1.01 * grads[0]

    def run(call: Call) -> Any:
        outputs, state = call.schedule.run(call)
        return Off.apply(outputs), state

    wrong = Kernel("wrong-lstm", LSTMCell, Sequential, lambda call: None, run)
    monkeypatch.setattr("treering.dispatch.choice.KERNELS", (wrong,))
    monkeypatch.setattr(table, "paired", lambda *_: pytest.fail("it was timed"))
    one = measured("lstm-train")
    assert one.status == one.verdict == "disagrees"
    assert "wrong-lstm" in one.ran
    assert "treering against the float64 reference" in one.reason
    assert "is off by 0.01, allowed is 1e-04" in one.reason
    assert one.ratio is None


def test_a_wrong_peer_is_caught(monkeypatch: pytest.MonkeyPatch):
    def other(self: torch.nn.Module, state: Any) -> None:
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)

    monkeypatch.setattr(torch.nn.LSTM, "load_state_dict", other)
    one = measured("lstm-infer")
    assert one.status == "disagrees"
    assert one.reason.startswith("nn.LSTM against")


def test_nan_never_agrees():
    broken = {"output": torch.tensor([float("nan"), 1.0])}
    fine = {"output": torch.tensor([0.0, 1.0])}
    assert not agreement.compare(broken, fine, "x").holds
    assert not agreement.compare(fine, broken, "x").holds
    assert agreement.compare(fine, fine, "x").holds


def test_another_shape_never_agrees():
    one = agreement.compare({"output": torch.ones(2)}, {"output": torch.ones(1)}, "x")
    assert not one.holds


class Absent(Peer):
    title = "a peer that is not here"

    def missing(self) -> str | None:
        return not_installed("no-such-package-of-all", "torch")

    def prepare(self, problem: Problem) -> Prepared:
        raise AssertionError("it is not here")


class Broken(Absent):
    title = "a peer of another version"

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Problem) -> Prepared:
        raise AttributeError("no LSTM\nhere")


def test_an_absent_peer_is_skipped_by_name():
    one = measured("lstm-train", peer=Absent())
    assert (one.status, one.peer) == ("skipped", "a peer that is not here")
    assert one.reason == (
        "not installed: no-such-package-of-all; pip install no-such-package-of-all"
    )


def test_a_peer_that_raises_is_skipped_with_its_words():
    one = measured("lstm-train", peer=Broken())
    assert one.status == "skipped"
    assert one.reason == "a peer of another version raised AttributeError: no LSTM here"


def test_a_failure_of_ours_is_not_put_on_the_peer(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(Sequential, "run", fail)
    monkeypatch.setattr("treering.dispatch.choice.KERNELS", ())
    with pytest.raises(RuntimeError, match="ours"):
        measured("lstm-infer")


def test_the_authors_code_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(jax_pr_lstm, "not_installed", lambda *_: None)
    monkeypatch.setattr(jax_pr_lstm, "PACKAGE", "no_such_package_of_all")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(jax_pr_lstm.VARIABLE, str(tmp_path))
    reason = JaxPRLSTM().missing()
    assert reason is not None
    assert f"{jax_pr_lstm.VARIABLE}={tmp_path}" in reason
    assert jax_pr_lstm.REPOSITORY in reason


def test_rows_have_names_of_their_own_and_can_be_made():
    known = rows()
    assert len({one.name for one in known}) == len(known)
    assert [one.place for one in known] == list(range(len(known)))
    for one in known:
        case = smoke(one).case
        problem = make(case)
        assert problem.x.shape == (case.time, case.batch, case.input_size)
        assert problem.x.dtype == problem.dy.dtype == getattr(torch, case.dtype)


def test_one_hot_symbols_are_those_of_the_task():
    problem = make(smoke(row("pr-lstm-tokens-train")).case)
    assert problem.x.unique().tolist() == [0.0, 1.0]
    assert bool((problem.x.sum(-1) == 1).all())
    assert not problem.differentiable_input


@pytest.mark.parametrize(
    "name", [one.name for one in rows() if isinstance(one.peer, JaxPRLSTM | Torchrecurrent)]
)
def test_peers_that_are_installed_compute_the_same(name: str):
    """In an environment made by `make bench` these run; elsewhere there is nothing to compare."""
    peer = row(name).peer
    reason = peer.missing()
    if reason is not None:
        pytest.skip(reason)
    one = measured(name)
    assert one.status == "measured", one.reason


def test_versions_of_peers_are_told():
    if not_installed("torchrecurrent") is not None:
        pytest.skip("torchrecurrent is not installed")
    told = row("torchrecurrent-lstm-small-infer").peer.version
    assert told == f"torchrecurrent {metadata.version('torchrecurrent')}"
