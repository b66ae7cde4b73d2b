"""A transformer encoder over PyTorch's fused attention.

Legend: B batch, T time, I input, W width.
"""

import math
from typing import Any, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treering._errors import UserError
from treering.models.baselines.abstract import Baseline, check_sizes, initialise, past_end

WIDENING = 4
EMBEDDING_STD = 0.02
SLOWEST = 10_000.0
"""Wavelength of the slowest position, over 2 pi."""


@final
class TransformerEncoder(Baseline):
    """Transformer encoder: self-attention in which every position sees all of the sequence.

        e = dropout(sqrt(W) * E x + p)
        p = [sin(r f), cos(r f)],  f_k = 10000^(-2k/W),  r = the tokens from here to the end
        each layer: a = norm(e + dropout(attention(e)));  e = norm(a + dropout(V relu(U a)))

    U widens four times. Positions are counted from the end, so that the last tokens, at which a
    Transducer is read, have the same ones at every length.

    Sizes are the benchmark's and its own: `width` is not a run's `hidden_size`, which recurrent
    layers have. `input_length` means nothing to it. It has no state.

    Cost: 12 W*W + 2 T*W multiply-adds a token and layer.
    When not to use it: for anything causal, such as language modelling.
    Source: Vaswani et al. 2017, as the benchmark of Deletang et al. (ICLR 2023) has it; here the
    attention's maps have biases, which start at 0, and dropout ends with training.
    """

    relu_before_head = False

    def __init__(
        self,
        input_size: int,
        *,
        width: int = 64,
        num_layers: int = 5,
        heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size, width=width, num_layers=num_layers, heads=heads)
        if width % heads or width % 2:
            raise UserError(
                f"width must be even and a multiple of heads, got width={width}, heads={heads}"
            )
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {dropout}")
        self.input_size = input_size
        self.hidden_size = width
        self.num_layers = num_layers
        self.embedding = nn.Linear(input_size, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(num_layers))
        std = EMBEDDING_STD
        nn.init.trunc_normal_(self.embedding.weight, std=std, a=-2 * std, b=2 * std)

    @classmethod
    def of_sizes(cls, input_size: int, hidden_size: int, **options: Any) -> Self:
        del hidden_size
        return cls(input_size, **options)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        *,
        input_length: int | None = None,
    ) -> tuple[Tensor, None]:
        if state is not None:
            raise UserError("a TransformerEncoder has no state to go on with; give it all of x")
        x, lengths = self._checked(x, lengths)
        e = self.embedding(x) * math.sqrt(self.hidden_size)
        e = self.dropout(e + self._positions(e, lengths))
        padding = None if lengths is None else past_end(x.shape[1], lengths)
        seen = None if padding is None else ~padding[:, None, None]
        for layer in self.encoder:
            e = layer(e, seen)
        return e if padding is None else e.masked_fill(padding.unsqueeze(-1), 0), None

    def reduce(
        self, x: Tensor, lengths: Tensor | None = None, *, input_length: int | None = None
    ) -> Tensor:
        y, _ = self(x, lengths=lengths)
        return y[:, -1] if lengths is None else y[torch.arange(len(y)), lengths.to(y.device) - 1]

    def _positions(self, e: Tensor, lengths: Tensor | None) -> Tensor:
        """(T, W), or (B, T, W) for sequences of different lengths."""
        T, W = e.shape[1:]
        k = torch.arange(0, W, 2, dtype=e.dtype, device=e.device)
        left = T if lengths is None else lengths.unsqueeze(1)
        angles = (left - torch.arange(T, device=e.device)).unsqueeze(-1) * SLOWEST ** (-k / W)
        return torch.cat((angles.sin(), angles.cos()), -1)


class _Layer(nn.Module):
    """One layer, batch first.

    nn.TransformerEncoderLayer has dropout in two more places than the benchmark, hands over heads
    that lie between each other in memory, on which fused attention takes twice as long on a CPU,
    and without gradients writes down the attention of all positions at once.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, WIDENING * width)
        self.linear2 = nn.Linear(WIDENING * width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.in_proj, self.out_proj, self.linear1, self.linear2):
            initialise(linear.weight, linear.bias, linear.in_features)

    def forward(self, e: Tensor, seen: Tensor | None) -> Tensor:
        """e: (B, T, W); seen: (B, 1, 1, T) bool, False where no token is."""
        a = self.norm1(e + self.dropout(self._attention(e, seen)))
        return self.norm2(a + self.dropout(self.linear2(F.relu(self.linear1(a)))))

    def _attention(self, e: Tensor, seen: Tensor | None) -> Tensor:
        by_head = self.in_proj(e).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = by_head.contiguous()
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))
