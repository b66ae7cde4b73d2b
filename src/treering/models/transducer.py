"""The formal-language benchmark's model: one-hot symbols in, classes out.

Legend: B batch, T time, M output length, C classes, S input symbols, H hidden.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from treering.models.baselines import Baseline
from treering.models.causal import refuse_trees
from treering.models.layer import Layer


class Transducer(nn.Module):
    """One-hot symbols -> recurrent layer -> relu -> linear, read at the last M positions.

    After the T symbols of the input come M empty tokens (one more input channel), so that the
    answer may be longer than the input and is given only when all of it has been read. The
    prediction is what the head says at those M positions. For M = 1 only the last output is
    computed.

    layer: takes inputs of width `symbols + 1`, with `batch_first`; or a baseline of the benchmark,
        which is told T, and before whose head is a relu where the benchmark has one.
    Call: inputs (B, T) int64 symbols -> logits (B, M, C).
    Source: the benchmark of Deletang et al. (ICLR 2023), whose recurrent models are built so.

    Raises:
        UserError: a layer under `Tree("given")`.
    """

    def __init__(self, layer: Layer, symbols: int, classes: int) -> None:
        super().__init__()
        refuse_trees(layer, "a generated task")
        self.symbols = symbols
        self.layer = layer
        self.head = nn.Linear(layer.output_size, classes)

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, output_length: int = 1
    ) -> Tensor:
        if lengths is not None:
            raise ValueError(
                "a Transducer takes inputs of one length; sort them by length and call it for each"
            )
        empty = inputs.new_full((inputs.shape[0], output_length), self.symbols)
        symbols = torch.cat((inputs, empty), dim=1)
        x = F.one_hot(symbols, self.symbols + 1).to(self.head.weight.dtype)
        layer = self.layer
        told: dict[str, Any] = {}
        if isinstance(layer, Baseline):
            told = {"input_length": inputs.shape[1]}
        if output_length == 1:
            y = layer.reduce(x, **told).unsqueeze(1)
        else:
            y = layer(x, **told)[0][:, -output_length:]
        if isinstance(layer, Baseline) and not layer.relu_before_head:
            return self.head(y)
        return self.head(torch.relu(y))
