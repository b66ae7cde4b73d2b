"""The best matrix product there is here, as the yardstick of kernels.

Legend: a product is (M, K) by (K, N).
"""

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from treering.bench.cost import operations, widest_product
from treering.bench.peers.abstract import Peer, Prepared
from treering.bench.problem import Problem

MOST_ROWS = 8192
SQUARE = 4
"""Side of the square product in widths of the layer."""
TRIALS = 5
BRIEFEST = 2e-3
"""Seconds of one timed call: clocks and threads cost less than a hundredth of it."""


class BestGemm(Peer):
    """As many operations as the case takes, in the fastest product found just before.

    Candidates: torch.mm, and oneDNN's linear with packed and with plain weights; each at the size
    of the case's largest product and at a square one that fits the caches.
    """

    title = "best matrix product of PyTorch, on as many operations"

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Problem) -> Prepared:
        dtype = problem.x.dtype
        rows, columns, inner = widest_product(problem)
        side = SQUARE * problem.case.hidden_size
        sizes = {(min(rows, MOST_ROWS), inner, columns), (side, side, side)}
        best, best_rate, count = None, 0.0, 0.0
        with torch.no_grad():
            for M, K, N in sizes:
                for product in _candidates(M, K, N, dtype):
                    rate = 2.0 * M * K * N / _quickest(product)
                    if rate > best_rate:
                        best, best_rate, count = product, rate, 2.0 * M * K * N
        assert best is not None
        repeats = max(1, round(BRIEFEST * best_rate / count))
        chosen = best

        @torch.no_grad()
        def call() -> None:
            for _ in range(repeats):
                chosen()

        return Prepared(call, None, scale=operations(problem) / (count * repeats))


def _candidates(M: int, K: int, N: int, dtype: torch.dtype) -> list[Callable[[], Tensor]]:
    x, w = torch.randn(M, K, dtype=dtype), torch.randn(N, K, dtype=dtype)
    out = torch.empty(M, N, dtype=dtype)
    found: list[Callable[[], Tensor]] = [lambda: torch.mm(x, w.t(), out=out)]
    if torch.backends.mkldnn.is_available():
        linear = torch.ops.mkldnn._linear_pointwise
        packed = torch.ops.mkldnn._reorder_linear_weight(w, M)
        found += [
            lambda: linear(x, w, None, "none", [], ""),
            lambda: linear(x, packed, None, "none", [], ""),
        ]
    return found


def _quickest(product: Callable[[], Tensor]) -> float:
    product()
    times = []
    for _ in range(TRIALS):
        begin = perf_counter()
        product()
        times.append(perf_counter() - begin)
    return min(times)
