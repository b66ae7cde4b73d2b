"""PR-LSTM by its authors, in JAX and Haiku, compiled by `jax.jit`.

Nothing of it is here: either Python finds their package `thesis`, or the environment variable
TREERING_PR_LSTM names a checkout of their repository. Only its modules of the model are imported,
which need jax and dm-haiku.

Legend: B batch, T time, I input, H hidden, R refinements.
"""

import importlib
import importlib.util
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
PACKAGE = "thesis"


class JaxPRLSTM(Peer):
    """The authors' model with our weights; float32 whatever ours is."""

    title = "the authors' PR-LSTM in JAX, jitted, float32"

    def missing(self) -> str | None:
        reason = not_installed("jax", "dm-haiku")
        if reason is not None:
            return reason
        _look_in_checkout()
        found = importlib.util.find_spec(PACKAGE)
        # Anybody may have a package of that name.
        places = [] if found is None else found.submodule_search_locations or []
        if not any((Path(place) / "nary_cells.py").exists() for place in places):
            given = os.environ.get(VARIABLE, "")
            return f"{VARIABLE}={given} names no checkout of {REPOSITORY}"
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
        kind = importlib.import_module(f"{PACKAGE}.model").ParallelRecursive
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


def _look_in_checkout() -> None:
    """Let Python find the authors' package where the variable names a checkout."""
    folder = os.environ.get(VARIABLE)
    source = str(Path(folder).resolve() / "src") if folder else None
    if source is not None and source not in sys.path:
        sys.path.append(source)


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
