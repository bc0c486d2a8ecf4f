"""Random crops of the training pictures.

Letters in shapes: N crops, H and W pixels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framevault.codecs.dicm.backbones.pixels import normalise
from framevault.pipeline.jobs.train.pictures import PictureSet

SMALLEST_SCALE, LARGEST_SCALE = 0.5, 1.3
"""Pictures are scaled by a factor between these before a crop is cut."""

UPSCALE_RANGE = 1.6
"""Pictures too small for a crop are enlarged to just fit, or up to so many times more."""

BRIGHTNESS_SHARE, BRIGHTNESS_RANGE = 0.3, 0.2
"""So many crops get brighter or darker by up to so much."""


def random_crops(pictures: PictureSet, rng: np.random.Generator, *, num_crops: int, side: int) -> Tensor:
    """Return crops of pictures chosen at random, uint8 [N, 3, side, side]: scaled, mirrored, brighter or darker."""
    numbers = rng.integers(len(pictures), size=num_crops)
    crops = [_random_crop(pictures.rgb_hwc[number], rng, side=side) for number in numbers]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def plain_crops(pictures: PictureSet, rng: np.random.Generator, *, num_crops: int, side: int) -> Tensor:
    """Return crops of pictures chosen at random, uint8 [N, 3, side, side], that are mirrored or not, and nothing else.

    A picture of just that side is taken whole, so that aligned faces stay aligned; none may be smaller.
    """
    crops = []
    for number in rng.integers(len(pictures), size=num_crops):
        rgb_hwc = pictures.rgb_hwc[number]
        height, width = rgb_hwc.shape[:2]
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop_hwc = rgb_hwc[top : top + side, left : left + side]
        crops.append(crop_hwc[:, ::-1] if rng.random() < 0.5 else crop_hwc)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def random_clips(
    pictures: PictureSet, rng: np.random.Generator, *, num_clips: int, num_frames: int, side: int
) -> tuple[Tensor, ...]:
    """Return crops of frames that follow one another, all frames of a clip cut in the same place.

    Returns:
        For each of the frames, uint8 [N, 3, side, side]; clips that are too short end with their last frame again.
    """
    frames: list[list[NDArray[np.uint8]]] = [[] for _ in range(num_frames)]
    for number in rng.integers(len(pictures.clips), size=num_clips):
        clip = pictures.clips[number]
        first = int(rng.integers(max(1, len(clip) - num_frames + 1)))
        seed = int(rng.integers(2**32))
        for position, crops in enumerate(frames):
            picture = pictures.rgb_hwc[clip[min(first + position, len(clip) - 1)]]
            crops.append(_random_crop(picture, np.random.default_rng(seed), side=side))
    return tuple(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous() for crops in frames)


def _random_crop(rgb_hwc: NDArray[np.uint8], rng: np.random.Generator, *, side: int) -> NDArray[np.uint8]:
    """Return a crop, uint8 [side, side, 3]."""
    height, width = rgb_hwc.shape[:2]
    fitting = side / min(height, width)
    low, high = max(fitting, SMALLEST_SCALE), max(LARGEST_SCALE, UPSCALE_RANGE * fitting)
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    source_side = max(1, min(height, width, round(side / scale)))
    top, left = rng.integers(height - source_side + 1), rng.integers(width - source_side + 1)
    crop_hwc = rgb_hwc[top : top + source_side, left : left + source_side]
    if source_side != side:
        resampling = Image.Resampling.BILINEAR if source_side < side else Image.Resampling.BOX
        picture = Image.fromarray(np.ascontiguousarray(crop_hwc)).resize((side, side), resampling)
        crop_hwc = np.asarray(picture)
    if rng.random() < 0.5:
        crop_hwc = crop_hwc[:, ::-1]
    if rng.random() < BRIGHTNESS_SHARE:
        factor = 1 + rng.uniform(-BRIGHTNESS_RANGE, BRIGHTNESS_RANGE)
        crop_hwc = np.clip(crop_hwc * factor, 0, 255).astype(np.uint8)
    return crop_hwc


def normalised(rgb_nchw: Tensor, device: torch.device) -> Tensor:
    """Return ImageNet-normalised float32 pictures of uint8 ones, on a device, channels last."""
    return normalise(rgb_nchw, device=device).contiguous(memory_format=torch.channels_last)
