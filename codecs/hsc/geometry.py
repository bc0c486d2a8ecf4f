"""Frames of any size <-> the square pictures of a domain.

A frame is made as large as it fits into the square, whole and in its proportions, and put into the middle; what is left
at two sides repeats its border. Nothing of this is stored: it follows from the frame's size. Letters in shapes:
N frames, H and W pixels of a frame, R those of the square's side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies in the square."""

    top: int
    """Rows above it."""
    left: int
    """Columns to its left."""
    height: int
    """Rows of it."""
    width: int
    """Columns of it."""

    def cut(self, square_nchw: Tensor) -> Tensor:
        """Return that part of a square picture."""
        return square_nchw[:, :, self.top : self.top + self.height, self.left : self.left + self.width]


def place(height: int, width: int, *, resolution: int) -> Placement:
    """Return where a frame of `height` x `width` pixels lies in a square of `resolution`."""
    longer = max(height, width)
    # Whole numbers, so that every machine finds the same place: halves are rounded up.
    inner_height, inner_width = (max(1, (2 * side * resolution + longer) // (2 * longer)) for side in (height, width))
    return Placement(
        top=(resolution - inner_height) // 2,
        left=(resolution - inner_width) // 2,
        height=inner_height,
        width=inner_width,
    )


def to_square(frames_nchw: Tensor, *, resolution: int, device: str) -> Tensor:
    """Return frames, uint8 [N, 3, H, W], as square pictures, float32 in -1..1 [N, 3, R, R], on the device."""
    where = place(*frames_nchw.shape[2:], resolution=resolution)
    inner_nchw = _resize(frames_nchw.to(device).float(), where.height, where.width).clamp(0, 255)
    below, right = (resolution - where.top - where.height, resolution - where.left - where.width)
    square_nchw = functional.pad(inner_nchw, (where.left, right, where.top, below), mode="replicate")
    return square_nchw / 127.5 - 1


def from_square(square_nchw: Tensor, *, height: int, width: int) -> Tensor:
    """Return square pictures, float [N, 3, R, R] in about -1..1, as frames, uint8 [N, 3, H, W]."""
    inner_nchw = place(height, width, resolution=square_nchw.shape[2]).cut(square_nchw)
    frames_nchw = torch.empty((len(inner_nchw), 3, height, width), dtype=torch.uint8, device=square_nchw.device)
    for number, inner_chw in enumerate(inner_nchw):  # one by one: large frames are large in float32
        grown_1chw = _resize((inner_chw[None].float() + 1) * 127.5, height, width)
        frames_nchw[number] = grown_1chw[0].nan_to_num(0.0).round().clamp(0, 255).byte()
    return frames_nchw


def _resize(x_nchw: Tensor, height: int, width: int) -> Tensor:
    """Return pictures of another size, filtered against aliasing."""
    if tuple(x_nchw.shape[2:]) == (height, width) or len(x_nchw) == 0:
        return x_nchw.new_zeros((0, 3, height, width)) if len(x_nchw) == 0 else x_nchw
    return functional.interpolate(x_nchw, (height, width), mode="bicubic", antialias=True, align_corners=False)
