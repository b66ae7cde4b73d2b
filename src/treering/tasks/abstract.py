"""What the training loop knows of a task: batches, sizes and splits, nothing about its content.

Dimensions: B rows of a batch, T input positions, M output positions, N rows of a split or tokens
of a stream, S input symbols, C classes.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from treering._errors import UserError

Level = Literal["regular", "deterministic context-free", "context-sensitive", "group", "recall"]
"""What a generated task takes: a machine of the Chomsky hierarchy, the product of a group, or the
memory of pairs."""

NOT_ASKED = -100
"""A target where there is no answer to give: neither trained on nor counted. It is what PyTorch's
`cross_entropy` leaves out of its mean if nothing else is said."""


class Batch(NamedTuple):
    """One batch of inputs of equal length."""

    inputs: Tensor
    """(B, T) int64 symbols"""
    targets: Tensor
    """(B, M) int64 classes, or NOT_ASKED; M is the output length, 1 for classification"""
    mask: Tensor
    """(B, M) bool, the positions that count for accuracy"""

    @property
    def lengths(self) -> None:
        """All T tokens of every row are valid."""
        return None

    @property
    def ranks(self) -> None:
        """No row has a tree."""
        return None


class RaggedBatch(NamedTuple):
    """One batch of inputs of their own lengths, padded at the end."""

    inputs: Tensor
    """(B, T) int64 symbols"""
    targets: Tensor
    """(B, M) int64 classes"""
    mask: Tensor
    """(B, M) bool, the positions that count for accuracy"""
    lengths: Tensor
    """(B,) int64 valid tokens of each row of `inputs`"""
    ranks: Tensor | None = None
    """(B, T) int32, the tree of each row; None: rows have no trees"""


class Split(NamedTuple):
    """One part of a finite data set, in the order of its source."""

    tokens: Tensor
    """(N, T) int64, padded at the end"""
    lengths: Tensor
    """(N,) int64, at least 1"""
    labels: Tensor
    """(N,) int64 class of each row"""
    ranks: Tensor | None = None
    """(N, T) int32, the binary tree over each row's tokens, if they have one: minus the depth of
    the lowest node over the boundary behind each token, 0 where there is none"""


class Sizes(NamedTuple):
    """What makes one row of a test split harder than another, if that is known."""

    name: str
    """what is counted: `operators`"""
    trained: tuple[int, int]
    """smallest and largest of the training rows, both included"""
    test: Tensor
    """(N,) int64, of each row of the test split"""


class Task(ABC):
    """Anything a model can be trained on: a name, two sizes and the score of guessing."""

    name: str
    input_size: int
    """number of input symbols; every id in a batch is smaller"""
    output_size: int
    """number of classes at each output position"""
    metric: str = "accuracy"
    """what its score measures: a name that the records know"""
    chance: float
    """score of guessing without looking at the input; subclasses say which guess"""


class GeneratedTask(Task):
    """An endless task: inputs are drawn from a seed, targets follow from the inputs.

    A concrete task gives `name`, `level`, `symbols`, `output_size` and the methods `draw`,
    `answer` and, where not every string of symbols is in the language, `check`.
    `chance` is that of guessing uniformly among the `output_size` classes.
    """

    level: Level
    symbols: str | tuple[str, ...]
    """one character for each input symbol, in the order of the numbering; or, where there are too
    many for that, one word, and texts then have blanks between them"""
    reads: Literal["after", "along"] = "after"
    """where answers are read: at empty tokens after the input, or one at each of its symbols"""
    causal: bool = True
    """of answers along the input: whether the one at a symbol hangs on no later symbol"""
    shortest: int = 1
    """the least length there are samples of"""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "symbols" in cls.__dict__:
            cls.input_size = len(cls.symbols)
            cls.chance = 1 / cls.output_size

    @abstractmethod
    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        """Draw inputs only: (B, T) int64 symbols. `batch` and `length` are already checked."""

    @abstractmethod
    def answer(self, inputs: Tensor) -> Tensor:
        """Targets (B, M) of int64 symbols (B, T) that are known to be in the language."""

    def check(self, inputs: Tensor) -> None:
        """Raise UserError unless int64 symbols (B, T), each in 0..S-1, are in the language."""

    def output_length(self, length: int) -> int:
        """Number of output positions M for a requested input length."""
        return length if self.reads == "along" else 1

    def mask(self, targets: Tensor) -> Tensor:
        """(B, M) bool, the positions of `targets` that count for accuracy: here, all asked for."""
        return targets != NOT_ASKED

    def sample(self, batch: int, length: int, generator: torch.Generator | None = None) -> Batch:
        """Draw `batch` inputs of `length` symbols, with targets and mask.

        The same generator state gives the same batch. Tensors live on the generator's
        device, on the CPU without one. Raises UserError unless `batch` is at least 1 and `length`
        at least `shortest`.
        """
        for what, number, least in (("batch", batch, 1), ("length", length, self.shortest)):
            if number < least:
                raise UserError(
                    f"{self.name}: {what} is {number}, but a sample needs at least {least}; "
                    f"write {what}={least} or more"
                )
        inputs = self.draw(batch, length, generator)
        targets = self.answer(inputs)
        return Batch(inputs, targets, self.mask(targets))

    def solve(self, inputs: Tensor) -> Tensor:
        """Targets (B, M) int64 of any inputs of the language, however they were made.

        `inputs` are integer symbols (B, T) or their one-hot form (B, T, S) in floating
        point. Raises UserError for other shapes, unknown symbols and inputs outside the
        language.
        """
        symbols = self._as_symbols(inputs)
        self.check(symbols)
        return self.answer(symbols)

    def refuse(self, wrong: Tensor, inputs: Tensor, reason: str) -> None:
        """Raise UserError quoting the first row for which `wrong` (B,) holds, if any does."""
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise UserError(f"{self.name}: row {row} is {self.decode(inputs[row])!r}: {reason}")

    def encode(self, text: str) -> Tensor:
        """(1, T) int64 symbols of one input written with the names in `symbols`."""
        in_words = isinstance(self.symbols, tuple)
        names = text.split() if in_words else list(text)
        unknown = sorted(set(names) - set(self.symbols))
        if unknown or not names:
            raise UserError(
                f"{self.name}: cannot read {text!r}: "
                + (f"{unknown[0]!r} is no symbol of it" if unknown else "it is empty")
                + f"; write one or more of the {'words' if in_words else 'characters'} "
                + self._in_order()
            )
        return torch.tensor([[self.symbols.index(name) for name in names]])

    def decode(self, symbols: Tensor) -> str:
        """The text of one input (T,): the inverse of `encode`."""
        between = " " if isinstance(self.symbols, tuple) else ""
        return between.join(self.symbols[symbol] for symbol in symbols.tolist())

    def _in_order(self) -> str:
        """The symbols' names, for a message of one line."""
        if isinstance(self.symbols, str):
            return repr(self.symbols)
        if len(self.symbols) <= 10:
            return " ".join(self.symbols)
        return f"{' '.join(self.symbols[:4])} ... {' '.join(self.symbols[-2:])}"

    def _as_symbols(self, inputs: Tensor) -> Tensor:
        shape = tuple(inputs.shape)
        wanted = (
            f"give int64 symbols of shape (batch, length) or one-hot floats of shape "
            f"(batch, length, {self.input_size})"
        )
        if inputs.is_floating_point():
            if inputs.dim() != 3 or shape[2] != self.input_size:
                raise UserError(f"{self.name}: one-hot inputs of shape {shape}; {wanted}")
            symbols = inputs.argmax(-1)
            exact = torch.zeros_like(inputs).scatter_(-1, symbols[..., None], 1)
            if not torch.equal(inputs, exact):
                row, position = _first((inputs != exact).any(-1))
                raise UserError(
                    f"{self.name}: row {row}, position {position} is not one-hot "
                    f"({inputs[row, position].tolist()}); {wanted}"
                )
        else:
            if inputs.dim() != 2 or inputs.dtype == torch.bool or inputs.is_complex():
                raise UserError(
                    f"{self.name}: inputs of shape {shape} and type {inputs.dtype}; {wanted}"
                )
            symbols = inputs.long()
            outside = (symbols < 0) | (symbols >= self.input_size)
            if outside.any():
                row, position = _first(outside)
                raise UserError(
                    f"{self.name}: symbol {int(symbols[row, position])} at row {row}, "
                    f"position {position}, but the symbols are 0..{self.input_size - 1} "
                    f"(in order: {self._in_order()})"
                )
        if symbols.shape[1] == 0:
            raise UserError(f"{self.name}: inputs of length 0; {wanted}")
        return symbols


def _first(wrong: Tensor) -> tuple[int, int]:
    row, position = wrong.nonzero()[0].tolist()
    return row, position


@dataclass(frozen=True, eq=False)
class DatasetTask(Task):
    """A finite classification task in three splits, held in memory as token ids.

    `input_size` counts every id that occurs in `tokens`, padding and unknown word included.
    `chance` is the accuracy on `test` of always answering the commonest class of `train`.
    With `sizes` the test is also scored at each size for itself.
    """

    name: str
    input_size: int
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    padding: int = 0
    sizes: Sizes | None = None
    output_size: int = field(init=False)
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        commonest = self.train.labels.bincount(minlength=len(self.labels)).argmax()
        object.__setattr__(self, "output_size", len(self.labels))
        object.__setattr__(self, "chance", (self.test.labels == commonest).double().mean().item())

    def batch(self, split: Split, rows: Tensor) -> RaggedBatch:
        """The given rows (B,) of a split, trimmed to the longest of them."""
        lengths = split.lengths[rows]
        inputs = split.tokens[rows, : int(lengths.max())]
        targets = split.labels[rows, None]
        ranks = None if split.ranks is None else split.ranks[rows, : inputs.shape[1]]
        mask = torch.ones_like(targets, dtype=torch.bool)
        return RaggedBatch(inputs, targets, mask, lengths, ranks)


@dataclass(frozen=True, eq=False)
class StreamTask(Task):
    """A language model's task: say every token of a long text from all tokens before it.

    Three streams of token ids (N,) int64, each continuous in time. `input_size` counts the ids.
    `chance` is the score on `test` of guessing by the tokens' frequencies in `train` (each counted
    once more than it occurs, so that none is impossible): what can be had without any memory.

    UserError if a stream has fewer than two tokens: there would be nothing to predict.
    """

    name: str
    input_size: int
    train: Tensor
    validation: Tensor
    test: Tensor
    unit: Literal["character", "word"]
    output_size: int = field(init=False)
    metric: str = field(init=False)
    chance: float = field(init=False)

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            size = len(getattr(self, part))
            if size < 2:
                raise UserError(
                    f"{self.name}: {size} of at least 2 tokens for {part}; give a longer text"
                )
        by_character = self.unit == "character"
        counts = self.train.bincount(minlength=self.input_size).double() + 1
        nats = -(counts / counts.sum()).log()[self.test[1:]].mean().item()
        object.__setattr__(self, "output_size", self.input_size)
        object.__setattr__(self, "metric", "bits per character" if by_character else "perplexity")
        object.__setattr__(self, "chance", nats / math.log(2) if by_character else math.exp(nats))

    def streams(self, count: int) -> tuple[Tensor, Tensor]:
        """`train` cut into `count` equally long streams: inputs and targets, each (B, N // B).

        A target is the token that follows its input. Stream b + 1 goes on where stream b ends, so
        that at most `count` tokens at the end of the text are left out. UserError if a stream
        would have no token.
        """
        length = (len(self.train) - 1) // count
        if length == 0:
            raise UserError(
                f"{self.name}: {len(self.train)} training tokens cannot be cut into {count}"
                f" streams; write a batch size of at most {len(self.train) - 1}"
            )
        used = count * length
        return self.train[:used].view(count, length), self.train[1 : used + 1].view(count, length)
