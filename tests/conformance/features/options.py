"""Options of layers made of gates, each held to its definition in `cells/test_regularised.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import treering as tr
from cells import test_regularised as defined
from conformance.cases import Case
from conformance.features.feature import Refused, feature, without_step_options

THEME = "Options"
NONE = Refused(
    without_step_options,
    "unknown option of",
    "an option of recurrent gates: merges, and gates that read the input alone, have none",
)


@contextmanager
def double() -> Iterator[None]:
    """What the definitions are written for: float64 throughout."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)


def build(case: Case, **options: Any) -> None:
    """Raises as a user would see it where the option does not exist."""
    tr.layers.get(case.name)(2, 3, **options)


@feature(THEME, "layer norm", NONE)
def layer_norm(case: Case) -> None:
    build(case, layer_norm=True)
    with double():
        defined.TestLayerNorm().test_scaling_both_matrices_changes_nothing(case.name)
        defined.TestLayerNorm().test_gains_start_at_one(case.name)


@feature(THEME, "recurrent dropout, one mask for all steps", NONE)
def recurrent_dropout(case: Case) -> None:
    build(case, recurrent_dropout=0.5)
    with double():
        defined.TestRecurrentDropout().test_one_mask_for_all_steps(case.name)


@feature(THEME, "zoneout", NONE)
def zoneout(case: Case) -> None:
    build(case, zoneout=0.5)
    with double():
        defined.TestZoneout().test_masked_entries_keep_their_value(case.name)
        defined.TestZoneout().test_evaluation_mixes_in_the_same_proportion(case.name)


@feature(THEME, "DropConnect on the recurrent matrices", NONE)
def weight_dropout(case: Case) -> None:
    build(case, weight_dropout=0.5)
    with double():
        defined.TestWeightDropout().test_the_matrices_that_h_enters_are_masked_once_a_call(
            case.name
        )


def without_forget_gate(layer: type[tr.layers.Recurrent]) -> bool:
    return not without_step_options(layer) and getattr(layer.cell_type, "keep_gate", 0) is None


@feature(
    THEME,
    "starting value of the forget gate's bias",
    NONE,
    Refused(without_forget_gate, "needs a gate that keeps the state", "it has no forget gate"),
)
def forget_bias(case: Case) -> None:
    build(case, forget_bias=1.0)
    with double():
        defined.TestStartingValues().test_forget_bias(case.name)


@feature(THEME, "orthogonal start of the recurrent matrices", NONE)
def orthogonal(case: Case) -> None:
    build(case, orthogonal=True)
    with double():
        defined.TestStartingValues().test_orthogonal(case.name)
