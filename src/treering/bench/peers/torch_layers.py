"""nn.LSTM, nn.GRU and nn.RNN.

Legend: T time, B batch, I input.
"""

import torch
from torch import Tensor, nn

from treering.bench.peers.abstract import Peer, Prepared, run_module
from treering.bench.problem import Problem


class TorchLayer(Peer):
    """PyTorch's own layer of the case's sizes; with its weights where they are the same layer."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU | nn.RNN]) -> None:
        self.kind = kind
        self.title = f"nn.{kind.__name__}"

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Problem) -> Prepared:
        case, layer = problem.case, problem.layer
        module = self.kind(case.input_size, case.hidden_size, dtype=problem.x.dtype)
        same = layer.cell_type.torch_equivalent is self.kind
        if same:
            module.load_state_dict(layer.state_dict())
        last = case.outputs == "last"
        with torch.no_grad():
            _, first = module(problem.x[:1])

        def apply(x: Tensor) -> Tensor:
            y = module(x)[0]
            return y[-1] if last else y

        def stream(x: Tensor) -> Tensor:
            outputs, state = [], first
            for x_t in x.split(1):
                y, state = module(x_t, state)
                outputs.append(y)
            return torch.cat(outputs)

        names = {name: name for name, _ in layer.named_parameters()} if same else None
        return run_module(problem, module, names, apply, stream)
