"""torchrecurrent: layers of the same cell, with the same weights.

Legend: T time, B batch, I input.
"""

import importlib
from importlib import metadata

import torch
from torch import Tensor, nn

from treering.bench.peers.abstract import Peer, Prepared, not_installed, run_module
from treering.bench.problem import Problem

PACKAGE = "torchrecurrent"
CLASSES = (
    "ATR", "AntisymmetricRNN", "BR", "CFN", "DSGU", "FastGRNN", "FastRNN",
    "GatedAntisymmetricRNN", "IndRNN", "IntersectionRNN", "JANET", "LEM", "LiGRU", "LightRU",
    "MCLSTM", "MGU", "MUT1", "MUT2", "MUT3", "MiRU1", "MiRU2", "MinimalRNN",
    "MultiplicativeLSTM", "NAS", "NBR", "OriginalLSTM", "PeepholeLSTM", "RAN", "ResLSTM", "SCRN",
    "SGRN", "SGU", "STAR", "TGRU", "TLSTM", "TRNN", "UGRNN", "UnICORNN", "WMCLSTM", "coRNN",
    "tauGRU",
)  # fmt: skip
"""The layers of torchrecurrent 0.2.5."""

BY_OURS = {name.lower(): name for name in CLASSES} | {"lstm": "PeepholeLSTM"}
"""By treering's name without hyphens. An LSTM is what its Peephole-LSTM is with peepholes of
zero, which is how it is run; nothing of its own comes nearer."""


def counterpart(layer: str) -> str | None:
    """The class that has the cell of treering's layer of this name."""
    return BY_OURS.get(layer.replace("-", ""))


class Torchrecurrent(Peer):
    """Weights of equal name and shape are copied, what is left over is set to zero."""

    def __init__(self, layer: str) -> None:
        self.class_name = counterpart(layer)
        self.title = f"torchrecurrent.{self.class_name}"
        if layer == "lstm":
            self.title += " with peepholes of 0"

    def missing(self) -> str | None:
        return not_installed(PACKAGE)

    @property
    def version(self) -> str:
        return f"{PACKAGE} {metadata.version(PACKAGE)}"

    def prepare(self, problem: Problem) -> Prepared:
        case = problem.case
        kind = getattr(importlib.import_module(PACKAGE), str(self.class_name))
        module: nn.Module = kind(case.input_size, case.hidden_size).to(problem.x.dtype)
        given = dict(problem.layer.named_parameters())
        names = {}
        with torch.no_grad():
            for theirs, parameter in module.named_parameters():
                ours = f"{theirs.removeprefix('cells.0.')}_l0"
                if ours in given and given[ours].shape == parameter.shape:
                    parameter.copy_(given[ours])
                    names[ours] = theirs
                else:
                    parameter.zero_()
            _, first = module(problem.x[:1])
        last = case.outputs == "last"

        def apply(x: Tensor) -> Tensor:
            y = module(x)[0]
            return y[-1] if last else y

        def stream(x: Tensor) -> Tensor:
            outputs, state = [], first
            for x_t in x.split(1):
                y, state = module(x_t, state)
                outputs.append(y)
            return torch.cat(outputs)

        return run_module(problem, module, names, apply, stream)
