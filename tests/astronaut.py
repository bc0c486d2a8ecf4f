"""A real face for tests: scikit-image's portrait of Eileen Collins (NASA, public domain), as it is and in motion."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

HEIGHT, WIDTH = 240, 320
"""Of a frame."""

STEP = 2
"""Pixels that the picture moves from frame to frame, up and to the left."""

NOSE_X, NOSE_Y = 167, 98
"""Where the tip of her nose is in the first frame."""

FACE_HEIGHT = 73
"""Pixels from hairline to chin."""


def astronaut_frames(num_frames: int) -> Tensor:
    """Return the frames, RGB uint8 [N, 3, HEIGHT, WIDTH]."""
    data = pytest.importorskip("skimage.data", reason="the portrait comes with scikit-image, of the extra 'dev'")
    picture = Image.fromarray(data.astronaut()).resize((384, 384), Image.Resampling.LANCZOS)
    rgb_hwc = np.asarray(picture)
    frames = [rgb_hwc[STEP * n : STEP * n + HEIGHT, STEP * n : STEP * n + WIDTH] for n in range(num_frames)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def write_astronauts(folder: Path, num_frames: int) -> Path:
    """Write the frames as PNG files, `00.png` and on, and return the folder."""
    folder.mkdir(parents=True)
    for number, rgb_chw in enumerate(astronaut_frames(num_frames)):
        Image.fromarray(rgb_chw.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
    return folder
