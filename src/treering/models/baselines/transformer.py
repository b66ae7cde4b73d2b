"""A transformer encoder, by torch.nn's own layers.

Legend: B batch, T time, I input, W width.
"""

import math
from typing import Any, Self, final

import torch
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
        self.encoder = nn.ModuleList(_layer(width, heads, dropout) for _ in range(num_layers))
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
        # Time first: batch first, nn's layers leave for inference kernels that write down the
        # attention of all positions at once, gigabytes for a test on long sequences.
        e = e.transpose(0, 1)
        for layer in self.encoder:
            e = layer(e, src_key_padding_mask=padding)
        y = e.transpose(0, 1)
        return y if padding is None else y.masked_fill(padding.unsqueeze(-1), 0), None

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


def _layer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(width, heads, WIDENING * width, dropout)
    # nn has dropout in two more places than the benchmark: on the attention, and inside U and V.
    layer.self_attn.dropout = 0.0
    layer.dropout.p = 0.0
    attention = layer.self_attn
    assert attention.in_proj_weight is not None
    initialise(attention.in_proj_weight, attention.in_proj_bias, width)
    for linear in (attention.out_proj, layer.linear1, layer.linear2):
        initialise(linear.weight, linear.bias, linear.in_features)
    return layer
