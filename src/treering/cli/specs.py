"""How a layer is written on the command line: `name[:option=value]...[+tree-order][+lp[...]]`."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from treering import layers
from treering._errors import UserError, nearest
from treering.layers import Recurrent, Reordered
from treering.penalties import LpPenalty
from treering.schedules.abstract import Schedule
from treering.schedules.scan import Scan
from treering.schedules.sequential import Sequential
from treering.schedules.tree import Tree

COMMON = ("num_layers", "bias", "dropout", "bidirectional")
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "sequential": Sequential,
    "scan": Scan,
    "tree": Tree,
    "left": lambda: Tree("left"),
    "random": lambda: Tree("random"),
}
PARTS = {"tree-order": (), "lp": ("weights", "exponents", "learned")}


@dataclass(frozen=True)
class LayerSpec:
    """A layer with its options, and what is put around it.

    `lstm`, `ql-lstm:shared_blocks=1:alpha=0.2`, `pr-lstm:schedule=left`, `lstm+tree-order`,
    `lstm+lp:weights=1e-5:exponents=0.5`, `gru:bidirectional=true+tree-order+lp`.
    """

    text: str
    name: str
    options: tuple[tuple[str, Any], ...]
    tree_order: bool
    lp: tuple[tuple[str, Any], ...] | None

    @classmethod
    def parse(cls, text: str) -> "LayerSpec":
        """Read a specification; UserError, with the nearest names, for anything unknown."""
        base, *parts = text.strip().split("+")
        name, *pairs = base.split(":")
        known = [*COMMON, "schedule", *layers.get(name).cell_options()]
        options = tuple(_pair(pair, known, f"option of {name}", text) for pair in pairs)
        extras: dict[str, tuple[tuple[str, Any], ...]] = {}
        for part in parts:
            kind, *pairs = part.split(":")
            if kind not in PARTS:
                raise UserError(f"{nearest(kind, PARTS, 'addition')} (in {text!r})")
            extras[kind] = tuple(_pair(p, PARTS[kind], f"option of {kind}", text) for p in pairs)
        return cls(text.strip(), name, options, "tree-order" in extras, extras.get("lp"))

    def build(
        self, input_size: int, hidden_size: int
    ) -> tuple[Recurrent | Reordered, list[Callable[[], Tensor]]]:
        """The layer, batch first, and the penalties that belong to the loss."""
        options = dict(self.options)
        schedule = options.pop("schedule", None)
        if schedule is not None and schedule not in SCHEDULES:
            raise UserError(nearest(str(schedule), SCHEDULES, "schedule"))
        try:
            layer = layers.get(self.name)(
                input_size,
                hidden_size,
                batch_first=True,
                schedule=SCHEDULES[schedule]() if schedule else None,
                **options,
            )
        except TypeError as error:
            raise UserError(f"{self.text}: {error}") from None
        penalties = [] if self.lp is None else [LpPenalty(layer, **dict(self.lp))]
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


def _pair(pair: str, known: Any, kind: str, text: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if key not in known:
        raise UserError(f"{nearest(key, known, kind)} (in {text!r})")
    if not equals or not value:
        raise UserError(f"{pair!r} in {text!r} has no value; write {key}=VALUE")
    return key, _value(value)


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
