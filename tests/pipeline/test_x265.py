"""x265, which rates are compared with: its bytes must be the frames' and nothing else's."""

import numpy as np
import pytest

from framevault.pipeline.x265 import RgbFrame, X265Settings, count_headers, decode_x265, encode_x265
from tests.media import test_pattern as draw_pattern


@pytest.fixture(scope="module")
def frames() -> list[RgbFrame]:
    return [draw_pattern(number, width=96, height=64) for number in range(6)]


@pytest.mark.parametrize("is_intra", [True, False])
def test_frames_come_back_in_order_and_closer_with_a_lower_crf(frames: list[RgbFrame], *, is_intra: bool) -> None:
    errors, sizes = [], []

    for crf in (10, 30):
        packets = encode_x265(frames, X265Settings(crf=crf, is_intra=is_intra), fps=25)
        decoded = decode_x265(packets)
        assert [frame.shape for frame in decoded] == [frame.shape for frame in frames]
        errors.append(float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, frames, strict=True)])))
        sizes.append(sum(map(len, packets)))

    assert errors[0] < errors[1] < 20
    assert sizes[0] > sizes[1]


def test_headers_are_counted_once_and_settings_not_at_all() -> None:
    """A black frame is a few bytes; the parameter sets before the first are less than 200."""
    black = [np.zeros((64, 96, 3), np.uint8)] * 5

    packets = encode_x265(black, X265Settings(crf=30, is_intra=True), fps=25)

    assert len(packets[0]) < 250
    assert all(len(packet) < 60 for packet in packets[1:])


def test_odd_sides_are_cut_to_even_ones() -> None:
    packets = encode_x265([np.zeros((65, 97, 3), np.uint8)], X265Settings(crf=30, is_intra=True), fps=25)

    assert decode_x265(packets)[0].shape == (64, 96, 3)


def test_frames_smaller_than_x265_can_stand_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 64x64 or larger, got 48x32"):
        encode_x265([np.zeros((32, 48, 3), np.uint8)], X265Settings(crf=30, is_intra=False), fps=25)


def test_with_a_fixed_quantiser_a_frame_takes_what_it_takes_alone(frames: list[RgbFrame]) -> None:
    settings = X265Settings(qp=34, is_intra=True, preset="ultrafast")

    together, alone = (encode_x265(some, settings, fps=25) for some in (frames, frames[2:3]))

    assert len(together[2]) == len(alone[0]) - count_headers(alone)
    assert 60 < count_headers(alone) < 120


def test_keyframes_come_as_often_as_is_asked(frames: list[RgbFrame]) -> None:
    still = [frames[0]] * 6

    sizes = [
        sorted(map(len, encode_x265(still, X265Settings(crf=30, is_intra=False, keyframe_distance=distance), fps=25)))
        for distance in (6, 3)
    ]

    assert sizes[0][-2] < sizes[0][-1] / 4
    assert sizes[1][-2] > sizes[1][-1] / 2


@pytest.mark.parametrize(
    ("crf", "qp", "message"),
    [
        (None, None, "either crf or qp, got crf None and qp None"),
        (20, 20, "either crf or qp"),
        (52, None, "must be 0 to 51, got 52"),
        (None, -1, "must be 0 to 51, got -1"),
    ],
)
def test_rates_that_x265_does_not_know_are_refused(crf: int | None, qp: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        X265Settings(crf=crf, qp=qp, is_intra=True)
