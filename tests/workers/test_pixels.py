"""Layouts of frames and where they lie in the ring."""

import numpy as np
import pytest

from framevault.workers.pixels import FrameShape, PixelLayout, choose_layout, plain_layout, view_slots


@pytest.mark.parametrize(
    ("pixel_format", "layout"),
    [
        ("yuv420p", "yuv420p"),
        ("yuvj420p", "yuv420p"),
        ("yuva420p10le", "yuv420p"),
        ("nv12", "yuv420p"),
        ("p010le", "yuv420p"),
        ("yuyv422", "yuv422p"),
        ("yuv411p", "yuv422p"),
        ("yuv422p10le", "yuv422p"),
        ("yuv440p", "yuv444p"),
        ("yuva444p12le", "yuv444p"),
        ("gray16le", "gray"),
        ("ya8", "gray"),
        ("monob", "gray"),
        ("gbrp", "rgb24"),
        ("pal8", "rgb24"),
        ("bgr0", "rgb24"),
    ],
)
def test_a_pixel_format_keeps_its_chroma_resolution(pixel_format: str, layout: str) -> None:
    assert choose_layout(pixel_format) == layout


def test_only_eight_bit_planar_formats_need_no_conversion() -> None:
    names = ["yuvj422p", "yuva444p", "gray", "rgb24", "yuv420p10le", "nv12", "gbrp"]

    found = [plain_layout(name) for name in names]

    assert found == ["yuv422p", "yuv444p", "gray", "rgb24", None, None, None]


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("yuv420p", ((3, 5), (2, 3), (2, 3))),
        ("yuv422p", ((3, 5), (3, 3), (3, 3))),
        ("yuv444p", ((3, 5), (3, 5), (3, 5))),
        ("gray", ((3, 5),)),
        ("rgb24", ((3, 5, 3),)),
    ],
)
def test_chroma_sizes_are_rounded_up(layout: PixelLayout, shapes: tuple[tuple[int, ...], ...]) -> None:
    assert FrameShape(layout=layout, height=3, width=5).plane_shapes == shapes


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "gray", "rgb24"])
def test_planes_of_all_slots_fill_the_ring_without_overlap(layout: PixelLayout) -> None:
    shape = FrameShape(layout=layout, height=7, width=9)
    ring = np.zeros(4 * shape.slot_bytes, np.uint8)

    for plane in view_slots(ring, shape, first_slot=1, num_slots=2):
        plane += 1

    used = sum(int(np.prod(plane)) for plane in shape.plane_shapes)
    slots = ring.reshape(4, shape.slot_bytes)
    assert ring.max() == 1
    assert slots.sum(axis=1).tolist() == [0, used, used, 0]
