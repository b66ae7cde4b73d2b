"""How a layer is written on the command line: `name[:option=value]...[+addition[...]]...`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from treering import layers
from treering._errors import UserError, nearest
from treering.cells.regularised import RegularisedCell
from treering.cli.values import ByMatrix, value_of, value_text
from treering.layers import Reordered
from treering.models import baselines
from treering.models.layer import Layer
from treering.penalties import AssociativityInTraining, LpPenalty
from treering.schedules.abstract import Schedule
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.tree import Tree

NOT_OPTIONS = ("hidden_size", "bias")
COMMON = {"num_layers": 1, "bias": True, "dropout": 0.0, "bidirectional": False}
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "sequential": Sequential,
    "scan": Scan,
    "tree": Tree,
    "left": lambda: Tree("left"),
    "random": lambda: Tree("random"),
    "given": lambda: Tree("given"),
    "random-in-training": lambda: Tree(random_in_training=True),
    "varied-in-training": lambda: Tree(random_in_training=0.5, block=2),
}
PARTS: dict[str, dict[str, Any]] = {
    "tree-order": {},
    "lp": {
        "weights": ByMatrix(1e-4),
        "exponents": ByMatrix(2.0),
        "matrices": (),
        "learned": False,
    },
    "associativity": {"weight": 0.1, "sequences": 4},
}
"""What may be put around a layer, in the order in which a specification names it."""

SHARED = tuple(f.name for f in dataclasses.fields(RegularisedCell) if f.name not in NOT_OPTIONS)
"""Options of every cell made of gates and update."""


@dataclass(frozen=True)
class LayerSpec:
    """A layer with its options, and what is put around it.

    `lstm`, `ql-lstm:shared_blocks=1:alpha=0.2`, `pr-lstm:schedule=left`, `lstm+tree-order`,
    `lstm+lp:weights=1e-5:exponents=0.5`, `gru:bidirectional=true+tree-order+lp`,
    `lstm+lp:matrices=U_i/W_f`, `lstm+lp:weights=U_i@1e-5/W_f@1e-4:exponents=U_i@0.5`,
    `pr-lstm+associativity:weight=0.1`. A baseline is written in the same way, without additions:
    `transformer`, `stack-rnn:stack_size=100`.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    tree_order: bool
    lp: tuple[tuple[str, Any], ...] | None
    associativity: tuple[tuple[str, Any], ...] | None = None

    @classmethod
    def parse(cls, text: str) -> "LayerSpec":
        """Read a specification; UserError, with the nearest names, for anything unknown."""
        base, *parts = text.strip().split("+")
        name, *pairs = base.split(":")
        defaults = _defaults(name)
        options = _options(pairs, defaults, f"option of {name}", text)
        extras: dict[str, tuple[tuple[str, Any], ...]] = {}
        for part in parts:
            kind, *pairs = part.split(":")
            if kind not in PARTS:
                raise UserError(f"{nearest(kind, PARTS, 'addition')} (in {text!r})")
            if kind in extras:
                raise UserError(f"{kind} is added twice in {text!r}")
            if name in baselines.names():
                raise UserError(
                    f"{kind} goes with treering's own layers; {name} is a baseline of the"
                    f" formal-language benchmark (in {text!r})"
                )
            extras[kind] = _options(pairs, PARTS[kind], f"option of {kind}", text)
        lp, associativity = extras.get("lp"), extras.get("associativity")
        return cls(name, options, "tree-order" in extras, lp, associativity)

    @property
    def reads_ranks(self) -> bool:
        """Whether the layer merges along trees that come with the data."""
        return dict(self.options).get("schedule") == "given"

    @property
    def text(self) -> str:
        """The specification in its one spelling: equal layers have equal texts, and records."""
        parts = [_spelled(self.name, self.options)]
        if self.tree_order:
            parts.append("tree-order")
        if self.lp is not None:
            parts.append(_spelled("lp", self.lp))
        if self.associativity is not None:
            parts.append(_spelled("associativity", self.associativity))
        return "+".join(parts)

    def build(self, input_size: int, hidden_size: int) -> tuple[Layer, list[Callable[[], Tensor]]]:
        """The layer, batch first, and the penalties that belong to the loss."""
        options = dict(self.options)
        if self.name in baselines.names():
            try:
                return baselines.get(self.name).of_sizes(input_size, hidden_size, **options), []
            except ValueError as error:
                raise UserError(f"{error} (in {self.text!r})") from None
        schedule = options.pop("schedule", None)
        if schedule is not None and schedule not in SCHEDULES:
            raise UserError(f"{nearest(schedule, SCHEDULES, 'schedule')} (in {self.text!r})")
        try:
            layer = layers.get(self.name)(
                input_size,
                hidden_size,
                batch_first=True,
                schedule=SCHEDULES[schedule]() if schedule else None,
                **options,
            )
            penalties: list[Callable[[], Tensor]] = []
            if self.lp is not None:
                penalties.append(LpPenalty(layer, **_by_matrix(dict(self.lp))))
            if self.associativity is not None:
                penalties.append(AssociativityInTraining(layer, **dict(self.associativity)))
        except (TypeError, ValueError) as error:
            raise UserError(f"{error} (in {self.text!r})") from None
        return (Reordered(layer) if self.tree_order else layer), penalties


def parse_list(text: str) -> list[LayerSpec]:
    """Several specifications separated by commas."""
    names = [name for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("no layer given; write for instance --layers lstm,pr-lstm")
    specs = [LayerSpec.parse(name) for name in names]
    texts = [spec.text for spec in specs]
    for repeated in {text for text in texts if texts.count(text) > 1}:
        raise UserError(f"layer {repeated!r} is given twice")
    return specs


def _defaults(name: str) -> dict[str, Any]:
    """Options of a layer or baseline; UserError with the nearest names if it is neither."""
    if name in baselines.names():
        return baselines.get(name).options()
    if name not in layers.names():
        raise UserError(nearest(name, [*layers.names(), *baselines.names()], "layer"))
    return {**COMMON, "schedule": "", **layers.get(name).cell_options()}


def _options(
    pairs: list[str], defaults: dict[str, Any], kind: str, text: str
) -> tuple[tuple[str, Any], ...]:
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in defaults:
            raise UserError(f"{nearest(key, defaults, kind)} (in {text!r})")
        if not equals or not value:
            raise UserError(f"{pair!r} in {text!r} has no value; write {key}=VALUE")
        if key in options:
            raise UserError(f"{key} is given twice in {text!r}")
        options[key] = value_of(key, value, defaults[key], text)
    return tuple(sorted(options.items()))


def _by_matrix(lp: dict[str, Any]) -> dict[str, Any]:
    """Options of the addition lp as LpPenalty takes them."""
    matrices = lp.pop("matrices", ())
    weights = lp.get("weights", PARTS["lp"]["weights"])
    if matrices and isinstance(weights, tuple):
        raise UserError(
            "give lp either matrices, with one weight for all of them, or weights by matrix"
        )
    if matrices:
        lp["weights"] = dict.fromkeys(matrices, weights)
    return {key: dict(value) if isinstance(value, tuple) else value for key, value in lp.items()}


def _spelled(name: str, options: tuple[tuple[str, Any], ...]) -> str:
    return ":".join([name, *(f"{key}={value_text(value)}" for key, value in options)])
