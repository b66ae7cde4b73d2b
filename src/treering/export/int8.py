"""Weights in eight bits: a copy of a module for where memory is short.

Legend: R rows, I columns of a matrix.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from treering._errors import UserError

M = TypeVar("M", bound=nn.Module)

LARGEST = 127


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scale (R, 1) and integers (R, I), `weight ~ scale * integers`: symmetric, row by row.

    The largest entry of each row becomes 127 or -127; an entry is off by at most half a scale.
    """
    scale = weight.abs().amax(dim=1, keepdim=True) / LARGEST
    integers = torch.round(weight / scale.masked_fill(scale == 0, 1)).to(torch.int8)
    return scale, integers


class Int8Matrix(nn.Module):
    """Parametrization of a matrix by `to_int8`; the matrix is made anew at every use of it."""

    def forward(self, scale: Tensor, integers: Tensor) -> Tensor:
        return scale * integers.to(scale.dtype)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return to_int8(weight)


class Int8Embedding(nn.Module):
    """An embedding of which only the rows that are looked up leave the eight bits."""

    scale: Tensor
    integers: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.num_embeddings = embedding.num_embeddings
        self.embedding_dim = embedding.embedding_dim
        self.padding_idx = embedding.padding_idx
        scale, integers = to_int8(embedding.weight.detach())
        self.register_buffer("scale", scale)
        self.register_buffer("integers", integers)

    def forward(self, ids: Tensor) -> Tensor:
        return self.scale[ids] * self.integers[ids].to(self.scale.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


def quantize(module: M) -> M:
    """A copy of `module` whose matrices are int8 with a scale per row; vectors stay as they are.

    Every two-dimensional floating-point parameter becomes `scale * integers` by plain operations,
    so the copy runs wherever PyTorch does: `step`, `state_dict` (load it into the quantized copy
    of an equal module), `tr.export.to_onnx`, torch.compile. It cannot be trained.

    Cost: a quarter of the memory for the matrices. A matrix is multiplied out at every call of
    the module, so sequences hardly feel it and single tokens do; to stream, keep the matrices
    for as long as `torch.nn.utils.parametrize.cached()` is entered.
    When not to use it: for speed. onnxruntime multiplies the matrices out when it loads the file.

    Raises:
        UserError: no matrix to quantize; modules of nn.RNNBase, which keep their weights elsewhere.
    """
    copied = copy.deepcopy(module).requires_grad_(False)
    if isinstance(copied, nn.Embedding):
        return Int8Embedding(copied)  # pyright: ignore[reportReturnType]
    count = 0
    for owner in list(copied.modules()):
        if isinstance(owner, nn.RNNBase):
            kind = type(owner).__name__
            raise UserError(
                f"nn.{kind} hands its weights to an operator that knows no int8; write"
                f" tr.{kind}.from_torch(...) first"
            )
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.Embedding) and child.max_norm is None:
                setattr(owner, name, Int8Embedding(child))
                count += 1
        for name, weight in list(owner.named_parameters(recurse=False)):
            if weight.dim() == 2 and weight.is_floating_point():
                # unsafe: what is stored has another dtype than what is used.
                parametrize.register_parametrization(owner, name, Int8Matrix(), unsafe=True)
                count += 1
    if not count:
        raise UserError(f"{type(module).__name__} has no matrix that could become int8")
    return copied
