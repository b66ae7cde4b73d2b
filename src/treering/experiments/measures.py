"""Numbers that an inspection of a run comes to, by which runs are compared seed by seed."""

import math
from collections.abc import Callable

from treering.inspect.record import Gradient, Inspection

Measure = Callable[[Inspection], float | None]
"""None where the run does not have it."""

SMALLEST = 1e-12
"""A gradient's share below which it counts as this: its logarithm must stay a number."""


def gradient_reach(inspection: Inspection) -> float | None:
    """log10 of the gradient at the earliest tokens over that at the last one.

    Medians over sequences of the norm of d loss / d x_t; the earliest tokens are the quarter of
    the measured distances that is farthest away.
    """
    for gradient in inspection.gradients:
        if gradient.of == "input" and gradient.order == "text":
            return _reach(gradient)
    return None


def _reach(gradient: Gradient) -> float:
    medians = gradient.curve.median
    far = medians[-max(len(medians) // 4, 1) :]
    near = medians[0]
    share = sum(far) / len(far) / near if near else 0.0
    return math.log10(max(share, SMALLEST))


def similarity_at(distance: int) -> Measure:
    """Median cosine of two states so many tokens apart, of the first layer."""

    def measure(inspection: Inspection) -> float | None:
        for similarity in inspection.similarity[:1]:
            places = dict(zip(similarity.curve.at, similarity.curve.median, strict=True))
            return places.get(distance)
        return None

    return measure


def gate_mean(name: str) -> Measure:
    """Mean of a gate over tokens and channels, of the first layer that has it."""

    def measure(inspection: Inspection) -> float | None:
        return next((gate.mean for gate in inspection.gates if gate.name == name), None)

    return measure


def gate_saturation(name: str) -> Measure:
    """Share of a gate's values that are below 0.05 or above 0.95."""

    def measure(inspection: Inspection) -> float | None:
        found = (g.closed + g.opened for g in inspection.gates if g.name == name)
        return next(found, None)

    return measure


def probed_beyond(target: str) -> Measure:
    """Accuracy of a linear probe for an automaton's state, at prefixes longer than fitted to."""

    def measure(inspection: Inspection) -> float | None:
        return next((probe.beyond for probe in inspection.probes if probe.target == target), None)

    return measure


def alike(other: str) -> Measure:
    """Linear CKA of the run's states with those of another layer's run of the same seed."""

    def measure(inspection: Inspection) -> float | None:
        return next((a.cka for a in inspection.alignments if a.other == other), None)

    return measure
