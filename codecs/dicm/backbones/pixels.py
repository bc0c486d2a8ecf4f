"""From frames to what a backbone's head reads. Letters in shapes: N frames, H and W pixels."""

import torch
from torch import Tensor

from framevault.codecs.dicm.backbone import IMAGENET_MEAN, IMAGENET_STD


def normalise(frames_nchw: Tensor, *, device: torch.device) -> Tensor:
    """Return RGB frames, uint8 [N, 3, H, W], normalised as ImageNet's networks want them: float32 on the device."""
    mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None]
    std = torch.tensor(IMAGENET_STD, device=device)[:, None, None]
    return (frames_nchw.to(device).float() / 255 - mean) / std
