"""Every measure on one model, and for those it does not allow the reason."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import nn

from treering._errors import UserError
from treering.inspect.data import batch_of, examples_of
from treering.inspect.gates import gates
from treering.inspect.gradients import input_gradients, state_gradients
from treering.inspect.probes import probes
from treering.inspect.readings import readings
from treering.inspect.similarity import similarity
from treering.inspect.spectra import spectra
from treering.inspect.subject import AnyBatch, NotAvailableError
from treering.tasks.abstract import Task

EXAMPLES = 2


class Survey(NamedTuple):
    """What was found.

    parts: fields of an Inspection. batch: what it was measured on.
    """

    parts: dict[str, Any]
    batch: AnyBatch


def survey(
    model: nn.Module,
    task: Task,
    words: Sequence[str],
    *,
    samples: int,
    length: int | None,
    before: Callable[[str], None] = lambda part: None,
) -> Survey:
    """All that can be measured of `model` on sequences of `task`.

    Args:
        model: A Classifier, Transducer or LanguageModel in evaluation mode.
        words: The text of each token id, an empty token's last.
        length: Of generated sequences and of windows of a stream; None for a data set.
        before: Called with the name of each part before it is measured.

    Errors: UserError for parameters that are not finite, or a length that does not fit the task.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise UserError(
            "the run's parameters are not finite, so there is nothing to look into; train it again"
            " with a smaller --learning-rate or --clip"
        )
    batch, what = batch_of(task, samples, length)
    measures: dict[str, tuple[str, Callable[[], list[Any]]]] = {
        "input gradients": ("gradients", lambda: input_gradients(model, batch)),
        "state gradients": ("gradients", lambda: state_gradients(model, batch)),
        "gates": ("gates", lambda: gates(model, batch)),
        "similarity": ("similarity", lambda: similarity(model, batch)),
        "spectra": ("spectra", lambda: spectra(model)),
        "readings": ("readings", lambda: readings(model, examples_of(task, EXAMPLES), words)),
        "probes": ("probes", lambda: probes(model, task, samples, length or 0)),
    }
    parts: dict[str, Any] = {"gradients": []}
    unavailable = {}
    for part, (field, measure) in measures.items():
        before(part)
        try:
            parts[field] = [*parts.get(field, []), *measure()]
        except NotAvailableError as reason:
            unavailable[part] = str(reason)
    sizes = [batch.inputs.shape[1]] if batch.lengths is None else batch.lengths.tolist()
    parts |= {
        "unavailable": unavailable,
        "data": what,
        "samples": len(batch.inputs),
        "length": max(sizes),
    }
    return Survey(parts, batch)
