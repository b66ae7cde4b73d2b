"""What the training loop asks of a task, for each kind: a batch's loss, validation, test.

Dimensions: B rows of a batch, T positions of a piece of a stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from treering.records import METRICS, LengthScore
from treering.tasks.abstract import Batch, DatasetTask, GeneratedTask, RaggedBatch, StreamTask, Task
from treering.training.batches import (
    BatchSource,
    DatasetBatches,
    GeneratedBatches,
    StreamBatches,
)
from treering.training.carried import Carried
from treering.training.evaluate import (
    accuracy,
    by_size,
    cross_entropy,
    evaluate_lengths,
    evaluate_rows,
    evaluate_split,
    evaluate_stream,
    follow,
    predict,
    score,
)
from treering.training.precision import autocast
from treering.training.settings import Settings

Listen = Callable[[str], None]
"""Called before each piece of an evaluation with what is done; an exception from it ends it."""


class Tested(NamedTuple):
    """The final evaluation's outcome."""

    score: float
    name: str
    test_score: float | None
    by_length: list[LengthScore]


T = TypeVar("T", bound=Task)


class Kind(ABC, Generic[T]):
    """One task with its batches, for one model on one device."""

    validates_epochs = True
    """Whether it is validated at every epoch's end if nothing else is said."""

    def __init__(
        self, model: nn.Module, task: T, settings: Settings, seed: int, device: torch.device
    ) -> None:
        self.model = model
        self.task = task
        self.settings = settings
        self.device = device
        self.metric = METRICS[task.metric]
        self.carried = Carried()
        """Goes with the batches from one update to the next; nothing but for streams."""
        self.source = self.batches(seed)

    @property
    def steps(self) -> int:
        """Updates after which training ends."""
        epochs = self.settings.epochs or 0
        return self.settings.steps or epochs * (self.source.steps_per_epoch or 0)

    @abstractmethod
    def batches(self, seed: int) -> BatchSource:
        """Where batches come from."""

    def loss(self, batch: Batch | RaggedBatch) -> tuple[Tensor, float]:
        """Cross entropy of the next batch, with its graph, and the batch's score."""
        with autocast(self.settings, self.device):
            logits = predict(self.model, batch)
        right = accuracy(logits.detach(), batch)
        return cross_entropy(logits, batch.targets), right.item()

    @abstractmethod
    def validate(self) -> float:
        """The score on what is held out for validation."""

    @abstractmethod
    def test(self, listen: Listen) -> Tested:
        """The score that counts."""


class Generated(Kind[GeneratedTask]):
    """Lengths of a generated task."""

    validates_epochs = False

    def batches(self, seed: int) -> BatchSource:
        settings = self.settings
        return GeneratedBatches(
            self.task, settings.curriculum, settings.batch_size, settings.steps or 0, seed
        )

    def validate(self) -> float:
        grid = self.settings.evaluation
        lengths = self.settings.curriculum.points(max(grid.training_points, 1))
        scores = self._over(lengths, "validation", None)
        return sum(entry.accuracy for entry in scores) / len(scores)

    def test(self, listen: Listen) -> Tested:
        grid = self.settings.evaluation
        points = self.settings.curriculum.points(grid.training_points)
        lengths = sorted({*points, *grid.lengths})
        scores = self._over(
            lengths,
            "evaluation",
            lambda length: listen(f"evaluating length {length} (to {lengths[-1]})"),
        )
        return Tested(score(scores, grid), grid.describe(), None, scores)

    def _over(
        self, lengths: Sequence[int], purpose: str, before_batch: Callable[[int], None] | None
    ) -> list[LengthScore]:
        return evaluate_lengths(
            self.model,
            self.task,
            lengths,
            samples=self.settings.evaluation.samples,
            batch=self.settings.evaluation.batch,
            device=self.device,
            purpose=purpose,
            before_batch=before_batch,
        )


class Dataset(Kind[DatasetTask]):
    """Splits of a data set."""

    def batches(self, seed: int) -> BatchSource:
        return DatasetBatches(self.task, self.settings.batch_size, seed, self.settings.bucket)

    def validate(self) -> float:
        return evaluate_split(
            self.model,
            self.task,
            self.task.validation,
            batch=self.settings.batch_size,
            by_length=self.settings.bucket is not None,
            device=self.device,
        )

    def test(self, listen: Listen) -> Tested:
        right, counted = evaluate_rows(
            self.model,
            self.task,
            self.task.test,
            batch=self.settings.batch_size,
            by_length=self.settings.bucket is not None,
            device=self.device,
            before_batch=lambda: listen("evaluating on the test split"),
        )
        tested = int(right.sum()) / int(counted.sum())
        sizes = self.task.sizes
        scores = [] if sizes is None else by_size(right, counted, sizes.test)
        return Tested(tested, f"test {self.metric.name}", tested, scores)


class Stream(Kind[StreamTask]):
    """Pieces of streams that continue each other: truncated backpropagation through time.

    The state is carried from piece to piece and its gradient cut off at the border; every epoch
    starts without one.
    """

    def batches(self, seed: int) -> BatchSource:
        return StreamBatches(self.task, self.settings.batch_size, self.settings.truncate)

    def loss(self, batch: Batch | RaggedBatch) -> tuple[Tensor, float]:
        assert isinstance(batch, Batch)
        with autocast(self.settings, self.device):
            logits, state = follow(self.model, batch, self.carried.state)
        if self.source.at_epoch_end:
            self.carried.forget()
        else:
            self.carried.keep(state)
        loss = cross_entropy(logits, batch.targets)
        return loss, self._score(loss.item())

    def validate(self) -> float:
        return self._over(self.task.validation, None)

    def test(self, listen: Listen) -> Tested:
        tested = self._over(self.task.test, lambda: listen("evaluating on the test stream"))
        return Tested(tested, f"test {self.metric.name}", tested, [])

    def _over(self, tokens: Tensor, before_piece: Callable[[], None] | None) -> float:
        # Logits of all of a large vocabulary: beyond some 16 MB, getting fresh memory from the
        # system for each piece takes longer than filling it.
        fitting = 2**22 // self.task.output_size
        nats = evaluate_stream(
            self.model,
            tokens,
            piece=min(max(fitting, 64), 1024),
            device=self.device,
            before_piece=before_piece,
        )
        return self._score(nats)

    def _score(self, nats: float) -> float:
        assert self.metric.of_loss is not None
        return self.metric.of_loss(nats)


def kind_of(
    model: nn.Module, task: Task, settings: Settings, seed: int, device: torch.device
) -> Kind[Any]:
    """The kind that a task is of; TypeError if it is of none."""
    if isinstance(task, GeneratedTask):
        return Generated(model, task, settings, seed, device)
    if isinstance(task, DatasetTask):
        return Dataset(model, task, settings, seed, device)
    if isinstance(task, StreamTask):
        return Stream(model, task, settings, seed, device)
    raise TypeError(
        f"cannot train on a {type(task).__name__}: give a GeneratedTask, a DatasetTask or a"
        " StreamTask"
    )
