"""Rules by which an outcome decides a claim. Scores are compared seed by seed, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from treering.bench.record import Crossover, Growth
from treering.experiments.abstract import Finding, Verdict
from treering.experiments.outcome import Outcome, Row
from treering.report import wording
from treering.report.statistics import Estimate, estimate

SOLVED = 0.9
"""The benchmark's own word: a task is solved from this accuracy on."""

Judge = Callable[[Outcome], Finding]
NOT_RUN = Finding("not run", wording.NONE)


def first_run(*judges: Judge) -> Judge:
    """What the first of these says that was run: budgets may name what they vary differently."""

    def judge(outcome: Outcome) -> Finding:
        findings = (each(outcome) for each in judges)
        return next((found for found in findings if found.verdict != "not run"), NOT_RUN)

    return judge


def reaches(task: str, layer: str, least: float, *, variant: str = "") -> Judge:
    """Reproduced if the mean over seeds is at least `least`."""

    def judge(outcome: Outcome) -> Finding:
        row = outcome.find(task, layer, variant)
        if row is None:
            return NOT_RUN
        if row.score is None or row.diverged:
            return _diverged(row)
        text = wording.score(row.score, row.measure)
        return Finding("reproduced" if row.score.mean >= least else "not reproduced", text)

    return judge


def best_reaches(task: str, layer: str, least: float) -> Judge:
    """Reproduced if the best run is at least `least`, as the formal-language benchmark counts.

    Of all seeds and of all variants of the task.
    """

    def judge(outcome: Outcome) -> Finding:
        rows = [row for row in outcome.rows if (row.task, row.layer) == (task, layer)]
        if not rows:
            return NOT_RUN
        found = {score: row for row in rows for score in row.scores}
        if not found:
            return _diverged(rows[0])
        best = max(found)
        row = found[best]
        runs = sum(len(row.seeds) for row in rows)
        text = wording.number(best, row.measure) + (f", {row.variant}" if row.variant else "")
        if runs > 1:
            text = f"best of {runs} runs {text}"
        return Finding("reproduced" if best >= least else "not reproduced", text)

    return judge


def reaches_at(task: str, layer: str, length: int, least: float) -> Judge:
    """Reproduced if the mean over seeds at one sequence length is at least `least`."""

    def judge(outcome: Outcome) -> Finding:
        row = outcome.find(task, layer)
        found = [entry for entry in row.by_length if entry.length == length] if row else []
        if row is not None and row.diverged:
            return _diverged(row)
        if not found or row is None:
            return NOT_RUN
        text = wording.number(found[0].accuracy, row.measure)
        seeds = f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else ""
        return Finding(
            "reproduced" if found[0].accuracy >= least else "not reproduced", text + seeds
        )

    return judge


def all_reach(layers: Mapping[str, str], least: float) -> Judge:
    """Reproduced if the mean over seeds is at least `least` on every task.

    On how many the best seed is, which is what the benchmark publishes, is told beside.

    Args:
        layers: By task, the layer that is judged there.
    """

    def judge(outcome: Outcome) -> Finding:
        found = [outcome.find(task, layer) for task, layer in layers.items()]
        rows = [row for row in found if row is not None]
        if len(rows) < len(layers):
            return NOT_RUN
        means = {row.task: row.score.mean if row.score else 0.0 for row in rows}
        good = [row for row in rows if means[row.task] >= least and not row.diverged]
        worst = min(rows, key=lambda row: means[row.task])
        lowest = wording.score(worst.score, worst.measure) if worst.score else "diverged"
        best = sum(max(row.scores, default=0.0) >= least for row in rows)
        text = f"{len(good)} of {len(rows)}; lowest {worst.task} {lowest}; best seeds: {best}"
        return Finding("reproduced" if len(good) == len(rows) else "not reproduced", text)

    return judge


def solves_more(layer: str, others: Sequence[str], tasks: Sequence[str]) -> Judge:
    """Reproduced if the layer's best seed solves more tasks than that of each of the others."""

    def judge(outcome: Outcome) -> Finding:
        counts = {}
        for name in (layer, *others):
            found = [outcome.find(task, name) for task in tasks]
            rows = [row for row in found if row is not None]
            if len(rows) < len(tasks):
                return NOT_RUN
            counts[name] = sum(max(row.scores, default=0.0) >= SOLVED for row in rows)
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        more = all(counts[layer] > counts[name] for name in others)
        return Finding("reproduced" if more else "not reproduced", f"solved: {text}")

    return judge


def gains(
    task: str,
    layer: str,
    over: str,
    published: float | None = None,
    variant: str = "",
    over_variant: str | None = None,
) -> Judge:
    """Reproduced if the layer's score is better than another's, and the interval excludes 0.

    An interval around 0 that also holds the published gain decides nothing; one that does not
    hold it contradicts the claim. The other is of the same variant, if not of `over_variant`.
    """

    def verdict(gain: Estimate, half_width: float) -> Verdict:
        if gain.excludes_zero:
            return "reproduced" if gain.mean > 0 else "not reproduced"
        possible = published is None or abs(published - gain.mean) <= half_width
        return "undecided" if possible else "not reproduced"

    there = variant if over_variant is None else over_variant
    return _compared(task, (layer, variant), (over, there), verdict)


def keeps_up(task: str, layer: str, than: str, margin: float, variant: str = "") -> Judge:
    """Reproduced if the layer surely loses less than `margin` to another."""

    def verdict(gain: Estimate, half_width: float) -> Verdict:
        if gain.mean - half_width > -margin:
            return "reproduced"
        return "not reproduced" if gain.mean + half_width < -margin else "undecided"

    return _compared(task, (layer, variant), (than, variant), verdict)


def _compared(
    task: str,
    layer: tuple[str, str],
    other: tuple[str, str],
    verdict: Callable[[Estimate, float], Verdict],
) -> Judge:
    """By the gain of one layer over another, seed by seed, and half of its interval's width.

    A layer with its variant.
    """

    def judge(outcome: Outcome) -> Finding:
        ours, theirs = outcome.find(task, *layer), outcome.find(task, *other)
        if ours is None or theirs is None:
            return NOT_RUN
        if ours.diverged:
            return _diverged(ours)
        difference = ours.minus(theirs)
        if difference is None:
            return Finding("reproduced", f"{theirs.layer}: {_diverged(theirs).ours}")
        text = _difference(difference, ours)
        if difference.half_width is None:
            return Finding("undecided", f"{text}, one seed")
        gain = difference if ours.measure.better == "higher" else difference.negated
        return Finding(verdict(gain, difference.half_width), text)

    return judge


def _diverged(row: Row) -> Finding:
    """What a claim comes to whose layer could not be trained with every seed."""
    count = len(row.seeds) + len(row.diverged)
    text = f"diverged with {len(row.diverged)} of {count} seeds"
    if row.score is not None:
        text += f", otherwise {wording.score(row.score, row.measure)}"
    return Finding("not reproduced", text)


def _difference(difference: Estimate, row: Row) -> str:
    metric = row.measure
    unit = f" {metric.unit}" if metric.unit else ""
    seeds = f" ({difference.n} seeds)" if difference.n > 1 else ""
    return f"{wording.difference(difference, metric)}{unit}{seeds}"


def measures_more(task: str, layer: str, over: str, measure: str, variant: str = "") -> Judge:
    """Reproduced if what inspections found is surely greater than for another layer."""

    def judge(outcome: Outcome) -> Finding:
        ours, theirs = outcome.find(task, layer, variant), outcome.find(task, over, variant)
        difference = ours.minus(theirs, measure) if ours and theirs else None
        if ours is None or theirs is None or difference is None:
            return NOT_RUN
        values, others = (_present(row.measured(measure)) for row in (ours, theirs))
        text = f"{wording.figure(values.mean)} against {wording.figure(others.mean)}"
        if difference.half_width is None:
            return Finding("undecided", f"{text}, one seed")
        sign = "+" if difference.mean > 0 else ""
        text += f"; difference {sign}{wording.figure_with_interval(difference)}"
        if not difference.excludes_zero:
            return Finding("undecided", text)
        return Finding("reproduced" if difference.mean > 0 else "not reproduced", text)

    return judge


def measures_at_least(task: str, layer: str, measure: str, least: float) -> Judge:
    """Reproduced if the mean of what inspections found is at least `least`."""

    def judge(outcome: Outcome) -> Finding:
        row = outcome.find(task, layer)
        found = [value for value in row.measured(measure) if value is not None] if row else []
        if not found:
            return NOT_RUN
        value = estimate(found)
        verdict = "reproduced" if value.mean >= least else "not reproduced"
        return Finding(verdict, wording.figure_with_interval(value))

    return judge


def _present(values: Sequence[float | None]) -> Estimate:
    return estimate([value for value in values if value is not None])


def fewer_parameters(task: str, layer: str, than: str, share: float, variant: str = "") -> Judge:
    """Reproduced if the layer has about `share` fewer parameters (within two points)."""

    def judge(outcome: Outcome) -> Finding:
        ours, theirs = outcome.find(task, layer, variant), outcome.find(task, than, variant)
        if ours is None or theirs is None:
            return NOT_RUN
        saved = 1 - ours.layer_parameters / theirs.layer_parameters
        text = f"{100 * saved:.1f}% ({ours.layer_parameters:,} of {theirs.layer_parameters:,})"
        return Finding("reproduced" if abs(saved - share) <= 0.02 else "not reproduced", text)

    return judge


def crosses(peer: str, mode: str) -> Judge:
    """Reproduced if for one sequence the tree takes no longer than a peer from some length on.

    peer: a word of the peer's name. For every width measured.
    """

    def judge(outcome: Outcome) -> Finding:
        curves = [
            one
            for one in outcome.measurements
            if isinstance(one, Crossover)
            and (one.case.batch, one.case.mode) == (1, mode)
            and peer in one.peer
            and one.points
        ]
        if not curves:
            return NOT_RUN
        texts = []
        for curve in curves:
            met = f"from {curve.crossing:,.0f} tokens" if curve.crossing else "at no length"
            last = curve.points[-1]
            texts.append(
                f"width {curve.case.hidden_size}: {met}, {last.ratio.median:.1f}x at {last.time:,}"
            )
        holds = all(curve.crossing for curve in curves)
        return Finding("reproduced" if holds else "not reproduced", "; ".join(texts))

    return judge


def grows_more_slowly(layer: str, other: str, mode: str, what: Literal["time", "memory"]) -> Judge:
    """Reproduced if a cost grows with a clearly smaller power of the length than another's.

    Clearly: by a fifth at least, which is more than what short lengths distort.
    """

    def judge(outcome: Outcome) -> Finding:
        curves = {
            one.case.layer: one
            for one in outcome.measurements
            if isinstance(one, Growth) and one.case.mode == mode
        }
        if layer not in curves or other not in curves:
            return NOT_RUN
        ours, theirs = (getattr(curves[name], f"{what}_exponent") for name in (layer, other))
        # None, where even the shortest took longer than a measurement may.
        longest = [
            f"{max((point.time for point in curves[name].points), default=0):,}"
            for name in (layer, other)
        ]
        measured = f"to {longest[0]} and {longest[1]} tokens"
        if ours is None or theirs is None:
            # Of too few lengths, or of calls that take no memory that the system counts.
            return Finding("undecided", f"no exponent, measured {measured}")
        slower = ours < theirs - 0.2
        text = f"T^{ours:.2f} beside T^{theirs:.2f}, {measured}"
        return Finding("reproduced" if slower else "not reproduced", text)

    return judge
