"""What a module is called with: the tensors an export is traced on and checked with.

Legend: B batch, T time, I input.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from treering._errors import UserError
from treering.layers import Recurrent, Reordered
from treering.models import Tagger, Transducer
from treering.schedules.tree import TreeState

Axes = Mapping[str, tuple[str | None, ...]]
"""For each input the names of its axes: "batch", "time", other names of free sizes, or None."""

B, T = 3, 7


@dataclass(frozen=True)
class Example:
    """Inputs by name, and which of their axes are free."""

    inputs: dict[str, Tensor]
    axes: dict[str, tuple[str | None, ...]]

    def sizes(self) -> dict[str, int]:
        """The free sizes by name, "batch" and "time" among them."""
        return {
            axis: tensor.shape[k]
            for name, tensor in self.inputs.items()
            for k, axis in enumerate(self.axes[name])
            if axis is not None
        }

    def resized(self, generator: torch.Generator, **sizes: int) -> dict[str, Tensor]:
        """Inputs of other sizes, their entries drawn from the example's own.

        Lengths are drawn anew, since they have to fit the time.
        """
        drawn = {}
        for name, tensor in self.inputs.items():
            for k, axis in enumerate(self.axes[name]):
                if axis in sizes:
                    index = torch.randint(tensor.shape[k], (sizes[axis],), generator=generator)
                    tensor = tensor.index_select(k, index)
            if name == "lengths" and "time" in sizes:
                tensor = draw_lengths(sizes["time"], sizes["batch"], generator).to(tensor.dtype)
            drawn[name] = tensor
        return drawn


def draw_lengths(T: int, B: int, generator: torch.Generator) -> Tensor:
    """(B,) of 1..T, the first one T."""
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    lengths[:1] = T
    return lengths


class LayerCall(nn.Module):
    """A layer as a function of tensors: input, lengths and state in, output and state out."""

    def __init__(self, layer: Recurrent | Reordered, lengths: bool, state: bool) -> None:
        super().__init__()
        self.layer = layer
        self.lengths = lengths
        self.state = state
        self.outputs: int | None = None

    @property
    def recurrent(self) -> Recurrent:
        return self.layer.layer if isinstance(self.layer, Reordered) else self.layer

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = list(tensors[1:])
        lengths = rest.pop(0) if self.lengths else None
        state = None
        if self.state:
            weight = next(iter(self.recurrent.weights(0).values()))
            state = rebuild(self.recurrent.cell.initial_state(1, weight), rest)  # pyright: ignore[reportAttributeAccessIssue]
        y, last = self.layer(tensors[0], state, lengths)
        found = (y, *tensors_of(last.last if isinstance(last, TreeState) else last))
        return found[: self.outputs]

    def fields(self) -> list[str]:
        """Names of the state's tensors: h, c."""
        with torch.no_grad():
            x = torch.zeros(1, 1, self.recurrent.input_size)
            weight = next(iter(self.recurrent.weights(0).values()))
            _, last = self.layer(x.to(weight))
        return list(names_of(last.last if isinstance(last, TreeState) else last))


class ModelCall(nn.Module):
    """Any module as a function of tensors, its arguments by name."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names
        self.outputs: int | None = None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found = self.module(**dict(zip(self.names, tensors, strict=True)))
        return tuple(tensors_of(found))[: self.outputs]


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_of(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_of(part)
    else:
        raise UserError(
            f"only tensors can leave an exported module, and this one returns a"
            f" {type(value).__name__}; wrap it in one that returns tensors"
        )


def names_of(state: Any, prefix: str = "") -> Iterator[str]:
    """Names of a NamedTuple's tensors, in the order of `tensors_of`."""
    for name, part in zip(state._fields, state, strict=True):
        if isinstance(part, Tensor):
            yield prefix + name
        else:
            yield from names_of(part, f"{prefix}{name}_")


def rebuild(like: Any, tensors: list[Tensor]) -> Any:
    """A state built like `like`, taking the tensors from the front of the list."""
    if isinstance(like, Tensor):
        return tensors.pop(0)
    return type(like)(*(rebuild(part, tensors) for part in like))


def layer_example(call: LayerCall, generator: torch.Generator) -> Example:
    """Inputs for a layer in its own layout."""
    layer = call.recurrent
    weight = next(iter(layer.weights(0).values()))
    shape = (B, T) if layer.batch_first else (T, B)
    x = torch.randn(*shape, layer.input_size, generator=generator, dtype=weight.dtype)
    inputs = {"input": x}
    axes: dict[str, tuple[str | None, ...]] = {"input": ("time", "batch", None)}
    if layer.batch_first:
        axes["input"] = ("batch", "time", None)
    if call.lengths:
        inputs["lengths"] = draw_lengths(T, B, generator)
        axes["lengths"] = ("batch",)
    if call.state:
        with torch.no_grad():
            _, last = layer(x)
        if isinstance(last, TreeState):
            raise UserError(
                "a tree cannot be exported with a carried state: which blocks are merged would"
                " depend on the values; leave state out and call it on whole sequences"
            )
        for name, tensor in zip(names_of(last), tensors_of(last), strict=True):
            inputs[f"{name}_0"] = tensor
            axes[f"{name}_0"] = (None, "batch", *(None,) * (tensor.dim() - 2))
    return Example(inputs, axes)


def model_example(module: nn.Module, lengths: bool, generator: torch.Generator) -> Example:
    """Token ids for a model of `tr.models`, or one that is called and built like them."""
    embedding = getattr(module, "embedding", None)
    ids = module.symbols if isinstance(module, Tagger | Transducer) else None
    ids = getattr(embedding, "num_embeddings", ids)
    if not isinstance(ids, int):
        raise UserError(
            f"what a {type(module).__name__} is called with is not known here; write"
            " example={'name of the argument': tensor} with at least two sequences and two tokens"
        )
    inputs = {"inputs": torch.randint(ids, (B, T), generator=generator)}
    axes: dict[str, tuple[str | None, ...]] = {"inputs": ("batch", "time")}
    if lengths:
        inputs["lengths"] = draw_lengths(T, B, generator)
        axes["lengths"] = ("batch",)
    return Example(inputs, axes)


def users_example(given: Mapping[str, Tensor], axes: Axes | None) -> Example:
    """The user's tensors, checked; where axes are not named they are (batch, time, fixed...)."""
    inputs, named = {}, {}
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor) or tensor.dim() == 0:
            raise UserError(
                f"example[{name!r}] must be a tensor with a batch axis, got"
                f" {type(tensor).__name__}; leave other arguments at their defaults"
            )
        inputs[name] = tensor.detach().cpu()
        usual = ("batch", "time", *(None,) * (tensor.dim() - 2))[: tensor.dim()]
        named[name] = tuple((axes or {}).get(name, usual))
        if len(named[name]) != tensor.dim():
            raise UserError(
                f"axes[{name!r}] names {len(named[name])} axes of a tensor {tuple(tensor.shape)}"
            )
        for axis, size in zip(named[name], tensor.shape, strict=True):
            if axis is not None and size < 2:
                raise UserError(
                    f"example[{name!r}] has size {size} along {axis!r}, which an export takes for"
                    " fixed; give an example with at least 2 (or axes with None there)"
                )
    unknown = set(axes or {}) - set(given)
    if unknown:
        raise UserError(f"axes are given for {', '.join(sorted(unknown))}, which example lacks")
    return Example(inputs, named)
