"""What is measured: every row of the table as data. A new row is an entry here.

Targets are those of the project's design: how many times less time or memory than the peer, or
which fraction of a matrix product's rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from treering import layers, tasks
from treering.bench.peers.abstract import Peer
from treering.bench.peers.gemm import BestGemm
from treering.bench.peers.jax_pr_lstm import JaxPRLSTM
from treering.bench.peers.torch_layers import TorchLayer
from treering.bench.peers.torchrecurrent_layers import Torchrecurrent, counterpart
from treering.bench.peers.treering_itself import EAGER
from treering.bench.record import Case


@dataclass(frozen=True)
class Row:
    """Ours in a case beside a peer, and how many times less it should take."""

    name: str
    group: str
    case: Case
    peer: Peer
    target: float
    quantity: Literal["time", "memory", "rate"] = "time"
    note: str = ""
    place: int = 0
    """In the table."""


@dataclass(frozen=True)
class Size:
    """B sequences of T tokens, I wide, through H hidden units."""

    batch: int
    time: int
    input_size: int
    hidden_size: int

    def __str__(self) -> str:
        return f"B{self.batch} T{self.time} I{self.input_size} H{self.hidden_size}"

    def case(self, layer: str, mode: str, **others: str) -> Case:
        """A layer at this size."""
        return Case.model_validate({**vars(self), "layer": layer, "mode": mode, **others})


SEQUENCES = Size(32, 512, 100, 256)
PAPER = Size(128, 40, 256, 256)
PARITY = replace(PAPER, input_size=tasks.get("parity_check").input_size)
LONG = Size(1, 4096, 256, 256)
STREAM = Size(1, 64, 64, 64)
ONE_SMALL = Size(1, 512, 64, 64)

REDUCE, PREFIX = "last", "all"
OTHER_FUNCTION = "the peer computes another function of equal width; ours alone is compared with \
the reference"
LSTM, GRU, RNN = TorchLayer(nn.LSTM), TorchLayer(nn.GRU), TorchLayer(nn.RNN)
AUTHORS = JaxPRLSTM()
GEMM = BestGemm()


def rows() -> list[Row]:
    """All rows, in the order of the table."""
    known = [*_loops(), *_trees(), *_streams(), *_memory(), *_torchrecurrent(), *_rates()]
    return [replace(row, place=place) for place, row in enumerate(known)]


def _loops() -> Iterator[Row]:
    group = f"LSTM, {SEQUENCES}, beside nn.LSTM"
    for mode, target in (("train", 1.5), ("infer", 1.0)):
        yield Row(f"lstm-{mode}", group, SEQUENCES.case("lstm", mode), LSTM, target)
    group = f"QL-LSTM, {SEQUENCES}, beside nn.LSTM of equal width"
    for mode, target in (("train", 2.5), ("infer", 1.8)):
        case = SEQUENCES.case("ql-lstm", mode)
        yield Row(f"ql-lstm-{mode}", group, case, LSTM, target, note=OTHER_FUNCTION)


def _trees() -> Iterator[Row]:
    targets = {REDUCE: {"float32": 2.0, "bfloat16": 4.0}, PREFIX: {"float32": 1.5, "bfloat16": 3.0}}
    for outputs, of_dtype in targets.items():
        word = "reduce" if outputs == REDUCE else "prefix"
        for dtype, target in of_dtype.items():
            short = "" if dtype == "float32" else "-bf16"
            of = "" if dtype == "float32" else " in bfloat16"
            group = f"PR-LSTM {word}{of}, {PAPER}, beside its authors' code"
            for mode in ("train", "infer"):
                case = PAPER.case("pr-lstm", mode, outputs=outputs, dtype=dtype)
                yield Row(f"pr-lstm-{word}-{mode}{short}", group, case, AUTHORS, target)
    yield Row(
        "pr-lstm-tokens-train",
        f"PR-LSTM on two symbols (parity), {PARITY}, beside its authors' code",
        PARITY.case("pr-lstm", "train", outputs=REDUCE, input="parity"),
        AUTHORS,
        8.0,
        note="equal blocks of tokens are merged once",
    )
    yield Row(
        "pr-lstm-long-infer",
        f"PR-LSTM reduce, {LONG}, beside nn.LSTM of equal width",
        LONG.case("pr-lstm", "infer", outputs=REDUCE),
        LSTM,
        1.0,
        note=OTHER_FUNCTION,
    )


def _streams() -> Iterator[Row]:
    group = f"one token at a time, {STREAM}, beside nn.LSTM called with T = 1"
    for name in layers.names():
        note = "" if name == "lstm" else OTHER_FUNCTION
        yield Row(f"step-{name}", group, STREAM.case(name, "step"), LSTM, 3.0, note=note)
    group = f"one token at a time, {STREAM}, beside the same layer of PyTorch"
    for name, peer in (("gru", GRU), ("rnn", RNN)):
        yield Row(f"step-{name}-own", group, STREAM.case(name, "step"), peer, 1.0)


def _memory() -> Iterator[Row]:
    for word, outputs in (("reduce", REDUCE), ("prefix", PREFIX)):
        yield Row(
            f"pr-lstm-{word}-memory",
            f"memory in training, PR-LSTM, {PAPER}, beside eager autograd",
            PAPER.case("pr-lstm", "train", outputs=outputs),
            EAGER,
            2.0,
            "memory",
        )


def _torchrecurrent() -> Iterator[Row]:
    for name in layers.names():
        if counterpart(name) is None:
            continue
        peer = Torchrecurrent(name)
        for word, sizes in (("small", ONE_SMALL), ("batch", SEQUENCES)):
            for mode in ("train", "infer"):
                yield Row(
                    f"torchrecurrent-{name}-{word}-{mode}",
                    f"cells that torchrecurrent has, {sizes}",
                    sizes.case(name, mode),
                    peer,
                    10.0,
                )


def _rates() -> Iterator[Row]:
    group = "fraction of the best matrix product's rate"
    for name in ("lstm", "gru", "rnn", "ql-lstm", "nonlinear-gate-lstm"):
        for mode in ("train", "infer"):
            case = SEQUENCES.case(name, mode)
            yield Row(f"gemm-{name}-{mode}", group, case, GEMM, 0.6, "rate")
    for row in [row for row in _trees() if row.case.input == "normal"]:
        yield Row(f"gemm-{row.name}", group, row.case, GEMM, 0.6, "rate")


def shrunk(case: Case) -> Case:
    """The same case at a size that takes milliseconds: for the budget `smoke`."""
    small = {"batch": 2, "time": 17, "hidden_size": 8}
    small |= {} if case.input == "parity" else {"input_size": 6}
    return case.model_copy(update={k: min(v, getattr(case, k)) for k, v in small.items()})


def smoke(row: Row) -> Row:
    """A row at the size of `shrunk`, and saying so."""
    return replace(row, case=shrunk(row.case), group=f"{row.group} (but shrunk: budget smoke)")
