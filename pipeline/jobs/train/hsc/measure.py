"""What a checkpoint makes of held-out pictures: real bytes, and what is lost."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.hsc.codec import load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.jobs.train.hsc.perceptual import PerceptualNetwork, feature_distance
from framevault.pipeline.jobs.train.hsc.squares import centre_square, signed
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Row

LEAST_ERROR = 0.25
"""Squared steps that an error counts as at least: pictures that are the same have no PSNR."""


@torch.inference_mode()
def measure_checkpoint(path: Path, pictures: PictureSet, perceptual: PerceptualNetwork, *, quality: int) -> Row:
    """Encode pictures with a checkpoint, each by itself, and compare what is decoded.

    Args:
        path: The checkpoint.
        pictures: At least one; the middle square of each is taken.
        perceptual: Its device is the codec's.
        quality: 1 to 8.

    Returns:
        `quality`, `pictures`, `bytes_per_picture` and `bits_per_pixel` of the real streams; the mean of the pictures'
        `psnr_db`; and `<name>_distance`, the squared error of the perceptual network's features over the picture's
        variance, summed over its levels, by the network's name.
    """
    device = perceptual.mean_c11.device
    codec = load_hsc(CodecSpec(name="hsc", quality=quality, weights=str(path), device=str(device)))
    side = codec.networks.config.resolution
    num_bytes = 0
    psnrs: list[float] = []
    distances: list[float] = []
    for rgb_hwc in pictures.rgb_hwc:
        frames_nchw = centre_square(rgb_hwc, side=side)
        streams = codec.encoder(height=side, width=side).encode(frames_nchw)
        decoded_nchw = codec.decoder(height=side, width=side).decode(streams).cpu()
        num_bytes += sum(map(len, streams))
        psnrs.append(_psnr_db(decoded_nchw, frames_nchw))
        mine, theirs = (perceptual(signed(each, device)) for each in (decoded_nchw, frames_nchw))
        distances.append(float(feature_distance(mine, theirs)))
    return {
        "quality": quality,
        "pictures": len(pictures),
        "bytes_per_picture": num_bytes / len(pictures),
        "bits_per_pixel": 8 * num_bytes / (len(pictures) * side**2),
        "psnr_db": float(np.mean(psnrs)),
        f"{perceptual.name}_distance": float(np.mean(distances)),
    }


def _psnr_db(one_nchw: Tensor, other_nchw: Tensor) -> float:
    """Return the peak signal-to-noise ratio of uint8 pictures."""
    squared = float((one_nchw.double() - other_nchw.double()).square().mean())
    return float(10 * np.log10(255**2 / max(squared, LEAST_ERROR / one_nchw.numel())))
