"""What a measurement leaves behind: one JSON file each, all that the page of `bench` reads.

Never imports torch. Three kinds of file lie side by side in a folder: `Comparison` (a row of the
table), `Crossover` (a ratio over sequence lengths) and `Growth` (cost over sequence lengths).
A measurement made again replaces its file.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from treering._errors import UserError
from treering.bench import statistics
from treering.records import utc_now, write_atomically

SCHEMA_VERSION = 1
NOISY = 0.15
"""Quartiles of a ratio further apart than this share of its median: the row says so."""

Mode = Literal["train", "infer", "step"]
Outputs = Literal["all", "last"]
Input = Literal["normal", "parity"]
Status = Literal["measured", "disagrees", "skipped"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Machine(_Part):
    """Where and with what it was measured."""

    python: str
    torch: str
    treering: str
    commit: str | None
    """Of the checkout, with `+` where files differed from it; None outside one."""
    platform: str
    processor: str
    native: str
    """Which compiled kernels were there."""
    threads: PositiveInt
    """Of PyTorch and of peers alike."""
    load: NonNegativeFloat
    """Of the machine over the minute before, by its own count of busy processes."""


class Case(_Part):
    """What runs. Outputs at `time` tokens of `batch` sequences, or the last only."""

    layer: str
    mode: Mode
    """`train`: forward, and gradients of the weights and of an input that is not one-hot, from a
    given gradient of the outputs. `step`: `time` tokens one by one, the state carried on."""
    outputs: Outputs = "all"
    batch: PositiveInt
    time: PositiveInt
    input_size: PositiveInt
    hidden_size: PositiveInt
    dtype: Literal["float32", "bfloat16"] = "float32"
    input: Input = "normal"
    """`parity`: one-hot symbols of the task parity_check, which need no gradient."""
    schedule: Literal["default", "left"] = "default"


class Agreement(_Part):
    """Numbers compared before anything was timed."""

    against: str
    error: NonNegativeFloat
    """Largest over all tensors of |difference| / |expected|, both Euclidean norms."""
    worst: str
    """The tensor that has it."""
    bound: PositiveFloat
    tensors: PositiveInt

    @property
    def holds(self) -> bool:
        return self.error <= self.bound


class Middle(_Part):
    """A median with its quartiles."""

    median: NonNegativeFloat
    low: NonNegativeFloat
    high: NonNegativeFloat

    @classmethod
    def of(cls, values: Sequence[float]) -> "Middle":
        return cls(**statistics.spread(values)._asdict())

    @property
    def noisy(self) -> bool:
        return statistics.Spread(self.median, self.low, self.high).relative > NOISY


class _Measurement(_Part):
    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    created: str = Field(default_factory=utc_now)
    command: str
    budget: str
    machine: Machine

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `<name>.json` into the folder, whole or not at all; return its path."""
        path = Path(folder) / f"{self.name}.json"
        write_atomically(path, self.model_dump_json(indent=1).encode() + b"\n")
        return path


class Comparison(_Measurement):
    """One row of the table: ours beside a peer's, in pairs."""

    kind: Literal["comparison"] = "comparison"
    place: NonNegativeInt = 0
    """In the table."""
    group: str
    """The row of the table of targets that this belongs to."""
    case: Case
    peer: str
    """In words: which library, which function of it."""
    peer_version: str | None = None
    quantity: Literal["time", "memory", "rate"]
    """`memory`: bytes at the peak above those before the call. `rate`: time of as many operations
    in the best matrix product, so that the ratio is the fraction of its rate."""
    target: PositiveFloat
    status: Status
    reason: str = ""
    """Why it was not measured."""
    note: str = ""
    agreements: list[Agreement] = []
    ran: str = ""
    """Schedule and kernel of ours, in words."""
    pairs: NonNegativeInt = 0
    ours: Middle | None = None
    theirs: Middle | None = None
    ratio: Middle | None = None
    """Of pairs, theirs over ours."""
    operations: PositiveInt | None = None
    """Multiplications and additions of the matrix products of ours, each counted."""

    @property
    def rate(self) -> float | None:
        """Operations per second of ours."""
        if self.operations is None or self.ours is None or self.quantity == "memory":
            return None
        return self.operations / self.ours.median

    @property
    def verdict(self) -> str:
        """`reached`, `missed`, or why there is none; with a word on a large spread."""
        if self.ratio is None:
            return self.status
        word = "reached" if self.ratio.median >= self.target else "missed"
        if self.ratio.low < self.target <= self.ratio.high:
            return f"{word}, within the spread"
        return f"{word}, noisy" if self.ratio.noisy else word


class RatioAt(_Part):
    """One length of a crossover."""

    time: PositiveInt
    ours: Middle
    theirs: Middle
    ratio: Middle


class Crossover(_Measurement):
    """The tree beside a loop, over lengths, at one batch and width."""

    kind: Literal["crossover"] = "crossover"
    case: Case
    """At its largest length."""
    peer: str
    points: list[RatioAt] = []
    status: Status = "measured"
    reason: str = ""

    @property
    def crossing(self) -> float | None:
        """The length from which on ours takes no longer; None if there is none."""
        return statistics.crossing(
            [point.time for point in self.points], [point.ratio.median for point in self.points]
        )


class CostAt(_Part):
    """One length of a growth curve, measured in a process of its own."""

    time: PositiveInt
    seconds: Middle
    calls: PositiveInt
    peak_bytes: NonNegativeInt
    """Above those before the call."""


class Growth(_Measurement):
    """Time and memory of one layer over lengths."""

    kind: Literal["growth"] = "growth"
    case: Case
    """At its largest length."""
    ran: str = ""
    points: list[CostAt] = []
    reason: str = ""
    """Why it ends before the largest length; empty if it does not."""

    @property
    def time_exponent(self) -> float | None:
        return statistics.exponent(
            [point.time for point in self.points], [point.seconds.median for point in self.points]
        )

    @property
    def memory_exponent(self) -> float | None:
        return statistics.exponent(
            [point.time for point in self.points], [point.peak_bytes for point in self.points]
        )


Measurement = Comparison | Crossover | Growth
AnyMeasurement = Annotated[Measurement, Field(discriminator="kind")]
"""As a field of another record."""
_ANY: TypeAdapter[Measurement] = TypeAdapter(AnyMeasurement)


def read(folder: str | os.PathLike[str]) -> list[Measurement]:
    """All measurements in a folder, by name; none if there is no such folder.

    Errors: UserError for a file that is damaged or of another version, with its path.
    """
    return [_load(path) for path in sorted(Path(folder).glob("*.json"))]


def _load(path: Path) -> Measurement:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has measurement schema {version!r}, this treering reads schema "
                f"{SCHEMA_VERSION}; remove the file or choose another folder"
            )
        return _ANY.validate_python(content)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path} is a damaged measurement: {where}: {problem['msg']}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or not a measurement: {error}") from None
