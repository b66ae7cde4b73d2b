"""PR-LSTM by its authors, in JAX and Haiku, compiled by `jax.jit`.

Their repository has no package that pip installs, and nothing of it is here: a checkout is named
by the environment variable TREERING_PR_LSTM. Only its two modules of the model are imported,
which need jax and dm-haiku.

Legend: B batch, T time, I input, H hidden, R refinements.
"""

import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from treering.bench.peers.abstract import Peer, Prepared, Results, not_installed, share_threads
from treering.bench.problem import Problem

VARIABLE = "TREERING_PR_LSTM"
REPOSITORY = "https://github.com/tristangaudreault/pr-lstm"
MODEL = Path("src") / "thesis" / "model.py"


class JaxPRLSTM(Peer):
    """The authors' model with our weights; float32 whatever ours is."""

    title = "the authors' PR-LSTM in JAX, jitted, float32"

    def missing(self) -> str | None:
        reason = not_installed("jax", "dm-haiku")
        if reason is not None:
            return reason
        folder = os.environ.get(VARIABLE)
        if not folder:
            return f"{VARIABLE} does not name a checkout of {REPOSITORY}"
        if not (Path(folder) / MODEL).exists():
            return f"{VARIABLE}={folder} has no {MODEL}; name a checkout of {REPOSITORY}"
        return None

    @property
    def version(self) -> str:
        packages = ("jax", "jaxlib", "dm-haiku")
        named = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
        return f"{named}, {os.environ.get('PJRT_NPROC', 'all')} threads"

    def prepare(self, problem: Problem) -> Prepared:
        share_threads()
        jax: Any = importlib.import_module("jax")
        haiku: Any = importlib.import_module("haiku")
        case, layer = problem.case, problem.layer
        kind = _model()
        refinements = sum("weight_refine" in name for name in layer.state_dict())

        def model(x: Any) -> Any:
            h = kind(case.hidden_size, "lstm", num_layers=1 + refinements)(x)
            return h[:, -1] if case.outputs == "last" else h

        apply = haiku.without_apply_rng(haiku.transform(model)).apply
        x = jax.numpy.asarray(_batch_first(problem.x).float().numpy())
        dy = jax.numpy.asarray(_batch_first(problem.dy).float().numpy())
        parameters = {
            module: {"w": jax.numpy.asarray(w.t().numpy()), "b": jax.numpy.asarray(b.numpy())}
            for module, (w, b) in _by_module(layer.state_dict(), refinements).items()
        }

        @jax.jit
        def forward(parameters: Any, x: Any) -> Any:
            return apply(parameters, x)

        @jax.jit
        def forward_and_backward(parameters: Any, x: Any, dy: Any) -> Any:
            if problem.differentiable_input:
                y, pull = jax.vjp(apply, parameters, x)
                return y, *pull(dy)
            y, pull = jax.vjp(lambda parameters: apply(parameters, x), parameters)
            return y, *pull(dy)

        def call() -> Any:
            if case.mode == "infer":
                return jax.block_until_ready(forward(parameters, x))
            return jax.block_until_ready(forward_and_backward(parameters, x, dy))

        def results() -> Results:
            if case.mode == "infer":
                return {"output": _time_first(call())}
            y, grads, *dx = call()
            found = {"output": _time_first(y)}
            for name, module in _modules(refinements).items():
                found[f"weight_{name}_l0"] = _tensor(grads[module]["w"]).t()
                found[f"bias_{name}_l0"] = _tensor(grads[module]["b"])
            if dx:
                found["input"] = _time_first(dx[0])
            return found

        return Prepared(call, results)


def _model() -> Any:
    """The authors' class, from the checkout."""
    folder = str(Path(os.environ[VARIABLE]).resolve() / MODEL.parent.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("thesis.model").ParallelRecursive


def _modules(refinements: int) -> dict[str, str]:
    """Haiku's name of the module that holds our part's weights."""
    cell = "parallel_recursive/~get_cell/nary_lstm"
    named = {"leaf": "parallel_recursive/~get_elems/linear", "merge": f"{cell}/linear"}
    return named | {f"refine{r}": f"{cell}_{r + 1}/linear" for r in range(refinements)}


def _by_module(state: dict[str, Tensor], refinements: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Gates stand in the same order in both: i, g, o, then those of forgetting."""
    return {
        module: (state[f"weight_{part}_l0"].float(), state[f"bias_{part}_l0"].float())
        for part, module in _modules(refinements).items()
    }


def _batch_first(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous() if tensor.dim() == 3 else tensor


def _tensor(array: Any) -> Tensor:
    return torch.from_dlpack(array).clone()


def _time_first(array: Any) -> Tensor:
    tensor = _tensor(array)
    return tensor.transpose(0, 1) if tensor.dim() == 3 else tensor
