"""Fully bracketed arithmetic modulo 5: drawing, checking and evaluating expressions.

The grammar, by length n: a digit d (n = 1), -d (2), (d) (3), (-d) (4), and from n = 5 on
(L op R) with the length of L uniform in 1..n-4. Digits and operators are uniform.

Symbols: digits 0..4, then PLUS, MINUS, TIMES, OPEN, CLOSE.
Dimensions: B rows of a batch, T positions, F segments of expressions yet to be written.
"""

import torch
from torch import Tensor

from treering.tasks.formal import draws

PLUS, MINUS, TIMES, OPEN, CLOSE = 5, 6, 7, 8, 9


def draw_expressions(
    batch: int, length: int, operators: int, generator: torch.Generator | None
) -> Tensor:
    """(B, T) expressions over the first `operators` of PLUS, MINUS, TIMES.

    All segments of one depth, over the whole batch, are split at once; depth grows with the
    logarithm of the length.
    """
    device = draws.device(generator)
    flat = torch.empty(batch * length, dtype=torch.int64, device=device)
    start = torch.arange(batch, device=device) * length
    size = torch.full_like(start, length)
    leaf_starts, leaf_sizes = [], []
    while start.numel():
        small = size <= 4
        leaf_starts.append(start[small])
        leaf_sizes.append(size[small])
        start, size = start[~small], size[~small]
        left = 1 + draws.below(size - 4, generator)
        flat[start] = OPEN
        flat[start + 1 + left] = PLUS + torch.randint(
            operators, start.shape, generator=generator, device=device
        )
        flat[start + size - 1] = CLOSE
        start = torch.cat((start + 1, start + 2 + left))
        size = torch.cat((left, size - 3 - left))
    start, size = torch.cat(leaf_starts), torch.cat(leaf_sizes)
    digit_at = start + size // 2
    flat[digit_at] = torch.randint(5, start.shape, generator=generator, device=device)
    bracketed = size >= 3
    flat[start[bracketed]] = OPEN
    flat[(start + size - 1)[bracketed]] = CLOSE
    flat[(digit_at - 1)[size % 2 == 0]] = MINUS
    return flat.view(batch, length)


def malformed(expressions: Tensor) -> Tensor:
    """(B,) bool: rows that are not one expression with a pair of brackets per operator.

    Somewhat wider than the grammar: superfluous brackets and a minus before a bracket have
    an obvious value and pass.
    """
    opens, closes = expressions == OPEN, expressions == CLOSE
    digits, minus = expressions < PLUS, expressions == MINUS
    depth = (opens.long() - closes.long()).cumsum(1)
    unbalanced = (depth < 0).any(1) | (depth[:, -1] != 0)

    after_operand = _shifted(digits | closes)
    starts_operand = digits | opens
    binary = _binary(expressions)
    unary = minus & ~after_operand
    misplaced = torch.where(after_operand, starts_operand, ~starts_operand & ~unary)
    misplaced |= _shifted(unary) & ~starts_operand
    cut_short = ~(digits | closes)[:, -1]

    # Sorted stably by depth, an opening bracket starts each group of symbols that share the
    # same innermost pair; a group has at most one operator, the outermost level none.
    order = depth.argsort(dim=1, stable=True)
    group = opens.gather(1, order).cumsum(1)
    operators = torch.zeros_like(expressions).scatter_add_(
        1, group.clamp_max(expressions.shape[1] - 1), binary.gather(1, order).long()
    )
    unbracketed = (operators > 1).any(1) | (binary & (depth == 0)).any(1)
    return unbalanced | misplaced.any(1) | cut_short | unbracketed


def evaluate(expressions: Tensor) -> Tensor:
    """(B,) value modulo 5 of well-formed expressions (B, T), in one pass from the left.

    Each open bracket has a cell 5 * pending + value on a stack: the value so far and what is
    to be done with the next operand. One table look-up per symbol gives the new cell, for
    the whole batch.
    """
    closes = expressions == CLOSE
    depth = ((expressions == OPEN).long() - closes.long()).cumsum(1)
    levels = int(depth.max()) + 2
    stack = expressions.new_zeros(len(expressions) * levels)
    row = torch.arange(len(expressions), device=expressions.device) * levels
    cells = (row[:, None] + depth).t().contiguous().unbind(0)
    role = _ROLES.to(expressions.device)[expressions]
    role = torch.where((role == _SUBTRACT) & ~_binary(expressions), _NEGATE, role)
    # A closing bracket's operand is the value of the cell above; other symbols bring theirs.
    look_up = role * 100 + torch.where(expressions < PLUS, expressions, 0)
    look_ups, closings = look_up.t().contiguous().unbind(0), closes.t().contiguous().unbind(0)
    table = _TABLE.to(expressions.device)
    for cell, at, closing in zip(cells, look_ups, closings, strict=True):
        operand = stack[cell + 1] * closing
        stack[cell] = table[at + 5 * stack[cell] + operand]
    return stack[row]


def _shifted(flags: Tensor) -> Tensor:
    """The flags (B, T) of the previous position; False at the first."""
    return torch.nn.functional.pad(flags[:, :-1], (1, 0))


def _binary(expressions: Tensor) -> Tensor:
    """(B, T) bool: operators that stand after an operand."""
    operators = (expressions >= PLUS) & (expressions <= TIMES)
    return operators & _shifted((expressions < PLUS) | (expressions == CLOSE))


_OPERAND, _BEGIN, _ADD, _SUBTRACT, _MULTIPLY, _NEGATE = range(6)
_ROLES = torch.tensor([_OPERAND] * 5 + [_ADD, _SUBTRACT, _MULTIPLY, _BEGIN, _OPERAND])


def _transitions() -> Tensor:
    """New cell for [role, pending, value, operand], flattened.

    Pending is one of: add, subtract, multiply by, multiply by the negative of the operand.
    """
    table = torch.zeros(6, 4, 5, 5, dtype=torch.int64)
    for pending in range(4):
        for value in range(5):
            for operand in range(5):
                results = (value + operand, value - operand, value * operand, -value * operand)
                table[_OPERAND, pending, value, operand] = results[pending] % 5
            for role, next_pending in (
                (_ADD, 0),
                (_SUBTRACT, 1),
                (_MULTIPLY, 2),
                (_NEGATE, pending ^ 1),
            ):
                table[role, pending, value, 0] = 5 * next_pending + value
    return table.flatten()


_TABLE = _transitions()
