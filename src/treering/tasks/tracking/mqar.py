"""Multi-query associative recall: pairs of key and value, then the keys again.

Dimensions: B rows of a batch, T input positions, D pairs.
"""

import torch
from torch import Tensor

from treering.tasks.abstract import NOT_ASKED, GeneratedTask
from treering.tasks.formal import draws

KEYS = VALUES = 64
BLANK = 0
FIRST_KEY = 1
FIRST_VALUE = FIRST_KEY + KEYS
POWER = 0.01


def pairs(length: int) -> int:
    """D, the number of pairs in a sequence of `length` symbols: an eighth of it, 1 to 64."""
    return min(max(length // 8, 1), KEYS)


class MQAR(GeneratedTask):
    """Answer at a key that is seen again = the value it was seen with; nothing is asked elsewhere.

    D = n // 8 pairs (at least 1, at most 64) of different keys with different values, uniform
    among the 64 keys k0..k63 and the 64 values v0..v63, stand at the front: k v k v ... In the
    other n - 2D places each key comes once more, at a distance g >= 1 from the last pair that is
    drawn with probability in proportion to g^(0.01 - 1), without replacement; blanks `_` fill the
    rest. The class is the number of the value. The shortest sequence has 3 symbols.

    `solve` takes any pairs of different keys, then blanks and at least one of those keys, as often
    as one likes. What is not asked is NOT_ASKED.

    Source: Arora et al. 2023, "Zoology: Measuring and Improving Recall in Efficient Language
    Models", and its published code: pairs first, keys and values without replacement, the power
    law and its exponent. Our reading: 64 keys and values rather than some 4,000; D as a function
    of n (64 pairs at 512 symbols are its hardest setting); places for keys at every symbol, not at
    every second one; blanks between the keys, where the code also has random symbols, so that the
    answers follow from the inputs.

    >>> task = MQAR()
    >>> task.solve(task.encode("k5 v9 k3 v1 _ k3 _ k5"))
    tensor([[-100, -100, -100, -100, -100,    1, -100,    9]])
    """

    name = "mqar"
    level = "recall"
    symbols = (
        "_",
        *(f"k{number}" for number in range(KEYS)),
        *(f"v{number}" for number in range(VALUES)),
    )
    output_size = VALUES
    reads = "along"
    shortest = 3

    def draw(self, batch: int, length: int, generator: torch.Generator | None) -> Tensor:
        device = draws.device(generator)
        count = pairs(length)
        keys = FIRST_KEY + _different(batch, count, KEYS, generator)
        values = FIRST_VALUE + _different(batch, count, VALUES, generator)
        front = torch.stack((keys, values), 2).flatten(1)
        gaps = torch.arange(1, length - 2 * count + 1, device=device, dtype=torch.float64)
        weights = gaps.pow(POWER - 1).expand(batch, -1)
        places = torch.multinomial(weights, count, generator=generator)
        back = torch.full((batch, len(gaps)), BLANK, device=device).scatter(1, places, keys)
        return torch.cat((front, back), 1)

    def check(self, inputs: Tensor) -> None:
        is_key, is_value = _is_key(inputs), inputs >= FIRST_VALUE
        in_front = _in_front(inputs)
        even = torch.arange(inputs.shape[1], device=inputs.device) % 2 == 0
        named = torch.where(is_key & in_front, inputs, BLANK)
        known = _counts(named)
        wrong = (
            (in_front & (is_key != even)).any(1)
            | (in_front & (is_value == even)).any(1)
            | (known > 1).any(1)
            | (is_key & ~in_front & (known.gather(1, inputs.clamp(max=KEYS)) == 0)).any(1)
            | ~(is_key & ~in_front).any(1)
        )
        self.refuse(
            wrong,
            inputs,
            "not pairs of different keys with values, then blanks and at least one of these keys;"
            " write e.g. 'k5 v9 k3 v1 _ k3'",
        )

    def answer(self, inputs: Tensor) -> Tensor:
        in_front = _in_front(inputs)
        asked = _is_key(inputs) & ~in_front
        # The value after each key of the front, by key; what is no such key writes to blank.
        keys = torch.where(in_front & _is_key(inputs), inputs, BLANK)[:, :-1]
        values = torch.zeros(len(inputs), KEYS + 1, dtype=torch.int64, device=inputs.device)
        values.scatter_(1, keys, inputs[:, 1:] - FIRST_VALUE)
        recalled = values.gather(1, torch.where(asked, inputs, BLANK))
        return torch.where(asked, recalled, NOT_ASKED)


def _different(batch: int, count: int, size: int, generator: torch.Generator | None) -> Tensor:
    """(B, D) int64 in 0..size-1, without repetition in a row, each order equally likely."""
    chance = torch.rand(batch, size, generator=generator, device=draws.device(generator))
    return chance.argsort(1)[:, :count]


def _is_key(inputs: Tensor) -> Tensor:
    return (inputs >= FIRST_KEY) & (inputs < FIRST_VALUE)


def _in_front(inputs: Tensor) -> Tensor:
    """(B, T) bool: up to the last value."""
    after = (inputs >= FIRST_VALUE).long().flip(1).cumsum(1).flip(1)
    return after > 0


def _counts(keys: Tensor) -> Tensor:
    """(B, KEYS + 1): how often each key stands in a row; of blanks none."""
    counts = torch.zeros(len(keys), KEYS + 1, dtype=torch.int64, device=keys.device)
    counts.scatter_add_(1, keys, torch.ones_like(keys))
    counts[:, BLANK] = 0
    return counts
