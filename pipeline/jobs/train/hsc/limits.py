"""What a finished checkpoint says of its domain: how well the training pictures are restored at each quality."""

from pathlib import Path

import numpy as np
import torch

from framevault.codecs.checkpoint import load_checkpoint, save_checkpoint
from framevault.codecs.hsc.calibration import find_limits
from framevault.codecs.hsc.checkpoint import with_limits
from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train.hsc.squares import centre_square
from framevault.pipeline.jobs.train.pictures import PictureSet

NUM_PICTURES = 256
"""Training pictures that limits are found on: a minute or two on one CPU thread."""


def add_limits(path: Path, pictures: PictureSet, *, device: torch.device) -> None:
    """Write into a checkpoint from where on a picture is outside the domain; whatever it said before goes.

    Args:
        path: The codec's checkpoint.
        pictures: Training pictures; at most `NUM_PICTURES` are taken, spread evenly.
        device: Where to restore them.
    """
    codec = load_hsc(CodecSpec(name="hsc", weights=str(path), device=str(device)))
    side = codec.networks.config.resolution
    numbers = np.linspace(0, len(pictures) - 1, min(NUM_PICTURES, len(pictures))).round().astype(int)
    frames_nchw = torch.cat([centre_square(pictures.rgb_hwc[number], side=side) for number in numbers])
    limits = find_limits(codec, frames_nchw)
    tensors, config = load_checkpoint(path, codec="hsc")
    save_checkpoint(path, with_limits(tensors, limits), codec="hsc", config=config)
