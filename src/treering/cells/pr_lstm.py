"""PR-LSTM: an LSTM-like merge of the states of two adjacent spans.

Legend: I input, H hidden; `...` any leading axes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering._types import Hidden, HiddenCell, State, Weights
from treering.cells.abstract import MergeCell, ParameterSpec, product

LEAF_GATES = ("i", "g", "o")
MERGE_GATES = ("i", "g", "o", "f_left", "f_right")
STATE_FIELDS = ("h", "c")
MERGINGS = ("gated", "sum", "linear")
REFINE_GATES = ("i", "g", "o", "f")


def check_refinements(refinements: int) -> None:
    """Refuse a number of refinement steps that is no number of steps."""
    if isinstance(refinements, bool) or not isinstance(refinements, int) or refinements < 0:
        raise UserError(f"refinements must be an integer of at least 0, got {refinements!r}")


def initialise_by_fan_in(weights: Weights) -> None:
    """Matrices from a normal of standard deviation 1/sqrt(fan in) cut at two deviations; biases 0.

    This is what the PR-LSTM authors' code starts from.
    """
    for weight in weights.values():
        if weight.dim() == 2:
            std = weight.shape[1] ** -0.5
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        else:
            nn.init.zeros_(weight)


@final
@dataclass(frozen=True)
class PRLSTMCell(MergeCell):
    """Parallel recursive LSTM: token states are merged pairwise over a tree.

        leaf:    i, g, o = W_leaf x + b
                 c = sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(c)
        merge:   i, g, o, f_l, f_r = W_merge [h_l; h_r] + b
                 c = sigmoid(i) * tanh(g) + sigmoid(f_l) * c_l + sigmoid(f_r) * c_r
                 h = sigmoid(o) * tanh(c)
        refine:  i, g, o, f = W_refine{r} h + b             (R times after each merge)
                 c = sigmoid(i) * tanh(g) + sigmoid(f) * c;  h = sigmoid(o) * tanh(c)

    `merging` is for ablations, which ask what the gates of the merge do. The refinements follow in
    any case, so with refinements=0 the states of "sum" and "linear" are linear in the leaves'.

        sum:     h, c = h_l + h_r, c_l + c_r
        linear:  h = W_h [h_l; h_r] + b_h;  c = W_c [c_l; c_r] + b_c    (W_merge is W_h over W_c)

    One set of weights serves all levels of the tree. Not the Tree-LSTM over parse trees of
    Tai et al.: the tree here is a fixed bracketing of the sequence, unless the schedule takes one
    that is given.

    Cost: (10 + 4R) H*H multiply-adds a merge (linear: 4 + 4R; sum: 4R), T-1 merges for the last
    state and about 2T for all positions, in about log2 T (2 log2 T) rounds that each run over the
    whole batch.
    When not to use it: on short sequences on one core, where an LSTM does a third of the work.
    Source: arXiv 2605.17108 and what is publicly documented of the authors' code: brackets,
    initial values and parameter counts agree with theirs. The mergings other than "gated" are our
    addition.
    """

    refinements: int = 1
    merging: Literal["gated", "sum", "linear"] = "gated"

    state_type: ClassVar[type[Hidden] | type[HiddenCell]] = HiddenCell

    def __post_init__(self) -> None:
        check_refinements(self.refinements)
        if self.merging not in MERGINGS:
            raise UserError(f"merging must be one of {', '.join(MERGINGS)}, got {self.merging!r}")

    def parameters(self, input_size: int) -> dict[str, ParameterSpec]:
        H = self.hidden_size
        maps: dict[str, tuple[int, tuple[str, ...]]] = {"leaf": (input_size, LEAF_GATES)}
        if self.merging != "sum":
            maps["merge"] = (2 * H, MERGE_GATES if self.merging == "gated" else STATE_FIELDS)
        maps |= {f"refine{r}": (H, REFINE_GATES) for r in range(self.refinements)}
        specs = {}
        for name, (width, gates) in maps.items():
            specs[f"weight_{name}"] = ParameterSpec((len(gates) * H, width), gates)
            if self.bias:
                specs[f"bias_{name}"] = ParameterSpec((len(gates) * H,), gates)
        return specs

    def initialise(self, weights: Weights) -> None:
        initialise_by_fan_in(weights)

    def leaf(self, weights: Weights, x: Tensor) -> HiddenCell:
        gates = product(x, weights["weight_leaf"], weights.get("bias_leaf"))
        i, g, o = gates.chunk(3, dim=-1)
        c = torch.sigmoid(i) * torch.tanh(g)
        return HiddenCell(torch.sigmoid(o) * torch.tanh(c), c)

    def merge(self, weights: Weights, left: State, right: State) -> HiddenCell:
        merged = {"gated": self._gated, "sum": self._sum, "linear": self._linear}
        h, c = merged[self.merging](weights, left, right)
        for r in range(self.refinements):
            gates = product(h, weights[f"weight_refine{r}"], weights.get(f"bias_refine{r}"))
            i, g, o, f = gates.chunk(4, dim=-1)
            c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), torch.tanh(g))
            h = torch.sigmoid(o) * torch.tanh(c)
        return HiddenCell(h, c)

    def _gated(self, weights: Weights, left: State, right: State) -> State:
        h_l, c_l = left
        h_r, c_r = right
        pair = torch.cat((h_l, h_r), dim=-1)
        gates = product(pair, weights["weight_merge"], weights.get("bias_merge"))
        i, g, o, f_l, f_r = gates.chunk(5, dim=-1)
        kept = torch.addcmul(torch.sigmoid(f_l) * c_l, torch.sigmoid(f_r), c_r)
        c = torch.addcmul(kept, torch.sigmoid(i), torch.tanh(g))
        return torch.sigmoid(o) * torch.tanh(c), c

    def _sum(self, weights: Weights, left: State, right: State) -> State:
        del weights
        return left[0] + right[0], left[1] + right[1]

    def _linear(self, weights: Weights, left: State, right: State) -> State:
        W_h, W_c = weights["weight_merge"].chunk(2)
        b_h, b_c = weights["bias_merge"].chunk(2) if self.bias else (None, None)
        h_pair, c_pair = (torch.cat(pair, dim=-1) for pair in zip(left, right, strict=True))
        return product(h_pair, W_h, b_h), product(c_pair, W_c, b_c)
