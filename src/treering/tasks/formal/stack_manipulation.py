"""A stack after a sequence of pushes and pops.

Dimensions: B rows of a batch, T input positions, M = T + 1 output positions.
"""

import torch
from torch import Tensor

from treering.tasks.abstract import GeneratedTask
from treering.tasks.formal import draws
from treering.tasks.formal.terminator import terminate, up_to_terminator

POP, PUSH_0 = 2, 3


class StackManipulation(GeneratedTask):
    """Output = the final stack from its top down, then 2, then zeros: n + 1 positions.

    The input is a stack of zeros and ones from its bottom up, then actions: 2 pops, 3 pushes
    a zero, 4 pushes a one. A pop of the empty stack does nothing. The height of the given
    stack is uniform in 1..n-1, symbols and actions are uniform; at n = 1 it is the stack
    alone. Accuracy counts the positions up to the terminator 2.

    >>> task = StackManipulation()
    >>> task.solve(task.encode("0110422"))  # push 1, pop, pop leaves 011
    tensor([[1, 1, 0, 2, 0, 0, 0, 0]])
    >>> task.solve(task.encode("110222"))
    tensor([[2, 0, 0, 0, 0, 0, 0]])
    """

    name = "stack_manipulation"
    level = "deterministic context-free"
    symbols = "01234"
    output_size = 3

    def output_length(self, length: int) -> int:
        return length + 1

    def mask(self, targets: Tensor) -> Tensor:
        return up_to_terminator(targets)

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        stack = draws.strings(batch, length, 2, generator)
        if length == 1:
            return stack
        actions = POP + draws.strings(batch, length, 3, generator)
        height = 1 + draws.strings(batch, 1, length - 1, generator)
        position = torch.arange(length, device=stack.device)
        return torch.where(position < height, stack, actions)

    def check(self, inputs: Tensor) -> None:
        actions = (inputs >= POP).long()
        wrong = (actions.diff(dim=1) < 0).any(1) | (actions[:, 0] == 1)
        self.refuse(
            wrong,
            inputs,
            "a stack symbol (0, 1) follows an action (2, 3, 4) or is missing; write the stack "
            "first, then the actions, e.g. '0110422'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        batch, length = inputs.shape
        pushes = inputs != POP
        # Height without a floor, then lifted by how far it would have sunk below zero so far.
        free = torch.where(pushes, 1, -1).cumsum(1)
        height = free - free.cummin(1).values.clamp_max(0)
        # A pushed symbol is still there at the end if the height never falls below it again.
        lowest_from_here = height.flip(1).cummin(1).values.flip(1)
        stays = pushes & (lowest_from_here == height)
        final = height[:, -1:]
        # Symbols that do not stay go to a column that is cut off.
        place = torch.where(stays, final - height, length + 1)
        content = inputs.new_zeros(batch, length + 2)
        content.scatter_(1, place, torch.where(inputs < POP, inputs, inputs - PUSH_0))
        return terminate(content[:, :-1], final[:, 0])
