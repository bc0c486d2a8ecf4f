"""A short clip in which the shipped detector finds something: a portrait that drifts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

SIDE = 192
"""Rows and columns of a frame."""


def portrait_frames(num_frames: int) -> Tensor:
    """Return the frames, RGB uint8 [N, 3, SIDE, SIDE]: scikit-image's portrait, moving two pixels a frame."""
    data = pytest.importorskip("skimage.data", reason="the portrait comes with scikit-image, of the extra 'dev'")
    picture = Image.fromarray(data.astronaut()).resize((SIDE + 32, SIDE), Image.Resampling.LANCZOS)
    rgb_hwc = np.asarray(picture)
    frames = [rgb_hwc[:, 2 * n : 2 * n + SIDE] for n in range(num_frames)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def write_portraits(folder: Path, num_frames: int) -> list[Path]:
    """Write the frames as PNG files, `0.png` and on."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(num_frames)]
    for path, rgb_chw in zip(paths, portrait_frames(num_frames), strict=True):
        Image.fromarray(rgb_chw.permute(1, 2, 0).numpy()).save(path)
    return paths
