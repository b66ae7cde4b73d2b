"""Small tasks, models and records: training is tested without the library's own layers."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from treering.records import Environment, ModelInfo, Record, TaskInfo
from treering.tasks.abstract import DatasetTask, GeneratedTask, Split, StreamTask
from treering.training import LengthGrid, Settings


class Parity(GeneratedTask):
    name = "parity"
    level = "regular"
    symbols = "ab"
    output_size = 2

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return torch.randint(2, (batch, length), generator=generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.sum(1, keepdim=True) % 2


class Reverse(GeneratedTask):
    """Reversal; of the outputs only the first counts, so that mask and loss differ."""

    name = "reverse"
    level = "deterministic context-free"
    symbols = "abc"
    output_size = 3

    def output_length(self, length: int) -> int:
        return length

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        return torch.randint(3, (batch, length), generator=generator)

    def answer(self, inputs: Tensor) -> Tensor:
        return inputs.flip(1)

    def mask(self, targets: Tensor) -> Tensor:
        return torch.arange(targets.shape[1]).expand_as(targets) < 1


def _split(rows: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (rows,), generator=generator)
    tokens = torch.randint(2, 6, (rows, 6), generator=generator)
    tokens[torch.arange(6) >= lengths[:, None]] = 0
    return Split(tokens, lengths, tokens[:, 0] % 3)


def _dataset(seed: int = 0) -> DatasetTask:
    """23 rows for training: with batches of 4 an epoch has 6 steps, the last of 3 rows."""
    splits = (_split(23, seed), _split(11, seed + 1), _split(10, seed + 2))
    return DatasetTask("words", 6, ("x", "y", "z"), *splits)


def _stream(seed: int = 0) -> StreamTask:
    """98 predictions for training: 4 streams of 24, and with pieces of 5 an epoch has 5 steps."""
    generator = torch.Generator().manual_seed(seed)
    # A random walk on a ring: what comes next hangs on what came before.
    tokens = (torch.randint(1, 3, (143,), generator=generator).cumsum(0)) % 6
    return StreamTask("walk", 6, *tokens.split((99, 23, 21)), unit="character")


class Follower(nn.Module):
    """Embedding, two-layer nn.LSTM with dropout, head; its state is nn.LSTM's plain tuple."""

    def __init__(self, words: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, 5)
        self.lstm = nn.LSTM(5, 6, num_layers=2, batch_first=True, dropout=dropout)
        self.head = nn.Linear(6, words)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        hidden, state = self.lstm(self.embedding(inputs), state)
        return self.head(hidden), state


class Tagger(nn.Module):
    """Embedding, nn.LSTM and a head on the last M of T + M positions."""

    def __init__(self, symbols: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.symbols = symbols
        self.embedding = nn.Embedding(symbols + 1, 5)
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, classes)
        self.calls = 0

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, output_length: int = 1
    ) -> Tensor:
        self.calls += 1
        empty = inputs.new_full((inputs.shape[0], output_length), self.symbols)
        hidden, _ = self.lstm(self.embedding(torch.cat([inputs, empty], 1)))
        return self.head(self.dropout(hidden[:, -output_length:]))


class LearnedPenalty(nn.Module):
    """A penalty with a parameter, a buffer and randomness of its own, and the model's weights."""

    count: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.tensor([0.3, 0.7]))
        self.register_buffer("count", torch.zeros(()))

    def forward(self) -> Tensor:
        self.count += 1
        square, one = self.layer.weight.square().sum(), self.layer.weight.abs().sum()
        noise = 1 + torch.rand(()) / 10
        return 0.01 * noise * (torch.stack([square, one]) * self.weight.softmax(0)).sum()


class Hook:
    """Progress that calls `act(step)` after every step and keeps what it was told."""

    def __init__(
        self,
        act: Callable[[int], object] = lambda step: None,
        hear: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.act = act
        self.hear = hear
        self.total = 0
        self.steps: list[tuple[int, float, float]] = []
        self.messages: list[str] = []
        self.stopped = 0

    def start(self, total: int) -> None:
        self.total = total

    def advance(self, step: int, loss: float, score: float) -> None:
        self.steps.append((step, loss, score))
        self.act(step)

    def message(self, text: str) -> None:
        self.messages.append(text)
        self.hear(text)

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(autouse=True)
def _one_thread() -> Generator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def parity() -> GeneratedTask:
    return Parity()


@pytest.fixture
def reverse() -> GeneratedTask:
    return Reverse()


@pytest.fixture
def dataset() -> Callable[..., DatasetTask]:
    return _dataset


@pytest.fixture
def stream() -> Callable[..., StreamTask]:
    return _stream


@pytest.fixture
def follower() -> Callable[..., Follower]:
    def build(task: Any, dropout: float = 0.0, seed: int = 0) -> Follower:
        torch.manual_seed(seed)
        return Follower(task.input_size, dropout)

    return build


@pytest.fixture
def hook() -> type[Hook]:
    return Hook


@pytest.fixture
def tagger() -> Callable[..., Tagger]:
    def build(task: Any, dropout: float = 0.0, seed: int = 0) -> Tagger:
        torch.manual_seed(seed)
        return Tagger(task.input_size, task.output_size, dropout)

    return build


@pytest.fixture
def learned_penalty() -> type[LearnedPenalty]:
    return LearnedPenalty


@pytest.fixture
def small() -> Callable[..., Settings]:
    """Settings of a run of some twenty steps."""

    def build(**changes: Any) -> Settings:
        grid = LengthGrid(start=9, stop=13, step=2, samples=6, batch=4, training_points=2)
        given: dict[str, Any] = {
            "batch_size": 4,
            "learning_rate": 0.01,
            "curriculum": {"longest": 8},
            "evaluation": grid,
            "log_every": 5,
            "checkpoint_every": None,
        }
        duration: dict[str, Any] = {} if "epochs" in changes else {"steps": 20}
        return Settings(**(given | duration | changes))

    return build


@pytest.fixture
def blank() -> Callable[..., Record]:
    """The record of a run that has not begun."""

    def build(task: Any, **changes: Any) -> Record:
        kind = "generated" if isinstance(task, GeneratedTask) else "dataset"
        kind = "stream" if isinstance(task, StreamTask) else kind
        given: dict[str, Any] = {
            "run_id": "test",
            "command": "treering train parity",
            "task": TaskInfo(
                name=task.name,
                kind=kind,
                chance=task.chance,
                classes=task.output_size,
                metric=task.metric,
            ),
            "model": ModelInfo(
                layer="lstm", hidden_size=6, parameters=100, layer_parameters=50, explain="a loop"
            ),
            "settings": {},
            "seed": 0,
            "environment": Environment(
                python="3.11",
                torch=torch.__version__,
                treering="0.1.0",
                platform="test",
                processor="test",
                threads=1,
                device="cpu",
                dtype="float32",
            ),
        }
        return Record(**(given | changes))

    return build


@pytest.fixture
def files() -> Callable[[Path], list[str]]:
    return lambda folder: sorted(path.name for path in folder.iterdir())
