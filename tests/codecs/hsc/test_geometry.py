"""Frames of any size <-> square pictures."""

import pytest
import torch

from framevault.codecs.hsc.geometry import Placement, from_square, place, to_square
from framevault.codecs.testing import smooth_frames


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 128), Placement(0, 0, 128, 128)),
        ((16, 16), Placement(0, 0, 128, 128)),
        ((144, 176), Placement(11, 0, 105, 128)),
        ((1280, 720), Placement(0, 28, 128, 72)),
        ((1, 65535), Placement(63, 0, 1, 128)),
        ((3, 2), Placement(0, 21, 128, 85)),
    ],
)
def test_a_frame_lies_whole_and_in_proportion_in_the_middle(size: tuple[int, int], expected: Placement) -> None:
    assert place(*size, resolution=128) == expected


def test_frames_of_the_squares_size_come_back_to_the_bit() -> None:
    frames_nchw = smooth_frames(3, 64, 64)

    square_nchw = to_square(frames_nchw, resolution=64, device="cpu")

    assert float(square_nchw.min()) >= -1
    assert float(square_nchw.max()) <= 1
    assert torch.equal(from_square(square_nchw, height=64, width=64), frames_nchw)


def test_what_is_beside_a_frame_repeats_its_border() -> None:
    frames_nchw = smooth_frames(1, 32, 64)

    square_nchw = to_square(frames_nchw, resolution=64, device="cpu")

    assert torch.equal(square_nchw[:, :, :16], square_nchw[:, :, 16:17].expand(-1, -1, 16, -1))
    assert torch.equal(square_nchw[:, :, 48:], square_nchw[:, :, 47:48].expand(-1, -1, 16, -1))
    assert torch.equal(from_square(square_nchw, height=32, width=64), frames_nchw)


@pytest.mark.parametrize("size", [(200, 120), (33, 60), (90, 90)])
def test_frames_of_other_sizes_come_back_nearly(size: tuple[int, int]) -> None:
    frames_nchw = smooth_frames(2, *size)

    back_nchw = from_square(to_square(frames_nchw, resolution=64, device="cpu"), height=size[0], width=size[1])

    assert back_nchw.shape == frames_nchw.shape
    # The waves have a period of 44 pixels and more, of which 64 across keep most.
    assert (back_nchw.float() - frames_nchw.float()).abs().mean() < 4


def test_values_beyond_the_range_and_no_numbers_become_pixels() -> None:
    square_nchw = torch.tensor([-9.0, 9.0, float("nan"), float("inf")]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)

    assert from_square(square_nchw, height=2, width=2)[0, 0].tolist() == [[0, 255], [0, 255]]
