"""What a layer's documentation says it costs, counted by PyTorch's own counter.

Legend: T time, B batch, I input, H hidden, R refinements.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import treering as tr
from conformance.cases import Case
from conformance.features.feature import feature, merging
from conformance.observe import floats, fresh
from schedules.test_tree_cost import merges
from treering.layers import Recurrent

THEME = "Cost"
T, B, I, H, R = 7, 2, 3, 5, 1  # noqa: E741  (the letters of the formulas)

PER_TOKEN: dict[str, tuple[str, int]] = {
    "rnn": ("I*H + H*H", I * H + H * H),
    "gru": ("3 (I*H + H*H)", 3 * (I * H + H * H)),
    "lstm": ("4 (I*H + H*H)", 4 * (I * H + H * H)),
    "ql-lstm": ("`shared_blocks` (I*H + H*H)", 2 * (I * H + H * H)),
    "ql-gru": ("`shared_blocks` (I*H + H*H)", 2 * (I * H + H * H)),
    "ql-rnn": ("`shared_blocks` (I*H + H*H)", I * H + H * H),
    "nonlinear-gate-lstm": ("(4 + n) (I*H + H*H)", 8 * (I * H + H * H)),
    "min-gru": ("2 I*H", 2 * I * H),
    "min-lstm": ("3 I*H", 3 * I * H),
}
PER_LEAF_AND_MERGE: dict[str, tuple[str, int, int]] = {
    "pr-lstm": ("(10 + 4R) H*H", 3 * I * H, (10 + 4 * R) * H * H),
    "pr-rnn": ("(2 + R) H*H", I * H, (2 + R) * H * H),
}


def operations(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def promised(layer: Recurrent, outputs: str) -> int:
    """Operations for one call on T tokens of B sequences, two a multiply-add."""
    text = layer.cell_type.__doc__ or ""
    if merging(type(layer)):
        formula, leaf, merge = PER_LEAF_AND_MERGE[layer.name]
        assert f"Cost: {formula} multiply-adds a merge" in text
        return 2 * B * (T * leaf + sum(merges(T, outputs, tr.Tree()).merged) * merge)
    formula, token = PER_TOKEN[layer.name]
    assert f"Cost: {formula} multiply-adds a token" in text
    return 2 * B * T * token


@feature(THEME, "`FlopCounterMode` counts what the documentation says, in every dtype")
def forward(case: Case) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = tr.layers.get(case.name)(I, H, dtype=dtype)
        x = torch.randn(T, B, I, dtype=dtype)
        assert operations(lambda x=x, layer=layer: layer(x)) == promised(layer, "all")
        assert operations(lambda x=x, layer=layer: layer.reduce(x)) == promised(layer, "last")


@feature(THEME, "the backward pass counts twice the forward")
def backward(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        layer = tr.layers.get(case.name)(I, H, dtype=dtype)
        x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
        state = fresh(layer(x)[1])
        found = []
        once = operations(lambda c=(layer, x, state, found): c[3].append(c[0](c[1], c[2])))
        y, last = found[0]
        total = y.sum() + torch.stack([field.sum() for field in floats(last)]).sum()
        assert operations(total.backward) == 2 * once
