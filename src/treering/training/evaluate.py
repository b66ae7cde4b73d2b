"""How good a model is: over lengths of a generated task, on a split of a data set, on a stream.

Accuracy is per token, over the positions of the mask. Evaluation has its own seeded generator,
runs the model in evaluation mode, and leaves the modes of all modules and torch's random state as
they were: training goes on as if it had not happened.

Dimensions: B rows of a batch, T input positions, M output positions, N tokens of a stream,
C classes.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering._errors import UserError
from treering.records import LengthScore
from treering.tasks.abstract import (
    NOT_ASKED,
    Batch,
    DatasetTask,
    GeneratedTask,
    RaggedBatch,
    Split,
)
from treering.training.seeds import generator
from treering.training.settings import LengthGrid

# One constant for all runs, so that every layer and every seed is judged on the same samples and
# differences between them are not differences between samples. The benchmark also fixes it to 1.
SEED = 1


def accuracy(logits: Tensor, batch: Batch | RaggedBatch) -> Tensor:
    """Right positions / counted positions of one batch: logits (B, M, C) -> scalar float64."""
    right = (logits.argmax(-1) == batch.targets) & batch.mask
    return right.sum().double() / batch.mask.sum().double()


def to_device(batch: Batch | RaggedBatch, device: torch.device) -> Batch | RaggedBatch:
    moved: Any = (None if tensor is None else tensor.to(device) for tensor in batch)
    return type(batch)(*moved)


def reads_ranks(model: nn.Module) -> bool:
    """Whether a model is to be given the trees of its inputs, as a Classifier may ask for."""
    return bool(getattr(model, "reads_ranks", False))


def predict(model: nn.Module, batch: Batch | RaggedBatch) -> Tensor:
    """The model's logits (B, M, C) for a batch.

    Raises:
        UserError: the model gave another shape, or reads trees and the batch has none.
    """
    outputs = batch.targets.shape[1]
    trees = {"ranks": batch.ranks} if reads_ranks(model) else {}
    logits = model(batch.inputs, lengths=batch.lengths, output_length=outputs, **trees)
    if logits.dim() != 3 or logits.shape[:2] != batch.targets.shape:
        raise UserError(
            f"{type(model).__name__} gave logits of shape {tuple(logits.shape)} for "
            f"{batch.targets.shape[0]} sequences with {outputs} outputs each; return "
            "(batch, output_length, classes)"
        )
    return logits


def cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean (or sum) of -log softmax(logits)[target] over the batch and all M output positions.

    Positions outside the mask count too: the benchmark trains what follows the terminator. Only
    where the target is NOT_ASKED there is nothing to learn, and the mean is over the others.

    Args:
        logits: (B, M, C); of low precision, as a head gives them under autocast, they are read in
            float32.
        targets: (B, M) int64.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction=reduction, ignore_index=NOT_ASKED
    )


def follow(model: nn.Module, batch: Batch, state: Any) -> tuple[Tensor, Any]:
    """A language model's logits (B, T, C) for a piece of streams, and the state behind it.

    Raises:
        UserError: the model gave something else.
    """
    answer = model(batch.inputs, state)
    if not (
        isinstance(answer, tuple)
        and len(answer) == 2
        and isinstance(answer[0], Tensor)
        and answer[0].shape[:-1] == batch.targets.shape
    ):
        raise UserError(
            f"{type(model).__name__} did not give logits for each of {tuple(batch.inputs.shape)}"
            " tokens and a state; return (batch, time, classes) and the state to go on with"
        )
    return answer


def own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Leave torch's random states, that of the CPU and the device's, as they were before."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng([device], device_type=device.type)


@contextmanager
def _judged(model: nn.Module, device: torch.device) -> Generator[None]:
    modes = {module: module.training for module in model.modules()}
    # no_grad, not inference_mode: what a module computes once and keeps (positions, orders) would
    # be an inference tensor there, which the next training step could not save for backward.
    with own_randomness(device), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def evaluate_lengths(
    model: nn.Module,
    task: GeneratedTask,
    lengths: Iterable[int],
    *,
    samples: int = 512,
    batch: int = 64,
    device: str | torch.device = "cpu",
    purpose: str = "evaluation",
    before_batch: Callable[[int], None] | None = None,
) -> list[LengthScore]:
    """Accuracy at each length on `samples` new sequences.

    The benchmark's number: the mean of the batches' accuracies (weighted by rows, should the last
    batch be smaller). The samples of a length depend on `purpose`, the length and `batch` alone,
    not on the other lengths or on any run.

    Args:
        batch: Rows at a time; the memory this takes grows with batch x length.
        before_batch: Called with the length before each batch; an exception from it ends the
            evaluation.
    """
    device = torch.device(device)
    scores = []
    with _judged(model, device):
        for length in lengths:
            random = generator(SEED, f"{purpose}:{length}")
            total = 0.0
            for start in range(0, samples, batch):
                if before_batch is not None:
                    before_batch(length)
                rows = min(batch, samples - start)
                drawn = to_device(task.sample(rows, length, random), device)
                total += rows * accuracy(predict(model, drawn), drawn).item()
            scores.append(LengthScore(length, total / samples, samples))
    return scores


def evaluate_split(
    model: nn.Module,
    task: DatasetTask,
    split: Split,
    *,
    batch: int = 128,
    by_length: bool = False,
    device: str | torch.device = "cpu",
    before_batch: Callable[[], None] | None = None,
) -> float:
    """Fraction of a split's counted positions (of its rows, in classification) that are right.

    Args:
        by_length: Take rows of similar length together, which changes nothing but rounding and the
            time taken.

    Raises:
        UserError: the split is empty.
    """
    right, counted = evaluate_rows(
        model,
        task,
        split,
        batch=batch,
        by_length=by_length,
        device=device,
        before_batch=before_batch,
    )
    return int(right.sum()) / int(counted.sum())


def evaluate_rows(
    model: nn.Module,
    task: DatasetTask,
    split: Split,
    *,
    batch: int = 128,
    by_length: bool = False,
    device: str | torch.device = "cpu",
    before_batch: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Right and counted positions of each row of a split, (N,) int64 both; as `evaluate_split`."""
    device = torch.device(device)
    total = split.labels.shape[0]
    if total == 0:
        raise UserError(f"{task.name}: a split without rows cannot be evaluated; give it some")
    order = split.lengths.argsort(stable=True) if by_length else torch.arange(total)
    right, counted = torch.zeros(2, total, dtype=torch.int64)
    with _judged(model, device):
        for rows in order.split(batch):
            if before_batch is not None:
                before_batch()
            drawn = to_device(task.batch(split, rows), device)
            hits = (predict(model, drawn).argmax(-1) == drawn.targets) & drawn.mask
            right[rows] = hits.sum(1).cpu()
            counted[rows] = drawn.mask.sum(1).cpu()
    return right, counted


def by_size(right: Tensor, counted: Tensor, sizes: Tensor) -> list[LengthScore]:
    """Accuracy at each size of rows, from what `evaluate_rows` found; samples are rows."""
    return [
        LengthScore(
            size,
            int(right[sizes == size].sum()) / int(counted[sizes == size].sum()),
            int((sizes == size).sum()),
        )
        for size in sizes.unique().tolist()
    ]


def evaluate_stream(
    model: nn.Module,
    tokens: Tensor,
    *,
    piece: int = 1024,
    device: str | torch.device = "cpu",
    before_piece: Callable[[], None] | None = None,
) -> float:
    """Mean of -log p(token | all tokens before it) over a stream (N,), in nats a token.

    The stream is read once from its start to its end as one sequence whose state is carried all
    the way: each of the N - 1 tokens behind the first is predicted exactly once, with all of the
    text before it.

    Args:
        piece: Tokens at a time; it changes nothing but rounding and the memory taken, piece x C.
        before_piece: Called before each; an exception from it ends the evaluation.
    """
    device = torch.device(device)
    total, state = 0.0, None
    with _judged(model, device):
        for start in range(0, len(tokens) - 1, piece):
            if before_piece is not None:
                before_piece()
            row = tokens[start : start + piece + 1].to(device).unsqueeze(0)
            batch = Batch(row[:, :-1], row[:, 1:], torch.ones_like(row[:, 1:]).bool())
            logits, state = follow(model, batch, state)
            total += cross_entropy(logits, batch.targets, reduction="sum").item()
    return total / (len(tokens) - 1)


def score(by_length: Iterable[LengthScore], grid: LengthGrid) -> float:
    """Mean accuracy over the grid's own lengths; those of the training range do not count.

    Raises:
        ValueError: a length of the grid was not evaluated.
    """
    accuracies = {entry.length: entry.accuracy for entry in by_length}
    missing = [length for length in grid.lengths if length not in accuracies]
    if missing:
        raise ValueError(
            f"{grid.describe()} needs length {missing[0]}, which was not evaluated; "
            "evaluate grid.lengths"
        )
    return sum(accuracies[length] for length in grid.lengths) / len(grid.lengths)
