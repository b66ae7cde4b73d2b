"""The formula of operations against PyTorch's own counter on the reference schedule."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import treering as tr
from treering.bench.cost import operations
from treering.bench.peers.treering_itself import EAGER
from treering.bench.problem import make
from treering.bench.record import Case
from treering.dispatch import use_kernels

SIZES: dict[str, Any] = {"batch": 3, "time": 11, "input_size": 4, "hidden_size": 6}


def counted(case: Case) -> int:
    """By `backward`, because the counter cannot look into torch.autograd.grad."""
    problem = make(case)
    x = problem.x.requires_grad_(problem.differentiable_input)
    with use_kernels("reference"), FlopCounterMode(display=False) as counter:
        with torch.set_grad_enabled(case.mode == "train"):
            y = problem.layer.reduce(x) if case.outputs == "last" else problem.layer(x)[0]
        if case.mode == "train":
            y.backward(problem.dy)
    return counter.get_total_flops()


@pytest.mark.parametrize("layer", tr.layers.names())
def test_inference(layer: str):
    case = Case(layer=layer, mode="infer", **SIZES)
    assert operations(make(case)) == counted(case)


@pytest.mark.parametrize("layer", ["lstm", "gru", "pr-lstm", "min-gru"])
def test_training_has_two_more_products_for_each(layer: str):
    """But one: nothing is wanted of the zero state before the first token."""
    case = Case(layer=layer, mode="train", **SIZES)
    cell = tr.layers.get(layer)(4, 6).cell
    of_first = [s.shape for n, s in cell.parameters(4).items() if len(s.shape) == 2 and "_hh" in n]
    unwanted = sum(2 * SIZES["batch"] * rows * columns for rows, columns in of_first)
    assert operations(make(case)) - unwanted == counted(case)


def test_one_hot_input_wants_no_gradient():
    sizes: dict[str, Any] = {**SIZES, "input_size": 2}
    for outputs in ("all", "last"):
        case = Case(layer="pr-lstm", mode="train", outputs=outputs, input="parity", **sizes)
        assert operations(make(case)) == counted(case)


def test_reduce_merges_once_for_each_token_but_the_first():
    case = Case(layer="pr-lstm", mode="infer", outputs="last", **SIZES)
    B, T, I, H = SIZES.values()  # noqa: E741
    leaf, merge = 2 * B * T * 3 * H * I, 2 * B * (T - 1) * (5 * H * 2 * H + 4 * H * H)
    assert operations(make(case)) == leaf + merge


def test_gradients_of_the_case_are_what_is_counted():
    problem = make(Case(layer="lstm", mode="train", **SIZES))
    results = EAGER.prepare(problem).results
    assert results is not None
    assert set(results()) == {"output", "input", *problem.layer.state_dict()}
    assert torch.isfinite(results()["input"]).all()
