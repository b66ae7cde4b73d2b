"""Does the layer hold the automaton's state? Linear probes at every prefix.

A probe is fitted to states of sequences as long as in training and asked on new ones of twice the
length. High accuracy says that the state can be read off linearly, not that the head uses it.

Legend: B batch, T time, I input, H hidden, N states.
"""

from typing import Any

import torch
from torch import Tensor, nn

from treering.inspect import linear_probe
from treering.inspect.automata import UNDEFINED, Reader, readers_of
from treering.inspect.curves import thinned
from treering.inspect.record import Probe, significant
from treering.inspect.subject import NotAvailableError, entering, layer_of, names_of
from treering.layers import Recurrent
from treering.tasks.abstract import Batch, GeneratedTask, Task
from treering.training.seeds import generator

FITTED = 4096
"""States that a probe is fitted to, at most."""
ONE_BY_ONE = 12
"""Prefixes asked at where each needs a call of its own."""
SEED = 1


@torch.no_grad()
def probes(model: nn.Module, task: Task, samples: int, length: int) -> list[Probe]:
    """For all that the task's automaton remembers, from each layer's h.

    Fitted to `samples` sequences of `length` symbols, l2 chosen on half as many, asked on
    `samples` of twice the length. Where h at a token has seen later ones (bidirectional, another
    order) and where no states are shown, every prefix is given to the layer by itself, and the
    probe reads its last output.

    Errors: NotAvailableError for a task without a written automaton.
    Cost: forward passes, and for each probe some hundred steps of L-BFGS.
    """
    if not isinstance(task, GeneratedTask):
        raise NotAvailableError("what would have to be remembered of a text is not known")
    readers = readers_of(task)
    if not readers:
        raise NotAvailableError(
            f"{task.name} is {task.level}, and no finite automaton is written down"
        )
    drawn = [
        task.sample(count, size, generator(SEED, f"probe:{part}:{size}"))
        for part, count, size in (
            ("train", samples, length),
            ("validation", -(-samples // 2), length),
            ("test", samples, 2 * length),
        )
    ]
    places = [_places(model, batch.inputs.shape[1]) for batch in drawn]
    asked = []
    for reader in readers:
        parts = zip(drawn, places, strict=True)
        labels = [reader.states(batch.inputs)[:, at] for batch, at in parts]
        # A single digit, for instance, has no operator.
        if all(bool((part != UNDEFINED).any()) for part in labels):
            asked.append((reader, labels))
    states = [prefix_states(model, batch, at) for batch, at in zip(drawn, places, strict=True)]
    found = []
    for layer in states[0]:
        parts = [of_part[layer] for of_part in states]
        if not all(bool(part.isfinite().all()) for part in parts):
            raise NotAvailableError("its states are not finite")
        found += [_probe(reader, layer, labels, places, parts) for reader, labels in asked]
    return found


def prefix_states(model: nn.Module, batch: Batch, places: list[int]) -> dict[str, Tensor]:
    """What is known after the prefixes that end at `places`: by layer (B, len(places), H)."""
    layer: Any = layer_of(model)
    # Without the empty tokens that a Transducer adds.
    x = entering(model, batch)[:, : batch.inputs.shape[1]]
    if _is_causal(layer):
        _, _, inner = layer(x, return_states=True)
        return {name: h[:, places] for name, h in zip(names_of(layer), inner.state[0], strict=True)}
    if not hasattr(layer, "reduce"):
        raise NotAvailableError(f"a {type(layer).__name__} has no `reduce` to read a prefix with")
    outputs = [layer.reduce(x[:, : place + 1]) for place in places]
    return {"last output": torch.stack(outputs, dim=1)}


def _is_causal(layer: nn.Module) -> bool:
    return isinstance(layer, Recurrent) and not layer.bidirectional


def _places(model: nn.Module, count: int) -> list[int]:
    return thinned(count) if _is_causal(layer_of(model)) else thinned(count, ONE_BY_ONE)


def _probe(
    reader: Reader,
    layer: str,
    labels: list[Tensor],
    places: list[list[int]],
    states: list[Tensor],
) -> Probe:
    """Labels (B, K) and states (B, K, H) at K places, of the three parts."""
    train, validation = (
        _defined(states[part], labels[part], f"{reader.name}:{part}") for part in range(2)
    )
    probe, l2 = linear_probe.select(train, validation, reader.classes)
    commonest = train[1].bincount(minlength=reader.classes).argmax()
    asked = labels[2] != UNDEFINED
    right = (probe(states[2]) == labels[2]) & asked
    at = [k for k in range(len(places[2])) if bool(asked[:, k].any())]
    accuracy = [(right[:, k].sum() / asked[:, k].sum()).item() for k in at]
    longest = places[0][-1] + 1
    prefixes = [places[2][k] + 1 for k in at]

    def mean(chosen: list[float]) -> float | None:
        return significant(sum(chosen) / len(chosen)) if chosen else None

    pairs = list(zip(prefixes, accuracy, strict=True))
    return Probe(
        target=reader.name,
        layer=layer,
        classes=reader.classes,
        chance=significant((labels[2][asked] == commonest).double().mean().item()),
        l2=l2,
        states=len(train[1]),
        longest=longest,
        at=tuple(prefixes),
        accuracy=tuple(significant(one) for one in accuracy),
        within=mean([one for prefix, one in pairs if prefix <= longest]),
        beyond=mean([one for prefix, one in pairs if prefix > longest]),
    )


def _defined(states: Tensor, labels: Tensor, purpose: str) -> tuple[Tensor, Tensor]:
    """At most FITTED states (N, H) where the label is defined, and the labels (N,)."""
    defined = labels != UNDEFINED
    x, y = states[defined], labels[defined]
    if len(y) <= FITTED:
        return x, y
    kept = torch.randperm(len(y), generator=generator(SEED, f"probe:{purpose}"))[:FITTED]
    return x[kept], y[kept]
