"""What a recurrent model hands from one call to the next, in the place of a key-value cache.

Legend: B batch, L layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from treering._types import map_tensors


@dataclass(frozen=True)
class RecurrentCache:
    """The layer's state after all tokens read so far. Calls return a new one and change none.

    state: the layer's NamedTuple, every tensor (L, B, ...); for a tree it holds O(log n) vectors
        a sequence, otherwise a constant number.
    seen: positions read, padding included: the width of the `input_ids` it stands for.
    """

    state: Any
    seen: int

    # What `generate` asks of a cache: its size grows with a tree, and tokens cannot be unread.
    is_compileable: ClassVar[bool] = False
    is_croppable: ClassVar[bool] = False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """`seen`, under transformers' name."""
        return self.seen

    def select(self, rows: Tensor) -> "RecurrentCache":
        """The cache of a batch made of these rows (B',), in this order, for beams."""
        return self._map(lambda part: part.index_select(1, rows.to(part.device)))

    def repeat(self, times: int) -> "RecurrentCache":
        """Each row `times` times, the copies side by side."""
        return self._map(lambda part: part.repeat_interleave(times, dim=1))

    def detach(self) -> "RecurrentCache":
        """The same state without the graph behind it, to truncate backpropagation here."""
        return self._map(Tensor.detach)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "RecurrentCache":
        return RecurrentCache(map_tensors(function, self.state), self.seen)
