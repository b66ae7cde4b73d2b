"""Loops that stay loops in an exported program, whatever the length of the sequence.

`torch.export` unrolls Python's own loops and so freezes the number of tokens. Under it, schedules
run through these two instead, which become the Scan and Loop nodes of ONNX.

A body must not look at tensors from around it: what it needs besides the carry is `shared`.

Legend: T time; `...` any axes.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

Several = Sequence[Tensor]
Stepped = tuple[Several, Several]


def over_time(
    step: Callable[[Several, Several, Several], Stepped],
    carry: Several,
    inputs: Several,
    shared: Several,
) -> tuple[list[Tensor], list[Tensor]]:
    """`carry, seen_t = step(carry, inputs_t, shared)` for t = 1..T, inputs (T, ...).

    Returns the last carry and all that was seen, (T, ...) each.
    """
    # Not loaded with torch itself, and of no use outside an export.
    from torch._higher_order_ops.scan import scan, scan_op

    first, second = len(carry), len(carry) + len(inputs)

    def one(*flat: Tensor) -> list[Tensor]:
        new, seen = step(flat[:first], flat[first:second], flat[second:])
        # What goes on and what is seen must not share memory.
        return [*new, *(tensor.clone() for tensor in seen)]

    if torch.compiler.is_dynamo_compiling():

        def split(carry: Any, now: Any) -> tuple[Any, Any]:
            found = one(*carry, *now, *shared)
            return found[:first], found[first:]

        last, seen = scan(split, list(carry), list(inputs))
        return list(last), list(seen)
    found = list(scan_op(one, list(carry), list(inputs), tuple(shared)))
    return found[:first], found[first:]


def repeat(
    going: Callable[[Tensor, int], Tensor],
    body: Callable[[Several, int, Several], Several],
    carry: Several,
    number: int,
    shared: Several,
) -> list[Tensor]:
    """`carry = body(carry, number, shared)` as long as `going(carry[0], number)`.

    number: one size that both may look at, such as T. Shapes and dtypes of the carry stay.
    """
    from torch._higher_order_ops.while_loop import while_loop, while_loop_op

    width = len(carry)

    def test(*flat: Any) -> Tensor:
        return going(flat[0], flat[width])

    def turn(*flat: Any) -> Any:
        return tuple(body(flat[:width], flat[width], flat[width + 1 :]))

    # PyTorch declares a tuple of one for it.
    start: Any = tuple(carry)
    if torch.compiler.is_dynamo_compiling():
        looped = while_loop(
            lambda *now: test(*now, number), lambda *now: turn(*now, number, *shared), start
        )
        return list(looped)
    return list(while_loop_op(test, turn, start, (number, *shared)))


def size_of(scalar: Tensor, at_least: int) -> int:
    """The value of an integer tensor, unknown while exporting, as a size."""
    value = cast(int, scalar.item())
    torch._check(value >= at_least)
    return value
