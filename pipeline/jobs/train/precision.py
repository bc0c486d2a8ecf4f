"""What a training computes in."""

import torch

from framevault.codecs.layers.precision import fastest_dtype
from framevault.configs.train import TrainSettings


def choose_precision(job: TrainSettings, device: torch.device) -> torch.dtype:
    """Return bfloat16 if it was asked for, or left to the hardware and that multiplies it; float32 otherwise."""
    match job.precision:
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "auto":
            return fastest_dtype(device)


def reduced(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Return the context in which networks run in a precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)
