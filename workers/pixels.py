"""The few layouts in which frames lie in the ring, and where their planes lie in a slot.

Four planar 8-bit YUV layouts go through as the decoder gives them. Every other pixel format is brought, in the child,
to the one of them that keeps its chroma resolution, or to rgb24 if it is RGB. Samples of more than 8 bits are reduced;
an alpha channel is dropped, the colours under it stay as they are stored (they are not blended with anything).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PixelLayout = Literal["yuv420p", "yuv422p", "yuv444p", "gray", "rgb24"]
"""Planes of luma and chroma, luma alone, or interleaved RGB; all of 8 bits."""

_CHROMA_DIVISORS: dict[PixelLayout, tuple[int, int]] = {"yuv420p": (2, 2), "yuv422p": (1, 2), "yuv444p": (1, 1)}

_PLAIN_FORMATS: dict[str, PixelLayout] = {
    "yuv420p": "yuv420p",
    "yuv422p": "yuv422p",
    "yuv444p": "yuv444p",
    "gray": "gray",
    "rgb24": "rgb24",
}

# Patterns over libavutil's names, first match wins. 4:1:1, 4:1:0 and 4:4:0 go to the next layout that loses no chroma.
_LAYOUT_PATTERNS: tuple[tuple[str, PixelLayout], ...] = (
    (r"yuv[aj]?420p|nv12|nv21|p01\d|p016", "yuv420p"),
    (r"yuv[aj]?422p|yuyv422|uyvy422|yvyu422|nv16|nv20|p2\d\d|y21\d|yuvj?41[01]p|uyyvyy411", "yuv422p"),
    (r"yuv[aj]?44[04]p|nv24|nv42|p4\d\d|vuy[ax]|uyva|ayuv|vyu444|v30x|xv\d\d|y41\d", "yuv444p"),
    (r"gray|ya8|ya16|yaf|mono[wb]", "gray"),
)

SLOT_ALIGNMENT_BYTES = 64
"""A cache line: no two slots share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameShape:
    """Layout and coded size of the frames of one segment."""

    layout: PixelLayout
    """Layout of the planes."""
    height: int
    """Coded height, in pixels."""
    width: int
    """Coded width, in pixels."""

    @property
    def plane_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each plane, [rows, columns] or, for rgb24, [rows, columns, 3]; chroma sizes are rounded up."""
        if self.layout == "rgb24":
            return ((self.height, self.width, 3),)
        if self.layout == "gray":
            return ((self.height, self.width),)
        row_divisor, column_divisor = _CHROMA_DIVISORS[self.layout]
        chroma = (-(-self.height // row_divisor), -(-self.width // column_divisor))
        return ((self.height, self.width), chroma, chroma)

    @property
    def slot_bytes(self) -> int:
        """Bytes from one slot of the ring to the next."""
        num_bytes = sum(math.prod(shape) for shape in self.plane_shapes)
        return -(-num_bytes // SLOT_ALIGNMENT_BYTES) * SLOT_ALIGNMENT_BYTES


def choose_layout(pixel_format: str) -> PixelLayout:
    """Gives the layout in which frames of libavutil's pixel format are handed over."""
    for pattern, layout in _LAYOUT_PATTERNS:
        if re.match(pattern, pixel_format):
            return layout
    return "rgb24"


def plain_layout(pixel_format: str) -> PixelLayout | None:
    """Gives the layout whose planes are the pixel format's own first planes, or None: frames must be converted."""
    return _PLAIN_FORMATS.get(re.sub(r"^yuv[aj]4", "yuv4", pixel_format))


def view_slots(
    ring: NDArray[np.uint8], shape: FrameShape, *, first_slot: int, num_slots: int
) -> tuple[NDArray[np.uint8], ...]:
    """Gives each plane of consecutive slots as a view [slots, rows, columns(, 3)] into the ring, without a copy."""
    start = first_slot * shape.slot_bytes
    slots = ring[start : start + num_slots * shape.slot_bytes].reshape(num_slots, shape.slot_bytes)
    planes: list[NDArray[np.uint8]] = []
    offset = 0
    for plane_shape in shape.plane_shapes:
        size = math.prod(plane_shape)
        strides = tuple(np.cumprod((1, *plane_shape[:0:-1]))[::-1].tolist())
        plane = slots[:, offset : offset + size]
        planes.append(np.lib.stride_tricks.as_strided(plane, (num_slots, *plane_shape), (shape.slot_bytes, *strides)))
        offset += size
    return tuple(planes)
