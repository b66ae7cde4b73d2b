"""Exact arithmetic on binary numbers of any length, digit by digit over a whole batch.

Numbers are little-endian (lowest digit first) unless a name says otherwise.
Dimensions: B rows of a batch, W digits, T input positions.
"""

import torch
from torch import Tensor

from treering.tasks.formal import draws
from treering.tasks.formal.terminator import terminate

OPERATOR = 2


def draw_pairs(batch: int, length: int, generator: torch.Generator | None) -> Tensor:
    """(B, T) two numbers around an operator; both at least 1, their lengths uniform.

    Below T = 3 there is no room for two: one number, uniform in 0..2^T - 2 (the benchmark's
    bound is exclusive twice, so all ones never occur).
    """
    if length < 3:
        number = draws.strings(batch, 1, 2**length - 1, generator)
        return (number >> torch.arange(length, device=number.device)) & 1
    digits = draws.strings(batch, length, 2, generator)
    operator = 1 + draws.strings(batch, 1, length - 2, generator)
    position = torch.arange(length, device=digits.device)
    for number in (position < operator, position > operator):
        redraw_zeros(digits, number, generator)
    return digits.scatter(1, operator, OPERATOR)


def redraw_zeros(digits: Tensor, number: Tensor, generator: torch.Generator | None) -> None:
    """Draw the digits (B, W) marked by `number` (B, W) again, in place, until one is set.

    Redrawing is what makes a number uniform over the values from 1 up. A number of one digit
    needs two draws on average, a longer one hardly ever a second.
    """
    while (rows := (~(digits.bool() & number).any(1)).nonzero()[:, 0]).numel():
        fresh = draws.strings(rows.numel(), digits.shape[1], 2, generator)
        digits[rows] = torch.where(number[rows], fresh, digits[rows])


def pair_problem(inputs: Tensor) -> Tensor:
    """(B,) bool: rows that are not number, operator, number (below T = 3: one number)."""
    operators = (inputs == OPERATOR).sum(1)
    if inputs.shape[1] < 3:
        return operators != 0
    at_an_end = (inputs[:, 0] == OPERATOR) | (inputs[:, -1] == OPERATOR)
    return (operators != 1) | at_an_end


def split_pairs(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Both numbers of (B, T) inputs, each (B, T) and padded with zeros."""
    length = inputs.shape[1]
    operator = (inputs == OPERATOR).long().argmax(1, keepdim=True)
    position = torch.arange(length, device=inputs.device)
    first = torch.where(position < operator, inputs, 0)
    source = position + operator + 1
    second = inputs.gather(1, source.clamp_max(length - 1))
    return first, torch.where(source < length, second, 0)


def carried(sums: Tensor) -> Tensor:
    """(B, W) digits 0, 1 of the number with places (B, W) in 0..2; W must leave room.

    A place of 2 sends a carry, a place of 0 stops one, a place of 1 hands it through.
    """
    carries = _decided(sums != 1, sums == 2)
    return (sums + torch.nn.functional.pad(carries[:, :-1], (1, 0))) % 2


def product(first: Tensor, second: Tensor) -> Tensor:
    """(B, 2W) digits of the product of two numbers (B, W) each.

    The places before carrying are a convolution, taken through an FFT in float64: they are
    integers of at most W, and the rounding error is many orders below 1/2.
    """
    width = first.shape[1]
    spectrum = torch.fft.rfft(first.double(), n=2 * width) * torch.fft.rfft(
        second.double(), n=2 * width
    )
    places = torch.fft.irfft(spectrum, n=2 * width).round().long()
    bound = width
    while bound > 2:
        # Each place hands its higher bits up; a place then holds at most one bit of each.
        bits = bound.bit_length()
        places = torch.stack(
            [
                torch.nn.functional.pad(places >> bit & 1, (bit, 0))[:, : 2 * width]
                for bit in range(bits)
            ]
        ).sum(0)
        bound = bits
    return carried(places)


def terminated(digits: Tensor) -> Tensor:
    """(B, W): the digits up to the highest 1 (a single 0 for zero), a terminator, zeros."""
    position = torch.arange(digits.shape[1], device=digits.device)
    count = (digits * position).amax(1) + 1
    return terminate(digits, count)


def root_big_endian(number: Tensor) -> Tensor:
    """(B, ceil(W/2)) floor of the square root of (B, W), both highest digit first.

    The schoolbook method: bring down two digits; if 4 * root + 1 fits into the remainder,
    subtract it and append a 1 to the root, else a 0. Round k works on k + 3 digits.
    """
    number = torch.nn.functional.pad(number, (number.shape[1] % 2, 0))
    # One byte a digit: the work is bound by memory.
    pairs = number.to(torch.int8).view(number.shape[0], -1, 2).flip(2)
    zero, one = torch.zeros_like(pairs[:, 0, :1]), torch.ones_like(pairs[:, 0, :1])
    remainder, root = zero, zero[:, :0]
    bits = []
    for pair in pairs.unbind(1):
        remainder = torch.cat((pair, remainder), 1)
        trial = torch.cat((one, zero, root, zero), 1)
        difference = remainder - trial
        borrows = _decided(difference != 0, difference < 0)
        fits = ~borrows[:, -1:]
        reduced = (difference + torch.nn.functional.pad(borrows[:, :-1], (1, 0))) & 1
        # The remainder is at most twice the root, so its highest digit is free again.
        remainder = torch.where(fits, reduced, remainder)[:, :-1]
        bits.append(fits)
        root = torch.cat((fits.to(torch.int8), root), 1)
    return torch.cat(bits, 1).long()


def _decided(decides: Tensor, outcome: Tensor) -> Tensor:
    """(B, W) bool: `outcome` at the last place so far where `decides`; False before any.

    This is a carry or a borrow in one pass: places that do not decide hand it through.
    """
    place = torch.arange(1, decides.shape[1] + 1, device=decides.device)
    return (torch.where(decides, 2 * place + outcome, 0).cummax(1).values & 1).bool()
