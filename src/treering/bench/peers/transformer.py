"""The formal-language benchmark's transformer encoder, for what attention costs over length.

Legend: T time, B batch.
"""

from torch import Tensor

from treering.bench.peers.abstract import Peer, Prepared, run_module
from treering.bench.problem import Problem
from treering.models.baselines import TransformerEncoder

NAME = "transformer"
"""What a case calls it in place of a layer."""


class Transformer(Peer):
    """Five layers of at most eight heads, as wide as the layers beside it; PyTorch's attention.

    It computes another function than any layer, so only its cost can be looked at.
    """

    title = "the benchmark's transformer encoder"

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Problem) -> Prepared:
        case = problem.case
        width = case.hidden_size
        model = TransformerEncoder(case.input_size, width=width, heads=min(8, width), dropout=0.0)

        def apply(x: Tensor) -> Tensor:
            return model(x.transpose(0, 1))[0].transpose(0, 1)

        def stream(x: Tensor) -> Tensor:
            raise NotImplementedError("a transformer encoder reads all tokens at once")

        return run_module(problem, model, None, apply, stream)
