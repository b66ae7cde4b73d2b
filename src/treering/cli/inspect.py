"""`treering inspect`: what a trained recurrence does, as a page, a table and JSON."""

import json as json_format
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from treering import tasks
from treering._errors import UserError
from treering.cli.models import LoadedRun, load_run
from treering.cli.options import Flag, Whole
from treering.cli.reproduced import protocol_of
from treering.cli.runs import enough_memory
from treering.cli.streams import plain_table, print_json, standard_output
from treering.inspect.alignment import linear_cka, representations
from treering.inspect.record import PARTS, Alignment, Inspection, Spectrum, significant
from treering.inspect.survey import Survey, survey
from treering.records import Record
from treering.report import inspection as page
from treering.report import wording
from treering.report.inspection_plots import gradient_label
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
    loaded = [load_run(folder) for folder in runs]
    labels = labels_of([run.record for run in loaded])
    task = _task_of(loaded)
    chosen = _length(task, [run.record for run in loaded], length)
    words = [*_words(loaded[0]), EMPTY]
    options = {"--samples": samples, "--length": length}
    command = ["treering", "inspect", *map(str, runs)]
    command += [str(w) for pair in options.items() if pair[1] is not None for w in pair]

    found: list[Survey] = []
    with _Told(quiet=json) as told, enough_memory("--samples or --length"):
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
        aligned = _aligned(loaded, labels, found[0])
    inspections = [
        _inspection(run.record, label, one, aligned.get(label, []), shlex.join(command))
        for run, label, one in zip(loaded, labels, found, strict=True)
    ]
    for folder, inspection in zip(runs, inspections, strict=True):
        inspection.save(folder)
    page.write_html(inspections, out, f"treering inspect: {task.name}")
    if json:
        plain = [json_format.loads(one.model_dump_json()) for one in inspections]
        print_json({"report": str(out), "inspections": plain})
        return
    _show(inspections, out)


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


def _aligned(
    runs: Sequence[LoadedRun], labels: Sequence[str], first: Survey
) -> dict[str, list[Alignment]]:
    """CKA of every pair of runs, from both sides."""
    if len(runs) < 2:
        return {}
    held = {
        label: representations(run.model, first.batch)
        for run, label in zip(runs, labels, strict=True)
    }
    return {
        label: [
            Alignment(
                other=other,
                layer=layer,
                other_layer=other_layer,
                cka=significant(linear_cka(states, others)),
                tokens=len(states),
            )
            for other in labels
            if other != label
            for layer, states in held[label].items()
            for other_layer, others in held[other].items()
        ]
        for label in labels
    }


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


def _show(inspections: Sequence[Inspection], out_page: Path) -> None:
    with standard_output() as out:
        for run in inspections:
            out.print(f"{run.label}: {page.facts(run)}", markup=False, soft_wrap=True)
            table = plain_table("")
            for heading in ("measure", "of", ""):
                table.add_column(heading)
            for row in rows(run):
                table.add_row(*map(escape, row))
            out.print(table)
            for part, reason in run.unavailable.items():
                out.print(f"{PARTS[part]}: not available, {reason}", markup=False, soft_wrap=True)
            out.print()
        out.print(f"Report: {out_page}", markup=False, soft_wrap=True)


def rows(run: Inspection) -> Iterator[tuple[str, str, str]]:
    """An inspection in short: measure, of what, number."""

    def ends(curve: Any) -> str:
        if not curve.at:
            return wording.NONE
        pairs = dict(zip(curve.at, curve.median, strict=True))
        shown = dict.fromkeys((curve.at[0], curve.at[-1]))
        return ", ".join(f"{pairs[at]:.3g} at distance {at}" for at in shown)

    for one in run.gradients:
        label = gradient_label(one)
        yield "gradient norm", f"input, {label}" if one.of == "input" else label, ends(one.curve)
    for one in run.gates:
        low, high = wording.percent(one.closed), wording.percent(one.opened)
        if one.range[0] == 0:
            kind, edges = "gate", f"{low} closed, {high} open"
        else:
            kind, edges = "candidate", f"{low} below {wording.MINUS}0.95, {high} above 0.95"
        yield kind, f"{one.layer}, {one.name}", f"mean {one.mean:.3f}, {edges}"
    for one in run.similarity:
        yield "cosine of states", one.layer, ends(one.curve)
    blocks: dict[str, list[Spectrum]] = {}
    for one in run.spectra:
        blocks.setdefault(f"{one.layer}, {one.matrix}", []).append(one)
    for what, several in blocks.items():
        radii = [one.radius for one in several if one.radius is not None]
        radius = f", spectral radius up to {max(radii):.3g}" if radii else ""
        largest = max(one.singular_values[0] for one in several)
        yield "singular values", what, f"up to {largest:.3g}{radius}"
    for one in run.probes:
        number = (
            f"{page.percent(one.within)} up to length {one.longest},"
            f" {page.percent(one.beyond)} beyond (chance {wording.percent(one.chance)})"
        )
        yield "probe", f"{one.target}, {one.layer}", number
    for one in run.alignments:
        yield "linear CKA", f"{one.layer} and {one.other}, {one.other_layer}", f"{one.cka:.3f}"
