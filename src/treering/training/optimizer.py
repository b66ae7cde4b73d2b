"""Adam, and how fast it goes at each update."""

import math

import torch
from torch import nn

from treering._errors import UserError
from treering.training.settings import Settings


def optimizer_of(parameters: list[nn.Parameter], settings: Settings) -> torch.optim.Adam:
    """Adam on the parameters, with weight decay AdamW; UserError if there are none."""
    if not parameters:
        raise UserError("the model has no parameter that requires a gradient; nothing to train")
    # Fused: one pass over the parameters and their moments instead of one for each of about ten
    # operations. It exists for real numbers on these devices only.
    fused = all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
        for parameter in parameters
    )
    if settings.weight_decay:
        return torch.optim.AdamW(
            parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
        )
    return torch.optim.Adam(parameters, settings.learning_rate, fused=fused)


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """The learning rate of update number `step` (from 0) of `steps`: it depends on nothing else.

    With w = `warmup_steps`: learning_rate * (step + 1) / w in the first w updates, then
    learning_rate, or for `cosine` learning_rate * (1 + cos(pi * (step - w) / (steps - w))) / 2.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.learning_rate_schedule == "constant":
        return settings.learning_rate
    done = (step - warmup) / (steps - warmup)
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
