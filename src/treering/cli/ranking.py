"""Which combination of options is best for a layer: validation says, the test is only told."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from treering.cli.grids import Combination
from treering.cli.specs import LayerSpec
from treering.records import Metric, Record
from treering.report import wording
from treering.report.statistics import Estimate, estimate


@dataclass(frozen=True, eq=False)
class Entry:
    """One combination with one layer: its runs over the seeds."""

    combination: Combination
    spec: LayerSpec
    records: tuple[Record, ...]

    @cached_property
    def validations(self) -> dict[int, float]:
        """Of finished runs, by seed."""
        return {
            record.seed: record.evaluation.validation_score
            for record in self.finished
            if record.evaluation and record.evaluation.validation_score is not None
        }

    @cached_property
    def finished(self) -> tuple[Record, ...]:
        """All runs but those that ended because a loss or gradient was not a finite number."""
        return tuple(record for record in self.records if record.status == "finished")

    @property
    def diverged(self) -> tuple[int, ...]:
        """Seeds whose training ended because a loss or gradient was not a finite number."""
        return tuple(record.seed for record in self.records if record.status != "finished")

    @property
    def metric(self) -> Metric:
        """What its scores are."""
        return self.records[0].task.measure

    @cached_property
    def validation(self) -> Estimate | None:
        """Mean and interval over the seeds; None without a finished run."""
        values = list(self.validations.values())
        return estimate(values) if values else None

    @cached_property
    def score(self) -> Estimate | None:
        """The same of the score on the test."""
        values = [record.evaluation.score for record in self.finished if record.evaluation]
        return estimate(values) if values else None


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Best mean validation first; what diverged with any seed after all that did not.

    Equal ones stay in the order given: nothing of the test decides.
    """

    def place(entry: Entry) -> tuple[bool, int, float]:
        if entry.validation is None:
            return True, len(entry.diverged), 0.0
        return False, len(entry.diverged), entry.metric.gain(0.0, entry.validation.mean)

    return sorted(entries, key=place)


def best_by_layer(places: Sequence[Entry]) -> dict[str, list[Entry]]:
    """By layer, what `ranked` has of it, the layer of the best entry first."""
    layers: dict[str, list[Entry]] = {}
    for entry in places:
        layers.setdefault(entry.spec.text, []).append(entry)
    return layers


def verdict(layer: str, entries: Sequence[Entry]) -> str:
    """One sentence: the layer's best combination, and whether the seeds tell it from the next."""
    best, others = entries[0], entries[1:]
    metric = best.metric
    if best.validation is None:
        return f"No combination of {layer} could be trained: every run diverged."
    stated = (
        f"Best for {layer}: {best.combination.label}, validation"
        f" {wording.score(best.validation, metric)}, score {wording.score(best.score, metric)}"
    )
    if best.diverged:
        return f"{stated}; but of every combination runs diverged."
    rivals = [other for other in others if other.validation and not other.diverged]
    level = [other for other in rivals if other.validations == best.validations]
    if level:
        return f"{stated}; {wording.plural(len(level), 'other')} with the same validation."
    if not rivals:
        return f"{stated}."
    lead = _lead(best, rivals[0])
    if lead.half_width is None:
        return f"{stated}; one seed does not tell whether its lead is luck."
    if lead.excludes_zero:
        ahead = wording.difference(lead, metric)
        return f"{stated}; before the next by {f'{ahead} {metric.unit}'.strip()}."
    return f"{stated}; its lead over the next, {rivals[0].combination.label}, may be luck."


def _lead(best: Entry, other: Entry) -> Estimate:
    """Of the validation, seed by seed, positive where the first is better."""
    gain = best.metric.gain
    return estimate([gain(best.validations[s], other.validations[s]) for s in best.validations])
