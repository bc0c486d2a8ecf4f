"""Pictures that stand for aligned faces of the toy checkpoint's size."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

SIDE = 64
"""Rows and columns of a face."""


def toy_faces(num_faces: int) -> Tensor:
    """Return smooth random pictures, uint8 [N, 3, SIDE, SIDE]."""
    small_nchw = 255 * torch.rand(num_faces, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    return functional.interpolate(small_nchw, size=SIDE, mode="bilinear").to(torch.uint8)


def write_toy_faces(folder: Path, num_faces: int) -> Path:
    """Write them as PNG files, and return the folder."""
    folder.mkdir(parents=True)
    for number, rgb_chw in enumerate(toy_faces(num_faces)):
        Image.fromarray(np.ascontiguousarray(rgb_chw.permute(1, 2, 0).numpy())).save(folder / f"{number}.png")
    return folder
