"""What an inspection of one run leaves behind: plain numbers, all that its page reads.

Never imports torch. `inspection.json` lies beside the run's record; an inspection made again
replaces it. Curves are thinned to POINTS places, so that the file stays small.
"""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from treering._errors import UserError
from treering.records import utc_now, write_atomically

SCHEMA_VERSION = 1
FILE_NAME = "inspection.json"
POINTS = 48
"""Places of a curve that are kept: more cannot be told apart on a plot."""
BINS = 20
"""Bars of a gate's histogram."""

PARTS = {
    "input gradients": "Gradient of the loss at the layer's inputs",
    "state gradients": "Gradient of the loss at the states",
    "gates": "Gates",
    "similarity": "Similarity of states over distance",
    "spectra": "Recurrent matrices",
    "readings": "What is read and merged",
    "probes": "Linear probes",
    "alignments": "States beside those of other runs",
}
"""Parts of an inspection, in their order, with their titles."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Curve(_Part):
    """Median and quartiles at each place, over all that was measured there."""

    at: tuple[int, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


class Gradient(_Part):
    """Norm of d loss / d something, per sequence, over the distance to the last token."""

    of: str
    """`input`, or a field of the state: `h`, `c`."""
    layer: str
    order: Literal["text", "reading"]
    """Whether the distance counts tokens as they stand or as the layer reads them."""
    curve: Curve


class Gate(_Part):
    """A gate, or a candidate, over all tokens and channels."""

    layer: str
    name: str
    range: tuple[float, float]
    """Of the histogram: 0 to 1 for a gate, -1 to 1 for a candidate."""
    shares: tuple[float, ...]
    """Of all values, in each of BINS equal bins."""
    outside: float
    """Share beyond the range, which is in no bin."""
    mean: float
    closed: float
    """Share below 0.05 (of a candidate, below -0.95)."""
    opened: float
    """Share above 0.95."""
    at: tuple[int, ...]
    by_position: tuple[float, ...]
    """Mean at the positions `at`, counted in the order of reading."""


class Similarity(_Part):
    """Cosine of h_t and h_{t+d}, over the distances d = 1, 2, 4, ... in the order of reading."""

    layer: str
    curve: Curve


class Spectrum(_Part):
    """A matrix that a state is multiplied with, one gate's rows."""

    layer: str
    matrix: str
    gate: str
    operand: str
    """Which state: empty for the only one, `left` and `right` of a merge."""
    rows: PositiveInt
    columns: PositiveInt
    at: tuple[PositiveInt, ...]
    """Which singular values are kept, 1 the largest."""
    singular_values: tuple[float, ...]
    radius: float | None
    """Modulus of the largest eigenvalue; None where the matrix is not square."""


class Node(_Part):
    """A state that a layer computes of one stretch of tokens, in the order of reading."""

    start: NonNegativeInt
    size: PositiveInt
    left: NonNegativeInt | None = None
    right: NonNegativeInt | None = None
    """Numbers of the two nodes merged; None for a single token."""
    norm: float
    change: float
    """Norm of h minus the h it was merged onto (the left operand, the state before); for a first
    token of the state itself."""


class Reading(_Part):
    """One example: its tokens, the order they are read in, and the states made of them."""

    layer: str
    tokens: tuple[str, ...]
    order: tuple[int, ...]
    """order[k]: place of the token read at step k."""
    nodes: tuple[Node, ...]
    """Of a tree: tokens first, in the order of reading, then merges in the order of computation,
    the last one the whole sequence's. Otherwise one for the state after each token read."""
    bracket: Literal["balanced", "left", "random", "given"] | None = None
    """Which tree; None for a layer that merges nothing."""


class Probe(_Part):
    """How well a linear map reads an automaton's state off the layer's at every prefix."""

    target: str
    layer: str
    classes: PositiveInt
    chance: float
    """Accuracy of always answering the state that is commonest in the probe's training part."""
    l2: float
    states: PositiveInt
    """That the probe was fitted to."""
    longest: PositiveInt
    """Longest prefix that the probe was fitted to."""
    at: tuple[int, ...]
    accuracy: tuple[float, ...]
    within: float | None
    """Mean accuracy over prefixes up to `longest`; None if there are none."""
    beyond: float | None
    """Mean accuracy over longer ones; None if there are none."""


class Alignment(_Part):
    """Linear CKA of this run's states with another's on the same inputs."""

    other: str
    """The other run's label."""
    layer: str
    other_layer: str
    cka: float
    tokens: PositiveInt


class Inspection(BaseModel):
    """One run, looked into."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str = Field(default_factory=utc_now)
    command: str
    run_id: str
    label: str
    """The layer's specification, with the seed where several runs would share it."""
    task: str
    kind: Literal["generated", "dataset", "stream"]
    layer: str
    hidden_size: PositiveInt
    seed: int
    status: str
    step: NonNegativeInt
    """Updates made so far."""
    trained_to: PositiveInt | None = None
    """Longest training sequence of a generated task."""
    data: str
    """What it was measured on, in words."""
    samples: PositiveInt
    length: PositiveInt
    """Tokens of the longest sequence, empty ones aside."""
    gradients: tuple[Gradient, ...] = ()
    gates: tuple[Gate, ...] = ()
    similarity: tuple[Similarity, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    readings: tuple[Reading, ...] = ()
    probes: tuple[Probe, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    unavailable: dict[str, str] = {}
    """Names in PARTS that this run does not have, and why."""

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `inspection.json` into a run's folder, whole or not at all.

        Errors: UserError if the folder cannot be written.
        """
        path = Path(folder) / FILE_NAME
        write_atomically(path, self.model_dump_json().encode() + b"\n")
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Errors: UserError if it is not there or damaged."""
        path = Path(folder) / FILE_NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(
                f"cannot read {path}: {error.strerror}; `treering inspect {folder}` writes it"
            ) from None
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the file"
            raise UserError(
                f"{path} is damaged, {where}: {problem['msg']}; `treering inspect {folder}` writes"
                " it again"
            ) from None


def significant(value: float) -> float:
    """Four digits: more would only make files larger."""
    return float(f"{value:.4g}")
