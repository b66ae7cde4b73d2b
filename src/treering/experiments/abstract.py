"""What an experiment is: which runs, on which budget, and which claims they decide.

Data and judgement only. Runs are made by the command line; nothing here needs torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from treering.experiments.measures import Measure
from treering.experiments.outcome import Outcome

Budget = Literal["smoke", "cpu", "paper"]
"""`smoke`: does it run. `cpu`: two cores, at most two hours. `paper`: the published settings."""
Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
"""`undecided`: what was measured allows the claim and its opposite."""

OPEN = "open"
"""Stands for the published figure where a claim is a question that nobody has answered."""

Option = str | int | float


@dataclass(frozen=True)
class Grid:
    """Layers on one task with the same options: every layer is trained with every seed."""

    task: str
    """As the command line names it."""
    layers: tuple[str, ...]
    """Specifications, as the command line writes them."""
    seeds: int
    options: Mapping[str, Option] = field(default_factory=dict)
    """Of `treering train`, by name; what is left out is the task's preset."""
    variant: str = ""
    """Tells this grid from others of the same task: `matched parameters`, `500 tokens`."""


class Suggest(Protocol):
    """What a search asks for the next value to try; optuna's Trial is one."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of the range, evenly or by its logarithm."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        ...


@dataclass(frozen=True)
class Search:
    """Options to be searched: the best on validation are then trained with every seed."""

    task: str
    name: str
    """What the row is called in place of the layer."""
    draw: Callable[[Suggest], tuple[str, Mapping[str, Option]]]
    """From values that are suggested to a layer's specification and options of `treering train`."""
    trials: int
    seeds: int
    variant: str = ""


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim."""

    verdict: Verdict
    ours: str
    """The figure measured, with its interval, in a table's few words."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, or an open question, and how an outcome decides it."""

    text: str
    published: str
    """The figure, or what is known of it, or OPEN."""
    judge: Callable[[Outcome], Finding]
    where: str = ""
    """What tells it from the experiment's other claims of the same text: the task, the length."""

    @property
    def told(self) -> str:
        """The text with what tells it from others."""
        return f"{self.text} ({self.where})" if self.where else self.text


@dataclass(frozen=True)
class Experiment:
    """Runs that decide some claims together."""

    name: str
    """`paper/what`: the word for `treering reproduce`."""
    title: str
    source: str
    claims: tuple[Claim, ...]
    cpu: tuple[Grid, ...]
    paper: tuple[Grid, ...]
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """What inspections of the runs are asked, by name."""
    searches: Mapping[str, tuple[Search, ...]] = field(default_factory=dict)
    """By budget; those of `smoke` are `cpu`'s with two trials."""
    benches: tuple[str, ...] = ()
    """Names or patterns of `treering bench`, measured as well."""
    reading: str = ""
    """What the paper leaves open and we chose."""
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Scores the paper prints, by task and layer, to stand beside ours."""

    def grids(self, budget: Budget) -> tuple[Grid, ...]:
        """The runs of a budget; those of `smoke` are `cpu`'s with one seed."""
        if budget == "smoke":
            return tuple(replace(grid, seeds=1) for grid in self.cpu)
        return self.paper if budget == "paper" else self.cpu

    def searches_of(self, budget: Budget) -> tuple[Search, ...]:
        """The searches of a budget."""
        if budget == "smoke":
            cpu = self.searches.get("cpu", ())
            return tuple(replace(search, trials=2, seeds=1) for search in cpu)
        return self.searches.get(budget, ())


def over(
    tasks: Iterable[str], layers: tuple[str, ...], seeds: int, **options: Option
) -> list[Grid]:
    """The same layers and options on several tasks."""
    return [Grid(task, layers, seeds, options) for task in tasks]
