"""PR-RNN: the plain merge of the PR-LSTM paper.

Legend: I input, H hidden; `...` any leading axes.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import MergeCell, ParameterSpec, product
from treering.cells.pr_lstm import check_refinements, initialise_by_fan_in


@final
@dataclass(frozen=True)
class PRRNNCell(MergeCell):
    """Parallel recursive RNN: one relu layer merges the states of two adjacent spans.

        leaf:   h = W_leaf x + b
        merge:  h = relu(W_merge [h_l; h_r] + b), then R times h = relu(W_refine{r} h + b)

    Cost: (2 + R) H*H multiply-adds a merge; T-1 merges for the last state, about 2T for all.
    When not to use it: without a reason to avoid gates; the paper's ablation has it behind
    PR-LSTM.
    Source: arXiv 2605.17108 (the ablation) and what is publicly documented of the authors' code.
    That every refinement has weights of its own, shared by all levels, follows their parameter
    counts.
    """

    refinements: int = 1

    state_type: ClassVar[type[Hidden] | type[HiddenCell]] = Hidden

    def __post_init__(self) -> None:
        check_refinements(self.refinements)

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        shapes = {"leaf": (H, input_size), "merge": (H, 2 * H)}
        shapes |= {f"refine{r}": (H, H) for r in range(self.refinements)}
        specs = {}
        for name, shape in shapes.items():
            specs[f"weight_{name}"] = ParameterSpec(shape, ("h",))
            if self.bias:
                specs[f"bias_{name}"] = ParameterSpec((H,), ("h",))
        return specs

    def initialise(self, weights: Weights) -> None:
        initialise_by_fan_in(weights)

    def leaf(self, weights: Weights, x: Tensor) -> Hidden:
        return Hidden(product(x, weights["weight_leaf"], weights.get("bias_leaf")))

    def merge(self, weights: Weights, left: State, right: State) -> Hidden:
        h = torch.cat((left[0], right[0]), dim=-1)
        h = torch.relu(product(h, weights["weight_merge"], weights.get("bias_merge")))
        for r in range(self.refinements):
            h = torch.relu(product(h, weights[f"weight_refine{r}"], weights.get(f"bias_refine{r}")))
        return Hidden(h)
