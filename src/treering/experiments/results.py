"""From outcomes to what is told of them: the page of all claims, from the outcomes alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from treering.experiments.abstract import OPEN, Experiment
from treering.experiments.outcome import Outcome, Row
from treering.report import wording
from treering.report.claims import CLAIM_HEADINGS, JudgedClaim
from treering.report.statistics import estimate

UNDECIDING = "smoke"
"""The budget that only shows that everything runs."""
ANSWERS = {"reproduced": "holds", "not reproduced": "does not hold"}
"""What verdicts are called where nothing was published that could be reproduced."""


def place(folder: Path, name: str, budget: str) -> Path:
    """Where an experiment's outcome lies: `pr-lstm/table-2.cpu.json`."""
    return folder / f"{name}.{budget}.json"


def judged(experiment: Experiment, outcome: Outcome | None) -> list[JudgedClaim]:
    """Every claim of an experiment with its verdict; without an outcome none was run."""
    decided = []
    for claim in experiment.claims:
        if outcome is None:
            ours, verdict = wording.NONE, "not run"
        else:
            finding = claim.judge(outcome)
            ours, verdict = finding.ours, finding.verdict
            if outcome.budget == UNDECIDING and verdict != "not run":
                verdict = "undecided"
            if claim.published == OPEN:
                verdict = ANSWERS.get(verdict, verdict)
        decided.append(JudgedClaim(claim.told, claim.published, ours, verdict))
    return decided


NEAR_GUESSING = 0.005
"""A score this near to that of guessing says that nothing was learnt, and the table says so."""
PAPERS = {
    "pr-lstm": "PR-LSTM (2605.17108)",
    "ql-lstm": "QL-LSTM (2512.06582)",
    "tree-order": "Tree order, Lp, nonlinear gates (2509.00087)",
    "best": "How far these layers get",
}
"""First parts of experiments' names, in the order of the page."""
SUMS = {
    "reproduced": "reproduced",
    "holds": "hold",
    "not reproduced": "not reproduced",
    "does not hold": "do not hold",
    "undecided": "undecided",
    "not run": "not run",
}
"""Verdicts as they are counted, in the order in which they are told."""
HEADINGS = {True: ("claim", "verdict", "budget"), False: ("open question", "answer", "budget")}
"""Of the two tables of all claims: what was published, and what was not."""


def page(experiments: Sequence[Experiment], outcomes: Mapping[str, Outcome]) -> str:
    """Markdown of all claims and of the scores behind them, from outcomes by experiment's name."""
    lines = [
        "# Results",
        "",
        "<!-- made by docs/generate.py from results/claims -->",
        "",
        "Which claims of the three founding papers (by their number on arXiv) hold here. Figures,"
        " scores and machine are behind each link; what the papers leave open, and what we ask, is"
        " below. One line may be about several tasks or lengths: a paper's sum counts each.",
        "",
    ]
    for published, headings in HEADINGS.items():
        if not published:
            lines += ["## Open questions", ""]
        lines += [*_table(headings), *_overview(experiments, outcomes, published=published), ""]
    lines += [
        "Differences are seed by seed, in points of accuracy unless another unit is named, ± the"
        " half width of the 95% interval (Student's t). `reproduced` (of a question, `holds`): the"
        " interval excludes 0, or the threshold is met. `undecided`: the interval allows the claim"
        " and its opposite. A verdict is about its budget: `cpu` is two cores for at most two hours"
        " a table. The test set is used once a run, and the validation split, where a task has one,"
        " chooses what is tested. Layers of an experiment share their settings unless it says how"
        " theirs were chosen. Any of it again: `treering reproduce NAME --budget cpu`"
        " ([how it is judged](reproduce.md)).",
        "",
    ]
    for experiment in experiments:
        lines += _details(experiment, outcomes.get(experiment.name))
    return "\n".join(lines)


def _overview(
    experiments: Sequence[Experiment], outcomes: Mapping[str, Outcome], *, published: bool
) -> Iterator[str]:
    """One line for each text, under its paper: what papers claim, or what nobody has answered."""
    for paper, title in PAPERS.items():
        lines, counts = [], Counter[str]()
        for experiment in experiments:
            if not experiment.name.startswith(f"{paper}/"):
                continue
            outcome = outcomes.get(experiment.name)
            texts: dict[str, list[tuple[str, JudgedClaim]]] = {}
            for claim, finding in zip(experiment.claims, judged(experiment, outcome), strict=True):
                if (claim.published != OPEN) == published:
                    texts.setdefault(claim.text, []).append((claim.where, finding))
                    counts[finding.verdict] += 1
            for text, found in texts.items():
                # Published claims in few words: all of them are to fit one screen.
                told = _told(found, briefly=published)
                link = f"[{text}](#{experiment.name.replace('/', '')})"
                lines.append(_line([link, told, outcome.budget if outcome else wording.NONE]))
        if lines:
            total = ", ".join(f"{counts[v]} {word}" for v, word in SUMS.items() if counts[v])
            yield _line([f"**{title}**: {total}", "", ""])
            yield from lines


def _told(found: Sequence[tuple[str, JudgedClaim]], *, briefly: bool) -> str:
    """The claims of one text by where they are asked: `not reproduced: r8; undecided: foods`."""
    if len(found) == 1:
        ((_, one),) = found
        return one.verdict if briefly or one.verdict == "not run" else f"{one.verdict}: {one.ours}"
    places: dict[str, list[str]] = {}
    for where, one in found:
        places.setdefault(one.verdict, []).append(where)
    if len(places) == 1:
        (verdict,) = places
        alike = "both" if len(found) == 2 else f"all {len(found)}"
        return verdict if verdict == "not run" else f"{verdict} ({alike})"
    if briefly and len(found) > 2:
        return ", ".join(f"{verdict} ({len(where)})" for verdict, where in places.items())
    return "; ".join(f"{verdict}: {', '.join(where)}" for verdict, where in places.items())


def _details(experiment: Experiment, outcome: Outcome | None) -> Iterator[str]:
    yield from (f"## {experiment.name}", "", f"{experiment.title}. Source: {experiment.source}.")
    if experiment.reading:
        yield from ("", experiment.reading)
    yield ""
    yield from _table(CLAIM_HEADINGS)
    yield from (_line(claim.cells) for claim in judged(experiment, outcome))
    yield ""
    if outcome is None:
        yield from (f"Not run. `treering reproduce {experiment.name}`", "")
        return
    machine = outcome.machines[0]
    where = (
        f"Budget `{outcome.budget}`, {outcome.created[:10]}, {machine.processor}, PyTorch"
        f" {machine.torch}"
    )
    if not outcome.rows:
        record = place(Path("../results/claims"), outcome.experiment, outcome.budget).as_posix()
        threads = wording.plural(outcome.measurements[0].machine.threads, "thread")
        curves = (
            f"{len(outcome.measurements)} curves on {threads}, [every length of them]({record})"
        )
        yield from (f"{where}: {curves}. [Sweeps beside other peers](measured.md).", "")
        return
    yield from (f"{where}: {_effort(outcome.rows)}.", "")
    groups = dict.fromkeys((row.task, row.variant) for row in outcome.rows)
    layers = dict.fromkeys(row.layer for row in outcome.rows)
    # The longer side of the table goes down the page.
    if len(layers) >= len(groups):
        yield from _table(("layer", "parameters", *(_title(*group) for group in groups)))
        for layer in layers:
            found = [outcome.find(task, layer, variant) for task, variant in groups]
            sizes = " / ".join(dict.fromkeys(f"{r.parameters:,}" for r in found if r))
            cells = (_score(experiment, row) for row in found)
            yield _line([f"`{layer}`", sizes, *cells])
    else:
        yield from _table(("task", *(f"`{layer}`" for layer in layers)))
        for task, variant in groups:
            cells = (_score(experiment, outcome.find(task, layer, variant)) for layer in layers)
            yield _line([_title(task, variant), *cells])
        yield _line(["parameters", *(_sizes(outcome, layer) for layer in layers)])
    yield ""
    yield from _measured(outcome)


def _effort(rows: Sequence[Row]) -> str:
    """How many runs there were, and how long those took that came to their end."""
    hours = sum(sum(row.seconds) for row in rows) / 3600
    text = f"{sum(len(row.seeds) for row in rows)} runs, {hours:.1f} hours of one run at a time"
    untimed = {
        "that diverged": sum(len(row.diverged) for row in rows),
        "trials of searches": sum(row.trials for row in rows),
    }
    more = " and ".join(f"{count} {what}" for what, count in untimed.items() if count)
    return f"{text}; besides, {more}" if more else text


def _measured(outcome: Outcome) -> Iterator[str]:
    """What inspections of the runs found, layer by layer; nothing where none were made."""
    names = dict.fromkeys(name for row in outcome.rows for name in row.measures)
    if not names:
        return
    layers = dict.fromkeys(row.layer for row in outcome.rows)
    yield from _table(("measured", "task", *(f"`{layer}`" for layer in layers)))
    for name in names:
        for task in dict.fromkeys(row.task for row in outcome.rows if name in row.measures):
            found = [outcome.find(task, layer) for layer in layers]
            cells = (row.measured(name) if row else [] for row in found)
            yield _line([name, task, *(_mean([v for v in c if v is not None]) for c in cells)])
    yield ""


def _mean(values: Sequence[float]) -> str:
    return wording.figure_with_interval(estimate(values)) if values else wording.NONE


def _sizes(outcome: Outcome, layer: str) -> str:
    """Of a layer's models on the tasks, whose inputs and answers differ in width."""
    found = [row.parameters for row in outcome.rows if row.layer == layer]
    least, most = min(found), max(found)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _title(task: str, variant: str) -> str:
    return f"{task}, {variant}" if variant else task


def _score(experiment: Experiment, row: Row | None) -> str:
    if row is None:
        return ""
    text = wording.score(row.score, row.measure) if row.score else ""
    if row.diverged:
        count = len(row.seeds) + len(row.diverged)
        text = f"{text} (diverged: {len(row.diverged)} of {count} seeds)".strip()
    if row.score and abs(row.score.mean - row.chance) < NEAR_GUESSING:
        text += f" (guessing {wording.number(row.chance, row.measure)})"
    if row.trials:
        text += f" (best of {row.trials} settings)"
    published = experiment.published.get((row.task, row.layer))
    if published is not None:
        text += f" (published {wording.number(published, row.measure)})"
    return text


def _table(headings: Sequence[str]) -> list[str]:
    return [_line(headings), "|---" * len(headings) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
