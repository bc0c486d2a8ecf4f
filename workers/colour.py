"""Decoded planes to upright RGB on the device that computes.

N frames, C = 3 channels (red, green, blue), H rows, W columns of the upright picture; uint8 in, uint8 out.

    planes (views) -> device -> float32 -> chroma to luma size -> matrix -> round, clamp -> turn -> RGB [N, 3, H, W]

The matrices follow from the luma coefficients that ITU-R BT.601-7, BT.709-6, BT.2020-2 and SMPTE 240M give; BT.2020 is
the non-constant-luminance one, and its transfer function is left as it is. Chroma is upsampled bilinearly, sited as
H.264 and MPEG-2 do by default: on the left luma column, midway between two luma rows. swscale's default upsampling is
by another filter, so the two agree where chroma is smooth and differ at sharp edges (tests/workers/test_colour.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from framevault.workers.pixels import PixelLayout
from framevault.workers.tasks import ColourMatrix, ColourRange

if TYPE_CHECKING:
    from framevault.workers.frames import FrameBatch

HD_HEIGHT = 720
"""Coded height from which a source that does not name its matrix is taken as BT.709, below as BT.601."""

# Kr and Kb, the weights of red and blue in luma.
_LUMA_WEIGHTS: dict[ColourMatrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}

_CHUNK_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 25}
"""Pixels converted at once, by kind of device: a CPU's float32 planes stay in its cache (1.8 ms a frame of 640x272
instead of 3.3), a GPU gets few large kernels within a GB."""


class ColourError(ValueError):
    """Frames whose layout and colour matrix contradict each other."""


def rgb_from_batch(batch: FrameBatch, *, device: torch.device | str = "cpu") -> torch.Tensor:
    """Converts a batch to upright RGB: a new uint8 tensor [N, 3, H, W] on the device that shares nothing with the ring.

    Raises:
        ColourError: The frames are planes of luma and chroma but say that they are RGB.
    """
    planes = [torch.from_numpy(plane).to(device) for plane in batch.planes]
    matrix = resolve_matrix(batch.colour_matrix, height=batch.height)
    rgb_nchw = planes_to_rgb(planes, layout=batch.layout, matrix=matrix, value_range=batch.colour_range)
    return turn_upright(rgb_nchw, rotation_degrees=batch.rotation_degrees)


def resolve_matrix(matrix: ColourMatrix, *, height: int) -> ColourMatrix:
    """Gives the matrix itself, or for `unspecified` the usual one of this coded height."""
    if matrix != "unspecified":
        return matrix
    return "bt709" if height >= HD_HEIGHT else "bt601"


def planes_to_rgb(
    planes: list[torch.Tensor], *, layout: PixelLayout, matrix: ColourMatrix, value_range: ColourRange
) -> torch.Tensor:
    """Converts uint8 planes [N, rows, columns] (rgb24: [N, H, W, 3]) to a new uint8 tensor [N, 3, H, W], not turned.

    Raises:
        ColourError: The layout is one of luma and chroma but the matrix is `rgb`.
    """
    if layout == "rgb24":
        return planes[0].permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    num_frames, height, width = planes[0].shape
    rgb_nchw = torch.empty((num_frames, 3, height, width), dtype=torch.uint8, device=planes[0].device)
    step = max(1, _CHUNK_PIXELS.get(planes[0].device.type, _CHUNK_PIXELS["cpu"]) // (height * width))
    for start in range(0, num_frames, step):
        chunk = [plane[start : start + step] for plane in planes]
        if layout == "gray":
            luma_nhw = _scale_luma(chunk[0], value_range=value_range)
            rgb_nchw[start : start + step] = _round_to_bytes(luma_nhw).unsqueeze(1)
        else:
            _convert_chunk(chunk, rgb_nchw[start : start + step], matrix=matrix, value_range=value_range)
    return rgb_nchw


def turn_upright(frames_nchw: torch.Tensor, *, rotation_degrees: int) -> torch.Tensor:
    """Turns frames clockwise by a multiple of 90 degrees; [N, C, H, W] with H and W swapped at 90 and 270."""
    if rotation_degrees % 360 == 0:
        return frames_nchw
    return torch.rot90(frames_nchw, -(rotation_degrees // 90), dims=(2, 3)).contiguous()


def _convert_chunk(
    planes: list[torch.Tensor], rgb_nchw: torch.Tensor, *, matrix: ColourMatrix, value_range: ColourRange
) -> None:
    """Writes the RGB of luma and chroma planes into `rgb_nchw`."""
    if matrix not in _LUMA_WEIGHTS:
        raise ColourError(f"planes of luma and chroma need a matrix of {', '.join(_LUMA_WEIGHTS)}, got {matrix}")
    red_weight, blue_weight = _LUMA_WEIGHTS[matrix]
    green_weight = 1 - red_weight - blue_weight
    height, width = planes[0].shape[1:]
    luma = _scale_luma(planes[0], value_range=value_range)
    blue_difference, red_difference = (
        _enlarge_chroma(_scale_chroma(plane, value_range=value_range), height=height, width=width)
        for plane in planes[1:]
    )
    red_step, blue_step = 2 * (1 - red_weight), 2 * (1 - blue_weight)
    green = torch.sub(luma, red_difference, alpha=red_step * red_weight / green_weight)
    green.sub_(blue_difference, alpha=blue_step * blue_weight / green_weight)
    rgb_nchw[:, 0] = _round_to_bytes(red_difference.mul_(red_step).add_(luma))
    rgb_nchw[:, 1] = _round_to_bytes(green)
    rgb_nchw[:, 2] = _round_to_bytes(blue_difference.mul_(blue_step).add_(luma))


def _scale_luma(plane: torch.Tensor, *, value_range: ColourRange) -> torch.Tensor:
    luma = plane.to(torch.float32)
    return luma if value_range == "full" else luma.sub_(16).mul_(255 / 219)


def _scale_chroma(plane: torch.Tensor, *, value_range: ColourRange) -> torch.Tensor:
    chroma = plane.to(torch.float32).sub_(128)
    return chroma if value_range == "full" else chroma.mul_(255 / 224)


def _round_to_bytes(values: torch.Tensor) -> torch.Tensor:
    """Rounds in place to what uint8 can hold; the caller's assignment converts."""
    return values.round_().clamp_(0, 255)


def _enlarge_chroma(chroma_nhw: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
    """Gives the chroma plane at luma size: rows midway, columns on the left, edges repeated."""
    if chroma_nhw.shape[1] != height:
        doubled = functional.interpolate(chroma_nhw.unsqueeze(1), scale_factor=(2.0, 1.0), mode="bilinear")
        chroma_nhw = doubled.squeeze(1)[:, :height]
    if chroma_nhw.shape[2] == width:
        return chroma_nhw
    following = torch.cat([chroma_nhw[:, :, 1:], chroma_nhw[:, :, -1:]], dim=2)
    enlarged = torch.empty((*chroma_nhw.shape[:2], 2 * chroma_nhw.shape[2]), device=chroma_nhw.device)
    enlarged[:, :, 0::2] = chroma_nhw
    torch.add(chroma_nhw, following, out=following)
    enlarged[:, :, 1::2] = following.mul_(0.5)
    return enlarged[:, :, :width]
