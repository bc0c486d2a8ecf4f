"""Whole pictures of a domain, as squares of its resolution.

Letters in shapes: N pictures, H and W pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from framevault.pipeline.jobs.train.pictures import PictureSet


def random_squares(pictures: PictureSet, rng: np.random.Generator, *, num_squares: int, side: int) -> Tensor:
    """Return pictures chosen at random, uint8 [N, 3, side, side]; half of them mirrored.

    A picture of the domain is aligned, so it is never cut smaller; of one that is no square, any square that has its
    whole short side.
    """
    numbers = rng.integers(len(pictures), size=num_squares)
    squares = [_random_square(pictures.rgb_hwc[number], rng, side=side) for number in numbers]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def centre_square(rgb_hwc: NDArray[np.uint8], *, side: int) -> Tensor:
    """Return the middle of a picture, uint8 [1, 3, side, side]."""
    height, width = rgb_hwc.shape[:2]
    shortest = min(height, width)
    square_hwc = _square(rgb_hwc, top=(height - shortest) // 2, left=(width - shortest) // 2, side=side)
    return torch.from_numpy(square_hwc).permute(2, 0, 1)[None].contiguous()


def signed(rgb_nchw: Tensor, device: torch.device) -> Tensor:
    """Return float32 pictures in -1..1 of uint8 ones, on a device, channels last."""
    pixels_nchw = rgb_nchw.to(device).float() / 127.5 - 1
    return pixels_nchw.contiguous(memory_format=torch.channels_last)


def _random_square(rgb_hwc: NDArray[np.uint8], rng: np.random.Generator, *, side: int) -> NDArray[np.uint8]:
    height, width = rgb_hwc.shape[:2]
    shortest = min(height, width)
    top, left = rng.integers(height - shortest + 1), rng.integers(width - shortest + 1)
    square_hwc = _square(rgb_hwc, top=int(top), left=int(left), side=side)
    return square_hwc[:, ::-1] if rng.random() < 0.5 else square_hwc


def _square(rgb_hwc: NDArray[np.uint8], *, top: int, left: int, side: int) -> NDArray[np.uint8]:
    """Return a copy of a square with the whole short side, at another size."""
    shortest = min(rgb_hwc.shape[:2])
    square_hwc = rgb_hwc[top : top + shortest, left : left + shortest]
    if shortest == side:
        return np.array(square_hwc, order="C")
    picture = Image.fromarray(np.ascontiguousarray(square_hwc))
    return np.array(picture.resize((side, side), Image.Resampling.BILINEAR))
