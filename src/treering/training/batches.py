"""Where training batches come from. A source can be stopped at any batch and goes on exactly."""

import torch
from torch import Tensor

from treering._errors import UserError
from treering.tasks.abstract import (
    Batch,
    DatasetTask,
    GeneratedTask,
    RaggedBatch,
    StreamTask,
)
from treering.training.seeds import generator
from treering.training.settings import Curriculum


class GeneratedBatches:
    """Endless batches of a generated task, one length a step, drawn from the curriculum.

    Raises:
        UserError: the curriculum has lengths of which the task has no samples.
    """

    steps_per_epoch = None

    def __init__(
        self, task: GeneratedTask, curriculum: Curriculum, batch: int, steps: int, seed: int
    ) -> None:
        if curriculum.shortest < task.shortest:
            raise UserError(
                f"the curriculum starts at length {curriculum.shortest}, but {task.name} has no"
                f" sequences shorter than {task.shortest}; write Curriculum({task.shortest}, ...)"
            )
        self._task = task
        self._curriculum = curriculum
        self._batch = batch
        self._steps = steps
        self._step = 0
        self._generator = generator(seed, "data")

    @property
    def epoch(self) -> int | None:
        return None

    @property
    def at_epoch_end(self) -> bool:
        return False

    def next(self) -> Batch:
        limit = self._curriculum.limit(self._step, self._steps)
        length = torch.randint(self._curriculum.shortest, limit + 1, (), generator=self._generator)
        self._step += 1
        return self._task.sample(self._batch, int(length), self._generator)

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state(), "step": torch.tensor(self._step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        self._step = int(state["step"])


class DatasetBatches:
    """A data set's training split in a new random order every epoch; the last batch may be short.

    With `bucket`, the rows of that many batches at a time are sorted by length and cut into batches
    again; then the full batches are shuffled.

    Raises:
        UserError: the training split is empty.
    """

    def __init__(self, task: DatasetTask, batch: int, seed: int, bucket: int | None = None) -> None:
        self._task = task
        self._batch = batch
        self._bucket = bucket
        self._rows = task.train.labels.shape[0]
        if self._rows == 0:
            raise UserError(f"{task.name}: the training split has no rows; give it some")
        self.steps_per_epoch = -(-self._rows // batch)
        self._generator = generator(seed, "data")
        self._epoch = 0
        self._shuffle()

    def _shuffle(self) -> None:
        # The state before the draw is what a checkpoint keeps: it gives the whole order again.
        self._before = self._generator.get_state()
        self._order = torch.randperm(self._rows, generator=self._generator)
        if self._bucket is not None:
            self._order = self._sorted(self._order, self._bucket * self._batch)
        self._taken = 0

    def _sorted(self, order: Tensor, window: int) -> Tensor:
        lengths = self._task.train.lengths
        order = torch.cat(
            [rows[lengths[rows].argsort(stable=True)] for rows in order.split(window)]
        )
        # The short batch stays the last: `next` cuts the order where the count of rows says.
        full = self._rows // self._batch
        batches = order[: full * self._batch].view(full, self._batch)
        shuffled = batches[torch.randperm(full, generator=self._generator)]
        return torch.cat((shuffled.flatten(), order[full * self._batch :]))

    @property
    def epoch(self) -> int | None:
        """Epochs completed."""
        return self._epoch + self.at_epoch_end

    @property
    def at_epoch_end(self) -> bool:
        return self._taken >= self._rows

    def next(self) -> RaggedBatch:
        if self.at_epoch_end:
            self._epoch += 1
            self._shuffle()
        rows = self._order[self._taken : self._taken + self._batch]
        self._taken += len(rows)
        return self._task.batch(self._task.train, rows)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "generator": self._before,
            "epoch": torch.tensor(self._epoch),
            "taken": torch.tensor(self._taken),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        self._shuffle()
        self._epoch = int(state["epoch"])
        self._taken = int(state["taken"])


class StreamBatches:
    """A training stream as `batch` parallel streams, piece after piece of `truncate` tokens.

    Each batch goes on where the one before ended, in every row; the last of an epoch may be
    short. Nothing is drawn: every epoch is the same, and only the carried state tells it from the
    text read once.

    Raises:
        UserError: fewer tokens than streams.
    """

    def __init__(self, task: StreamTask, batch: int, truncate: int) -> None:
        self._inputs, self._targets = task.streams(batch)
        self._truncate = truncate
        self._length = self._inputs.shape[1]
        self.steps_per_epoch = -(-self._length // truncate)
        self._epoch = 0
        self._taken = 0

    @property
    def epoch(self) -> int | None:
        """Epochs completed."""
        return self._epoch + self.at_epoch_end

    @property
    def at_epoch_end(self) -> bool:
        return self._taken >= self._length

    def next(self) -> Batch:
        if self.at_epoch_end:
            self._epoch += 1
            self._taken = 0
        piece = slice(self._taken, self._taken + self._truncate)
        inputs, targets = self._inputs[:, piece], self._targets[:, piece]
        self._taken += inputs.shape[1]
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.bool))

    def state_dict(self) -> dict[str, Tensor]:
        return {"epoch": torch.tensor(self._epoch), "taken": torch.tensor(self._taken)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._epoch = int(state["epoch"])
        self._taken = int(state["taken"])


BatchSource = GeneratedBatches | DatasetBatches | StreamBatches
