"""`treering inspect`: what a trained recurrence does, as a page, a table and JSON."""

import json as json_format
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from treering import tasks
from treering._errors import UserError
from treering.cli.inspected import show
from treering.cli.models import LoadedRun, load_run
from treering.cli.options import Flag, Whole
from treering.cli.reproduced import protocol_of
from treering.cli.runs import enough_memory
from treering.cli.streams import print_json
from treering.inspect.alignment import linear_cka, representations
from treering.inspect.record import Alignment, Inspection, significant
from treering.inspect.subject import NotAvailableError
from treering.inspect.survey import Survey, survey
from treering.records import Record
from treering.report import inspection as page
from treering.report import wording
from treering.tasks import GeneratedTask, StreamTask, Task

WINDOW = 128
"""Tokens of a stream's windows if nothing is said."""
EMPTY = "\N{EMPTY SET}"


def inspect_(
    *runs: Path,
    out: Path = Path("inspection.html"),
    samples: Whole = 256,
    length: Whole | None = None,
    json: Flag = False,
) -> None:
    """Look into trained runs: what their recurrences do, as numbers and as a page.

    Example: treering inspect runs/reviews.csv/lstm/seed0-1a2b3c --samples 64

    Gradients by distance, gates, how long states stay alike, spectra of the recurrent matrices,
    what a tree merges, linear probes for the automaton's state on regular tasks. With several runs
    of one task also how alike their states are. Each run's folder gets `inspection.json`.

    Parameters
    ----------
    runs
        Folders of runs, as `treering train` prints them.
    out
        The page to write: one file, nothing loaded from elsewhere.
    samples
        Sequences to measure on, at most.
    length
        Symbols of a generated sequence (the longest trained on without it) or tokens of a window
        of a continuous text (128 without it).
    json
        Print the records as JSON, and write the page.
    """
    if not runs:
        raise UserError("give the folder of a run, as `treering train` prints it")
    inspections = look_into(runs, samples=samples, length=length, quiet=json)
    page.write_html(inspections, out, f"treering inspect: {inspections[0].task}")
    if json:
        plain = [json_format.loads(one.model_dump_json()) for one in inspections]
        print_json({"report": str(out), "inspections": plain})
        return
    show(inspections, out)


def look_into(
    runs: Sequence[Path],
    *,
    samples: int,
    length: int | None = None,
    task: Task | None = None,
    quiet: bool = True,
) -> list[Inspection]:
    """Inspect finished or unfinished runs of one task; each folder gets `inspection.json`.

    With several runs, each is also compared with the others. task: theirs, if it is at hand;
    without it it is loaded as the runs' command says. UserError as `treering inspect`.
    """
    loaded = [load_run(folder) for folder in runs]
    labels = labels_of([run.record for run in loaded])
    task = task or _task_of(loaded)
    chosen = _length(task, [run.record for run in loaded], length)
    words = [*_words(loaded[0]), EMPTY]
    options = {"--samples": samples, "--length": length}
    command = ["treering", "inspect", *map(str, runs)]
    command += [str(w) for pair in options.items() if pair[1] is not None for w in pair]

    found: list[Survey] = []
    with _Told(quiet=quiet) as told, enough_memory("--samples or --length"):
        for run, label in zip(loaded, labels, strict=True):
            found.append(
                survey(
                    run.model,
                    task,
                    words,
                    samples=samples,
                    length=chosen,
                    before=lambda part, label=label: told.say(f"{label}: {part}"),
                )
            )
        held = _held(loaded, labels, found)
    inspections = [
        _inspection(run.record, label, one, _aligned(label, held), shlex.join(command))
        for run, label, one in zip(loaded, labels, found, strict=True)
    ]
    for folder, inspection in zip(runs, inspections, strict=True):
        inspection.save(folder)
    return inspections


class _Told:
    """A line on the terminal that says what is being measured; nothing in a pipe."""

    def __init__(self, *, quiet: bool) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
        )
        self._bar = self._bars.add_task("", total=None)

    def __enter__(self) -> "_Told":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, what: str) -> None:
        self._bars.update(self._bar, description=what)


def labels_of(records: Sequence[Record]) -> list[str]:
    """What each run is called beside the others: its layer, with seed or id where needed."""
    layers = Counter(record.model.layer for record in records)
    seeded = [
        f"{r.model.layer} seed {r.seed}" if layers[r.model.layer] > 1 else r.model.layer
        for r in records
    ]
    shared = Counter(seeded)
    labels = [
        f"{label} ({r.run_id})" if shared[label] > 1 else label
        for label, r in zip(seeded, records, strict=True)
    ]
    twice = next((label for label, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"the run {twice} is given twice; give each run once")
    return labels


def _task_of(runs: Sequence[LoadedRun]) -> Task:
    """The task of all the runs. UserError if they are of several, or it cannot be had again."""
    first = runs[0]
    for run in runs[1:]:
        if run.record.task.name != first.record.task.name:
            raise UserError(
                f"the runs are of {first.record.task.name} and of {run.record.task.name}; states"
                " can be compared on the same inputs only, so inspect them one by one"
            )
        if _vocabulary(run) != _vocabulary(first):
            raise UserError(
                f"the runs {first.record.run_id} and {run.record.run_id} number their words"
                " differently; inspect them one by one"
            )
    if first.record.task.kind == "generated":
        return tasks.get(first.record.task.name)
    try:
        task = protocol_of(first.record).task
    except UserError as error:
        raise UserError(
            f"the data of the run cannot be had again: {error} (the run's command, relative to"
            f" where it was given, was: {first.record.command})"
        ) from None
    assert not isinstance(task, GeneratedTask)
    if task.vocabulary.to_json() != _vocabulary(first):
        raise UserError(
            f"the texts of {task.name} have changed since the run; inspect a run on the texts as"
            " they are"
        )
    return task


def _vocabulary(run: LoadedRun) -> str | None:
    return None if run.vocabulary is None else run.vocabulary.to_json()


def _length(task: Task, records: Sequence[Record], given: int | None) -> int | None:
    """Symbols of a sequence, tokens of a window; for a data set as given, to be refused."""
    if given is not None:
        return given
    if isinstance(task, GeneratedTask):
        trained = [record.task.training_lengths for record in records]
        return max((longest for _, longest in filter(None, trained)), default=1)
    return min(WINDOW, len(task.test) - 1) if isinstance(task, StreamTask) else None


def _words(run: LoadedRun) -> Sequence[str]:
    """The text of each token id."""
    from treering.tasks.listops import ListOpsVocabulary
    from treering.tasks.text import StreamVocabulary

    if run.vocabulary is None:
        return tasks.get(run.record.task.name).symbols
    if isinstance(run.vocabulary, StreamVocabulary):
        return run.vocabulary.tokens
    if isinstance(run.vocabulary, ListOpsVocabulary):
        return ("[PAD]", *run.vocabulary.ids)
    return ("[PAD]", "[UNK]", *run.vocabulary.words)


def _held(
    runs: Sequence[LoadedRun], labels: Sequence[str], found: Sequence[Survey]
) -> dict[str, dict[str, Tensor]]:
    """What each of several runs holds on the first one's batch, by label and layer.

    Where a run does not show it, its survey is told why.
    """
    held = {}
    for run, label, one in zip(runs, labels, found, strict=True):
        if len(runs) < 2:
            break
        try:
            held[label] = representations(run.model, found[0].batch)
        except NotAvailableError as reason:
            one.parts["unavailable"]["alignments"] = str(reason)
    return held


def _aligned(label: str, held: dict[str, dict[str, Tensor]]) -> list[Alignment]:
    """CKA of one run with every other."""
    return [
        Alignment(
            other=other,
            layer=layer,
            other_layer=other_layer,
            cka=significant(linear_cka(states, others)),
            tokens=len(states),
        )
        for other in held
        if other != label
        for layer, states in held.get(label, {}).items()
        for other_layer, others in held[other].items()
    ]


def _inspection(
    record: Record, label: str, found: Survey, aligned: list[Alignment], command: str
) -> Inspection:
    lengths = record.task.training_lengths
    return Inspection(
        command=command,
        run_id=record.run_id,
        label=label,
        task=record.task.name,
        kind=record.task.kind,
        layer=record.model.layer,
        hidden_size=record.model.hidden_size,
        seed=record.seed,
        status=record.status,
        step=wording.last_step(record),
        trained_to=None if lengths is None else lengths[1],
        alignments=tuple(aligned),
        **found.parts,
    )
