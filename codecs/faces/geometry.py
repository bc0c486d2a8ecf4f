"""Faces out of a frame, and back into its place.

::

    frame u8 [3,H,W] --(square, turned)--> about a sample a pixel [3,r,r] --(filtered)--> face u8 [3,s,s]
    face u8 [s,s,3] --(filtered)--> as large as its square --(turned, soft edge)--> canvas u8 [H,W,3]

A point of a face lies at u, v in -1/2..1/2 from the square's middle, to the right and down; in the frame it is turned
clockwise by the region's angle. Letters in shapes: K faces, H and W pixels of a frame, s those of a face's side.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from framevault.codecs.errors import CodecError
from framevault.codecs.faces.framing import FaceRegion

SOFT_EDGE = 0.04
"""Part of a square's side over which a face fades into the canvas."""

MOST_SAMPLES = 2048
"""Samples of a square's side, at most, before it is made smaller; a larger one is sampled more coarsely."""

PIXELS_AT_ONCE = 1 << 20
"""Pixels of a canvas that are computed in one call, at most."""


@torch.inference_mode()
def cut_faces(frame_chw: Tensor, regions: Sequence[FaceRegion], *, side: int) -> Tensor:
    """Cut faces out of a frame.

    Args:
        frame_chw: RGB, uint8 [3, H, W].
        regions: Where they are; beyond the frame its border is repeated.
        side: Pixels of a side that they shall have.

    Returns:
        Upright faces, uint8 [K, 3, side, side], on the frame's device.

    Raises:
        CodecError: The frame has another shape or type.
    """
    if frame_chw.dtype != torch.uint8 or frame_chw.dim() != 3 or len(frame_chw) != 3:
        raise CodecError(f"a frame must be uint8 [3, H, W], got {frame_chw.dtype} {list(frame_chw.shape)}")
    faces_nchw = torch.empty((len(regions), 3, side, side), dtype=torch.uint8, device=frame_chw.device)
    values_nchw = frame_chw[None].float()
    for number, region in enumerate(regions):
        face_nchw = _resize(_cut(values_nchw, region, least=side), side)
        faces_nchw[number] = face_nchw[0].round().clamp(0, 255).byte()
    return faces_nchw


@torch.inference_mode()
def paste_face(canvas_hwc: NDArray[np.uint8], face_hwc: NDArray[np.uint8], region: FaceRegion) -> None:
    """Draw a face into its place, with a soft edge; what lies beyond the canvas is left out.

    Args:
        canvas_hwc: RGB, uint8 [H, W, 3], of the frame's size; changed.
        face_hwc: The upright face, RGB, uint8 [s, s, 3].
        region: Where it belongs.
    """
    left, top, right, bottom = _bounds(region, height=canvas_hwc.shape[0], width=canvas_hwc.shape[1])
    if left >= right or top >= bottom:
        return
    face_nchw = torch.from_numpy(face_hwc.copy()).permute(2, 0, 1)[None].float()
    face_nchw = _resize(face_nchw, max(1, min(len(face_hwc), round(region.side))))
    rows_at_once = max(1, PIXELS_AT_ONCE // (right - left))
    for first in range(top, bottom, rows_at_once):
        part_hwc = canvas_hwc[first : min(first + rows_at_once, bottom), left:right]
        _blend(part_hwc, face_nchw, region, left=left, top=first)


def _cut(frame_nchw: Tensor, region: FaceRegion, *, least: int) -> Tensor:
    """Return a square, upright, float32 [1, 3, r, r], at about a sample a pixel and at least so many a side."""
    height, width = frame_nchw.shape[2:]
    samples = max(least, min(math.ceil(region.side), MOST_SAMPLES))
    ruler = (torch.arange(samples, dtype=torch.float64, device=frame_nchw.device) + 0.5) / samples - 0.5
    v, u = torch.meshgrid(ruler, ruler, indexing="ij")
    cos, sin = _turn(region)
    x = _middle(region.x_min, region.side) + region.side * (u * cos - v * sin)
    y = _middle(region.y_min, region.side) + region.side * (u * sin + v * cos)
    return _sample(frame_nchw, x / width, y / height)


def _blend(part_hwc: NDArray[np.uint8], face_nchw: Tensor, region: FaceRegion, *, left: int, top: int) -> None:
    """Draw a face, float32 [1, 3, r, r], into the part of the canvas that begins there."""
    height, width = part_hwc.shape[:2]
    x = torch.arange(width, dtype=torch.float64)[None, :] + (left + 0.5 - _middle(region.x_min, region.side))
    y = torch.arange(height, dtype=torch.float64)[:, None] + (top + 0.5 - _middle(region.y_min, region.side))
    cos, sin = _turn(region)
    u, v = (x * cos + y * sin) / region.side, (y * cos - x * sin) / region.side
    face_hwc = _sample(face_nchw, u + 0.5, v + 0.5)[0].permute(1, 2, 0)
    to_edge_hw = 0.5 - torch.maximum(u.abs(), v.abs())
    weight_hw1 = (to_edge_hw / SOFT_EDGE).clamp(0, 1).float()[:, :, None]
    before_hwc = torch.from_numpy(part_hwc.astype(np.float32))
    part_hwc[:] = torch.lerp(before_hwc, face_hwc, weight_hw1).round().clamp(0, 255).byte().numpy()


def _sample(picture_nchw: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return a picture's values where x and y, float64 [h, w], are 0..1 from its left and upper border to the others.

    Bicubic; beyond the border, that is repeated.
    """
    grid_nhw2 = torch.stack([2 * x - 1, 2 * y - 1], dim=2)[None].float()
    return functional.grid_sample(picture_nchw, grid_nhw2, mode="bicubic", padding_mode="border", align_corners=False)


def _resize(picture_nchw: Tensor, side: int) -> Tensor:
    """Return square pictures of another size, filtered against aliasing."""
    if picture_nchw.shape[3] == side:
        return picture_nchw
    return functional.interpolate(picture_nchw, (side, side), mode="bicubic", antialias=True, align_corners=False)


def _bounds(region: FaceRegion, *, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the pixels left, top, right, bottom (the last two not among them) that a square may touch in a frame."""
    cos, sin = _turn(region)
    reach = region.side / 2 * (abs(cos) + abs(sin))
    x, y = _middle(region.x_min, region.side), _middle(region.y_min, region.side)
    left, top = max(0, math.floor(x - reach)), max(0, math.floor(y - reach))
    return left, top, min(width, math.ceil(x + reach)), min(height, math.ceil(y + reach))


def _middle(first: float, side: float) -> float:
    return first + side / 2


def _turn(region: FaceRegion) -> tuple[float, float]:
    """Return cosine and sine of its angle."""
    angle = math.radians(region.angle_degrees)
    return math.cos(angle), math.sin(angle)
