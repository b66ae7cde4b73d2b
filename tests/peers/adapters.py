"""Each library as its documentation uses it, behind one way of calling.

Legend: T time, B batch, H hidden; input size is hidden size, which minGRU-pytorch asks for.
"""

import importlib
from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import treering as tr

OPTIONS = ("num_layers", "bidirectional", "batch_first", "dropout", "proj_size")


class NotOfferedError(Exception):
    """The library has no such thing, by its documentation."""


class Peer(ABC):
    """One class of one library."""

    title: str
    package: str
    offers: frozenset[str] = frozenset()

    def __init__(self, title: str, package: str, name: str) -> None:
        self.title, self.package, self.name = title, package, name

    @property
    def version(self) -> str:
        return version(self.package)

    def need(self, what: str) -> None:
        if what not in self.offers:
            raise NotOfferedError(what)

    @abstractmethod
    def build(self, H: int, **options: Any) -> nn.Module:
        """A layer from H to H, in evaluation mode."""

    def run(self, module: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """x (T, B, H) -> outputs (T, B, H) and the state to go on with."""
        return module(x) if state is None else module(x, state)

    def padded(self, module: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """Sequences of different lengths -> outputs (T, B, H), zero beyond, and the state."""
        raise NotOfferedError("sequences of different lengths")

    def reset(self, module: Any, x: Tensor, flags: Tensor) -> Tensor:
        """Outputs where flags (T, B) start a sequence anew just before a token."""
        raise NotOfferedError("resets within a sequence")

    def inner(self, module: Any, x: Tensor) -> Any:
        """The state after every token."""
        raise NotOfferedError("inner states")


class Torch(Peer):
    offers = frozenset(
        ("num_layers", "bidirectional", "batch_first", "dropout", "proj_size", "unbatched")
    )

    def build(self, H: int, **options: Any) -> nn.Module:
        for option in options:
            if option in OPTIONS:
                self.need(option)
        return getattr(nn, self.name)(H, H, **options).eval()

    def padded(self, module: Any, x: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, state = module(packed)
        assert isinstance(y, PackedSequence)
        return pad_packed_sequence(y, total_length=len(x))[0], state


class Treering(Torch):
    @property
    def version(self) -> str:
        return version("treering")

    def build(self, H: int, **options: Any) -> nn.Module:
        if "proj_size" in options and self.name != "LSTM":
            raise NotOfferedError("proj_size")
        return getattr(tr, self.name)(H, H, **options).eval()

    def reset(self, module: Any, x: Tensor, flags: Tensor) -> Tensor:
        return module(x, reset=flags)[0]

    def inner(self, module: Any, x: Tensor) -> Any:
        return module(x, return_states=True)[2].state


class Torchrecurrent(Peer):
    """Layers take (T, B, I) and a state (L, B, H), or two of them, as nn.LSTM's."""

    offers = frozenset(("num_layers", "batch_first", "dropout"))

    def build(self, H: int, **options: Any) -> nn.Module:
        for option in options:
            if option in OPTIONS:
                self.need(option)
        return getattr(importlib.import_module("torchrecurrent"), self.name)(H, H, **options).eval()


class MinGRUPytorch(Peer):
    """`out, next_hidden = layer(x, prev_hidden, return_next_prev_hidden=True)`, batch first."""

    def build(self, H: int, **options: Any) -> nn.Module:
        for option in options:
            if option in OPTIONS:
                self.need(option)
        dtype = options.get("dtype")
        module = importlib.import_module(f"minGRU_pytorch.{self.name}")
        return getattr(module, self.name)(H).to(dtype).eval()

    def run(self, module: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = module(x.transpose(0, 1), state, return_next_prev_hidden=True)
        return y.transpose(0, 1), state


PEERS: tuple[Peer, ...] = (
    Torch("nn.LSTM", "torch", "LSTM"),
    Torchrecurrent("Peephole-LSTM", "torchrecurrent", "PeepholeLSTM"),
    Torchrecurrent("MGU", "torchrecurrent", "MGU"),
    MinGRUPytorch("minGRU", "minGRU-pytorch", "minGRU"),
    MinGRUPytorch("minLSTM", "minGRU-pytorch", "minLSTM"),
)
OURS: tuple[Peer, ...] = (
    Treering("tr.LSTM", "treering", "LSTM"),
    Treering("tr.PRLSTM", "treering", "PRLSTM"),
    Treering("tr.MinGRU", "treering", "MinGRU"),
)


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    return [tensor for part in state for tensor in tensors(part)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
