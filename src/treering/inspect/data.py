"""What is looked at: sequences of a run's own task, the same for every run of it.

Legend: B batch, T time, N tokens of a stream.
"""

import torch

from treering._errors import UserError
from treering.inspect.subject import AnyBatch
from treering.tasks.abstract import Batch, DatasetTask, GeneratedTask, StreamTask, Task
from treering.training.seeds import generator

SEED = 1
LONGEST_EXAMPLE = 16
"""Tokens of an example that can be drawn on a phone."""
EXAMPLE = 10
"""Symbols of an example if nothing is longer: 11 tokens with the empty one, in blocks 8, 2, 1."""


def batch_of(task: Task, samples: int, length: int | None) -> tuple[AnyBatch, str]:
    """At most `samples` sequences, and what they are in words.

    Of a generated task new ones of `length` symbols; of a data set rows of its test split, for
    which there is no length to choose; of a stream windows of `length` tokens of its test stream,
    with the token behind each window as the only answer that counts.

    Errors: UserError for a length that the task has no use or no room for.
    """
    if isinstance(task, GeneratedTask):
        assert length is not None
        drawn = task.sample(samples, length, generator(SEED, f"inspection:{length}"))
        return (
            drawn,
            f"{_counted(samples, 'new sequence')} of {_counted(drawn.inputs.shape[1], 'symbol')}",
        )
    if isinstance(task, DatasetTask):
        if length is not None:
            raise UserError(
                f"--length means nothing for {task.name}, whose texts have lengths of their own;"
                " leave it out"
            )
        rows = torch.randperm(len(task.test.labels), generator=generator(SEED, "inspection"))
        rows = rows[:samples]
        return task.batch(task.test, rows), f"{_counted(len(rows), 'text')} of the test part"
    if isinstance(task, StreamTask):
        assert length is not None
        return _windows(task, samples, length)
    raise TypeError(f"cannot look into runs on a {type(task).__name__}")


def _windows(task: StreamTask, samples: int, length: int) -> tuple[Batch, str]:
    room = len(task.test) - 1 - length
    if room < 0:
        raise UserError(
            f"--length {length} is too long for the {len(task.test)} test tokens of {task.name};"
            f" write at most {len(task.test) - 1}"
        )
    starts = torch.linspace(0, room, min(samples, room + 1)).round().long()
    places = starts.unsqueeze(1) + torch.arange(length + 1)
    tokens = task.test[places]
    counted = torch.zeros_like(tokens[:, 1:], dtype=torch.bool)
    counted[:, -1] = True
    what = f"{_counted(len(starts), 'window')} of {_counted(length, 'token')} of the test part"
    return Batch(tokens[:, :-1], tokens[:, 1:], counted), what


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def examples_of(task: Task, count: int) -> AnyBatch:
    """`count` short sequences to draw: at most LONGEST_EXAMPLE tokens with the empty ones."""
    if isinstance(task, GeneratedTask):
        length = max(
            (n for n in range(1, EXAMPLE + 1) if n + task.output_length(n) <= LONGEST_EXAMPLE),
            default=1,
        )
        return task.sample(count, length, generator(SEED, "examples"))
    batch, _ = batch_of(task, count, EXAMPLE + 1 if isinstance(task, StreamTask) else None)
    if isinstance(batch, Batch):
        return batch
    first = slice(LONGEST_EXAMPLE)
    return batch._replace(
        inputs=batch.inputs[:, first],
        lengths=batch.lengths.clamp(max=LONGEST_EXAMPLE),
        # What is left of a tree is one: the lowest nodes over the boundaries that are left.
        ranks=None if batch.ranks is None else batch.ranks[:, first],
    )
