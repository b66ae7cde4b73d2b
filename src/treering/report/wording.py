"""Numbers as text, and the sentences that say what the numbers say."""

import math
from collections.abc import Mapping, Sequence

from treering.records import ACCURACY, STEP_PARTS, Metric, Record
from treering.report.sections import (
    NEAR_CHANCE,
    NEAR_PERFECT,
    Row,
    Section,
)
from treering.report.statistics import Estimate, paired_difference

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
"""Stands where there is no number."""


def percent(fraction: float) -> str:
    """One decimal; 100.0% only for what is right throughout, 0.0% only for what is wrong."""
    if 0.9995 <= fraction < 1:
        return ">99.99%" if fraction > 0.9999 else f"{math.floor(fraction * 1e4) / 100:.2f}%"
    if 0 < fraction < 0.0005:
        return "<0.1%"
    return f"{100 * fraction:.1f}%"


def number(value: float, metric: Metric) -> str:
    """A score as a table shows it: `98.7%`, `1.623`, `1,042.3`."""
    return percent(value) if metric is ACCURACY else f"{value:,.{metric.decimals}f}"


def exact(value: float, metric: Metric) -> str:
    """A score as it is in its record, with one digit more than a table shows."""
    digits = metric.decimals + round(math.log10(metric.scale)) + 1
    return f"{value:.{digits}f}"


def score(value: Estimate | None, metric: Metric) -> str:
    """`98.7% ± 1.2`; without an interval for a single seed."""
    if value is None:
        return NONE
    if value.half_width is None:
        return number(value.mean, metric)
    return f"{number(value.mean, metric)} ± {half_width(value.half_width, metric)}"


def half_width(value: float, metric: Metric) -> str:
    """In the metric's unit (points for accuracy); zero only where all seeds agree."""
    smallest = 10.0**-metric.decimals
    size = metric.scale * value
    if 0 < size < smallest / 2:
        return f"<{smallest:.{metric.decimals}f}"
    return f"{size:,.{metric.decimals}f}"


def figure(value: float) -> str:
    """A number of no unit, to three digits: `0.557`, `−3.62`."""
    text = f"{abs(value):.3g}"
    return f"{MINUS}{text}" if value < 0 and text != "0" else text


def figure_with_interval(value: Estimate) -> str:
    """`0.557 ± 0.43`; without an interval for a single seed."""
    text = figure(value.mean)
    return text if value.half_width is None else f"{text} ± {value.half_width:.2g}"


def signed(value: float, metric: Metric) -> str:
    """A difference in the metric's unit, always with its sign: `+1.3`, `−0.4`, `0.0`."""
    text = f"{abs(metric.scale * value):,.{metric.decimals}f}"
    if not text.strip("0.,"):
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def difference(value: Estimate | None, metric: Metric) -> str:
    """`+3.1 ± 0.8`; without an interval for a single seed."""
    if value is None:
        return NONE
    if value.half_width is None:
        return signed(value.mean, metric)
    return f"{signed(value.mean, metric)} ± {half_width(value.half_width, metric)}"


def span(value: Estimate, metric: Metric) -> str:
    """The interval of a difference: `+2.3 to +3.9`."""
    low, high = value.interval or (value.mean, value.mean)
    return f"{signed(low, metric)} to {signed(high, metric)}"


def amount(value: float, metric: Metric, *, sign: bool = False) -> str:
    """A difference with its unit: `3.1 points`, `0.052 bits`, `12.4`."""
    size = abs(metric.scale * value)
    text = signed(value, metric) if sign else f"{size:,.{metric.decimals}f}"
    return f"{text} {metric.unit}".strip()


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    whole_seconds = round(value)
    minutes, rest = divmod(whole_seconds, 60)
    if minutes == 0:
        return f"{whole_seconds} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def shares(where: Mapping[str, float]) -> str:
    """Parts of a run's time: `data 2%, forward 38%, backward 60%`."""
    total = sum(where.values())
    return ", ".join(f"{part} {100 * t / total:.0f}%" for part, t in where.items() if t > 0)


def per_step(run: Record) -> float:
    """Mean seconds of a training step; 0 without one."""
    steps = last_step(run)
    return sum(run.cost.where.get(p, 0.0) for p in STEP_PARTS) / steps if steps else 0.0


def memory(value: int | None) -> str:
    if not value:
        return NONE
    mebibytes = value / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_000 else f"{mebibytes / 1024:,.1f} GiB"


def whole(value: float | None) -> str:
    """Three significant digits are all that a speed has: 12,345 becomes 12,300."""
    if not value:
        return NONE
    digits = max(0, math.floor(math.log10(value)) - 2)
    return f"{round(value, -digits):,.0f}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def seeds(row: Row) -> str:
    """`3`, or `2 of 3` where a run is unfinished."""
    finished = len(row.summary.runs)
    open_seeds = {run.seed for run in row.summary.unfinished} - set(row.summary.seeds)
    total = finished + len(open_seeds)
    return str(finished) if total == finished else f"{finished} of {total}"


def last_step(run: Record) -> int:
    return max((point.step for point in run.learning), default=0)


def headline(section: Section) -> str:
    """One sentence: which model is best and by how much, or that none learnt."""
    task, rows, metric = section.title, section.scored, section.metric

    def stated(value: Estimate) -> str:
        return metric.phrase.format(score(value, metric))

    if not rows:
        return f"No run on {task} has finished."
    best = rows[0]
    assert best.summary.score is not None
    top = stated(best.summary.score)
    if section.way(best.summary.score.mean) < NEAR_CHANCE:
        who = "Nothing" if len(rows) > 1 else best.label
        verb = "learnt" if len(rows) > 1 else "did not learn"
        best_is = f"the best, {best.label}, scores" if len(rows) > 1 else "it scores"
        guessing = f"guessing {number(section.task.chance, metric)}"
        return f"{who} {verb} {task}: {best_is} {top}, {guessing}."
    if len(rows) == 1:
        return f"{best.label} scores {top} on {task}, from {plural(best.summary.score.n, 'seed')}."
    tied = [row.label for row in rows if _mean(row) == _mean(best)]
    if len(tied) > 1:
        return f"{listed(tied)} score the same on {task}: {top}."
    second = rows[1]
    assert second.summary.score is not None
    lead = paired_difference(best.summary, second.summary)
    ahead = "highest" if metric.better == "higher" else "best"
    if lead is None or lead.half_width is None:
        return (
            f"{best.label} scores {ahead} on {task}, {top}, before {second.label} with "
            f"{stated(second.summary.score)}; too few common seeds to tell whether that is luck."
        )
    lead = _gain(lead, metric)
    if lead.excludes_zero:
        return (
            f"{best.label} is best on {task}: {top}, ahead of {second.label} by "
            f"{amount(lead.mean, metric)} (95% interval {span(lead, metric)})."
        )
    return (
        f"{best.label} scores {ahead} on {task}, {top}, but its lead over {second.label}, "
        f"{amount(lead.mean, metric, sign=True)} (95% interval {span(lead, metric)}), may be luck "
        "of the seeds."
    )


def findings(section: Section) -> list[str]:
    """What else a reader has to know: who failed and how, and what is missing from the means."""
    task, rows, metric = section.task, section.scored, section.metric
    found = []
    if len(rows) > 2 and rows[0].difference is not None and not rows[1].is_baseline:
        gap = _gain(rows[0].difference, metric)
        verb = "gains" if metric.better == "higher" else "saves"
        gain = f"{rows[0].label} {verb} {amount(gap.mean, metric)}"
        interval = f" (95% interval {span(gap, metric)})" if gap.half_width is not None else ""
        found.append(f"Against the baseline lstm, {gain}{interval}.")
    fitted = [row for row in rows if _fits_only_training(row, section)]
    if fitted:
        cases = [
            f"{row.label} ({number(row.final_train_score or 0, metric)} in training, "
            f"{number(_mean(row), metric)} beyond)"
            for row in fitted
        ]
        found.append(f"Learnt the training lengths but not the rule: {listed(cases)}.")
    stuck = [row for row in rows if section.way(_mean(row)) < NEAR_CHANCE and row not in fitted]
    if stuck:
        cases = [f"{row.label} ({number(_mean(row), metric)})" for row in stuck]
        found.append(f"Did not learn, chance being {number(task.chance, metric)}: {listed(cases)}.")
    for row in rows:
        failed = [
            seed for seed, value in row.summary.scores.items() if section.way(value) < NEAR_CHANCE
        ]
        if failed and row not in stuck and row not in fitted:
            found.append(
                f"{len(failed)} of {plural(len(row.summary.runs), 'seed')} of {row.label} "
                "stayed near chance."
            )
    diverged = [
        f"{row.label} seed {run.seed} (from step {step})"
        for row in section.rows
        for run in (*row.summary.runs, *row.summary.unfinished)
        if (step := next((p.step for p in run.learning if not math.isfinite(p.loss)), None))
        is not None
    ]
    if diverged:
        found.append(f"The loss is not a finite number: {listed(diverged)}.")
    unfinished = [
        f"{row.label} seed {run.seed} ({run_status(run)})"
        for row in section.rows
        for run in row.summary.unfinished
    ]
    if unfinished:
        found.append(f"Not finished, and in no mean: {listed(unfinished)}.")
    repeated = sum(len(row.summary.repeated) for row in section.rows)
    if repeated:
        found.append(
            f"{plural(repeated, 'older run')} of a seed that ran again "
            f"{'is' if repeated == 1 else 'are'} listed under every run, and in no mean."
        )
    if rows and all(row.summary.score and row.summary.score.n == 1 for row in rows):
        found.append(
            "One seed each: no intervals, so small differences mean nothing."
            if len(rows) > 1
            else "One seed: no interval."
        )
    return found


def run_status(run: Record) -> str:
    """`finished`, or how far an unfinished run came."""
    if run.status == "finished":
        return "finished" if run.evaluation else "finished without evaluation"
    return f"{run.status} at step {last_step(run):,}"


def _gain(difference: Estimate, metric: Metric) -> Estimate:
    """A difference of scores, positive where the first one is better."""
    return difference.negated if metric.better == "lower" else difference


def _mean(row: Row) -> float:
    return row.summary.score.mean if row.summary.score else math.nan


def _fits_only_training(row: Row, section: Section) -> bool:
    trained = row.final_train_score
    return (
        section.task.kind == "generated"
        and trained is not None
        and section.way(trained) >= NEAR_PERFECT
        and section.way(_mean(row)) < 0.5
    )
