"""In which precision training computes."""

import torch

from treering.training.settings import Settings


def autocast(settings: Settings, device: torch.device) -> torch.autocast:
    """What a forward pass of training runs under: autocast to `precision`, or nothing at all."""
    low = settings.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16 if low else None, enabled=low)
