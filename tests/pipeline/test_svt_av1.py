"""SVT-AV1, which rates are compared with: its bytes must be the frames' and nothing else's."""

import numpy as np
import pytest

from framevault.pipeline.svt_av1 import SvtAv1Settings, count_headers, decode_svt_av1, encode_svt_av1
from framevault.pipeline.x265 import RgbFrame
from tests.media import test_pattern as draw_pattern


@pytest.fixture(scope="module")
def frames() -> list[RgbFrame]:
    return [draw_pattern(number, width=96, height=64) for number in range(6)]


def settings(crf: int, *, keyframe_distance: int = 128) -> SvtAv1Settings:
    return SvtAv1Settings(crf=crf, preset=10, keyframe_distance=keyframe_distance)


def test_frames_come_back_in_order_and_closer_with_a_lower_crf(frames: list[RgbFrame]) -> None:
    errors, sizes = [], []

    for crf in (10, 50):
        packets = encode_svt_av1(frames, settings(crf), fps=25)
        decoded = decode_svt_av1(packets)
        assert [frame.shape for frame in decoded] == [frame.shape for frame in frames]
        errors.append(float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, frames, strict=True)])))
        sizes.append(sum(map(len, packets)))

    assert errors[0] < errors[1] < 20
    assert sizes[0] > sizes[1]


def test_headers_are_those_of_the_keyframes(frames: list[RgbFrame]) -> None:
    once = count_headers(encode_svt_av1(frames, settings(40), fps=25))
    twice = count_headers(encode_svt_av1(frames, settings(40, keyframe_distance=3), fps=25))

    assert 8 < once < 20
    assert twice == 2 * once


def test_a_frame_like_the_one_before_takes_a_few_bytes() -> None:
    """Temporal delimiters and settings would take more."""
    packets = encode_svt_av1([np.full((64, 96, 3), 90, np.uint8)] * 5, settings(40), fps=25)

    assert sorted(map(len, packets))[0] == 3
    assert sum(map(len, packets)) < 150


def test_the_library_prints_nothing(frames: list[RgbFrame], capfd: pytest.CaptureFixture[str]) -> None:
    encode_svt_av1(frames[:1], settings(60), fps=25)

    assert capfd.readouterr() == ("", "")


def test_what_svt_av1_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 64x64 or larger, got 48x32"):
        encode_svt_av1([np.zeros((32, 48, 3), np.uint8)], settings(30), fps=25)
    for crf in (0, 64):
        with pytest.raises(ValueError, match=f"crf must be 1 to 63, got {crf}"):
            settings(crf)
    with pytest.raises(ValueError, match="preset must be 0 to 13, got 14"):
        SvtAv1Settings(crf=30, preset=14, keyframe_distance=10)
