"""A layer that reads its tokens in another order and answers in theirs.

Legend: B batch, T time, I input, O output.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from treering._errors import UserError, nearest
from treering._types import Inner, State, map_tensors
from treering.layers.arguments import check_input, choose_state, refuse_lengths, refuse_reorder
from treering.layers.recurrent import Recurrent
from treering.schedules import orders
from treering.unroll import check_lengths

ORDERS = {"tree": orders.batch_order}


class Reordered(nn.Module):
    """Feed a layer's tokens in another order; outputs go back to their tokens' places.

    order="tree": the centre of the sequence first, then the centres of its halves, of the
    quarters, ... (`tr.orders.tree_order`), for each sequence by its own length. Works with every
    layer, any number of layers and directions. The order is applied once, before the first layer.

    Call and shapes are the layer's own. The output at a token now depends on later tokens too,
    so `step` and `reset` are refused. `reduce` returns the output after the last token read.

    Cost: one gather before and one after the layer.
    When not to use it: for anything causal, such as streaming or language modelling.
    Source: arXiv 2509.00087.
    """

    def __init__(self, layer: Recurrent, order: str = "tree") -> None:
        super().__init__()
        if order not in ORDERS:
            raise UserError(nearest(order, ORDERS, "order"))
        if layer.schedule is not None:
            refuse_reorder(layer.schedule, f"order={order!r}")
        self.layer = layer
        self.order = order

    @property
    def output_size(self) -> int:
        """Width of the output, the layer's own."""
        return self.layer.output_size

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: State | Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        *,
        hx: State | Tensor | None = None,
        return_states: bool = False,
    ) -> Any:
        """As the layer's forward; inner states and gates stand at their tokens' places, too."""
        self._refuse_reset(reset)
        state = choose_state(state, hx)
        if isinstance(input, PackedSequence):
            refuse_lengths(lengths)
            batch_axis = 0 if self.layer.batch_first else 1
            padded, lengths = pad_packed_sequence(input, batch_first=self.layer.batch_first)
            y, *rest = self(padded, state, lengths, return_states=return_states)
            order = input.sorted_indices
            if order is not None:
                y, lengths = y.index_select(batch_axis, order), lengths[order.cpu()]
            packed = pack_padded_sequence(y, lengths, batch_first=self.layer.batch_first)
            return input._replace(data=packed.data), *rest
        x, order = self.reorder(input, lengths)
        back = orders.inverse(order)
        if not return_states:
            y, last = self.layer(x, state, lengths)
            return self._gather(y, back), last
        y, last, inner = self.layer(x, state, lengths, return_states=True)

        def each(field: Tensor) -> Tensor:
            return torch.stack([self._gather(part, back) for part in field])

        gates = {name: each(gate) for name, gate in inner.gates.items()}
        return self._gather(y, back), last, Inner(map_tensors(each, inner.state), gates)

    def reduce(
        self,
        input: Tensor | PackedSequence,
        lengths: Tensor | None = None,
        state: State | Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Tensor:
        """As the layer's reduce, over the reordered tokens."""
        self._refuse_reset(reset)
        if isinstance(input, PackedSequence):
            refuse_lengths(lengths)
            input, lengths = pad_packed_sequence(input, batch_first=self.layer.batch_first)
        x, _ = self.reorder(input, lengths)
        return self.layer.reduce(x, lengths, state)

    def step(self, x_t: Tensor, state: State | Tensor | None = None) -> tuple[Tensor, Any]:
        """Refused: the first token read is the middle one."""
        raise UserError(
            f"a layer in {self.order} order cannot step: it reads the centre of the sequence"
            " first; use the layer itself for streaming"
        )

    def _refuse_reset(self, reset: Tensor | None) -> None:
        if reset is not None:
            raise UserError(
                f"reset cannot be used in {self.order} order, which mixes what lies before and"
                " after the reset; split the sequences there instead"
            )

    def reorder(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer's input in reading order, and that order (T, B)."""
        check_input(type(self.layer).__name__, x, 2, 3)
        time_axis = 1 if self.layer.batch_first and x.dim() == 3 else 0
        T = x.shape[time_axis]
        B = x.shape[1 - time_axis] if x.dim() == 3 else 1
        if lengths is not None:
            lengths = check_lengths(lengths, T, B, x.device)
        if lengths is None:
            lengths = torch.full((B,), T, device=x.device)
        order = ORDERS[self.order](lengths, T)
        return self._gather(x, order), order

    def _gather(self, x: Tensor, order: Tensor) -> Tensor:
        """Tokens of x in `order` (T, B); x as the layer takes it."""
        if x.dim() == 2:
            return x.index_select(0, order.squeeze(1))
        time_axis = 1 if self.layer.batch_first else 0
        index = order.t() if time_axis else order
        return x.gather(time_axis, index.unsqueeze(-1).expand(*index.shape, x.shape[-1]))

    def extra_repr(self) -> str:
        return f"order={self.order!r}"
