"""Video files: times are kept, whatever they are, and FFV1 keeps every pixel."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from framevault.workers.errors import DecodeError
from framevault.workers.video_file import VideoCodec, VideoFile, VideoFormat, has_encoder
from tests.media import test_pattern as draw_pattern

NTSC = Fraction(1001, 30000)
"""A time base whose numerator is not 1."""


def video_format(codec: VideoCodec = "h264", *, ratio: Fraction = Fraction(1)) -> VideoFormat:
    return VideoFormat(codec=codec, time_base=NTSC, fps=29.97, sample_aspect_ratio=ratio, num_threads=1)


def write(
    path: Path, pts: list[int], chosen: VideoFormat, *, width: int = 64, height: int = 48
) -> list[NDArray[np.uint8]]:
    frames = [np.ascontiguousarray(draw_pattern(n, width=width, height=height)) for n in range(len(pts))]
    with VideoFile(path, chosen, first_pts=pts[0]) as video:
        for frame_hwc, each in zip(frames, pts, strict=True):
            video.add(frame_hwc, pts=each)
    return frames


def read(path: Path) -> list[tuple[Fraction, NDArray[np.uint8]]]:
    """Return times, in ticks of the time base that was asked for, and pictures."""
    with av.open(str(path)) as container:
        stream_base = container.streams.video[0].time_base
        assert stream_base is not None
        return [
            ((frame.pts or 0) * stream_base / NTSC, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
@pytest.mark.parametrize("pts", [[0, 1, 2], [0, 7, 8, 30], [90000, 90001, 95000], [5]])
def test_every_picture_has_its_own_time(tmp_path: Path, codec: VideoCodec, pts: list[int]) -> None:
    write(tmp_path / "x.mp4", pts, video_format(codec))

    assert [time for time, _ in read(tmp_path / "x.mp4")] == pts


def test_times_before_zero_are_all_shifted(tmp_path: Path) -> None:
    write(tmp_path / "x.mp4", [-5, 3, 9], video_format())

    assert [time for time, _ in read(tmp_path / "x.mp4")] == [0, 8, 14]


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1), (2, 31)])
def test_ffv1_keeps_every_pixel_at_any_size(tmp_path: Path, width: int, height: int) -> None:
    frames = write(tmp_path / "x.mp4", [0, 1], video_format("ffv1"), width=width, height=height)

    for frame_hwc, (_, found_hwc) in zip(frames, read(tmp_path / "x.mp4"), strict=True):
        assert np.array_equal(frame_hwc, found_hwc)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (17, 16)])
def test_h264_keeps_what_eyes_see_at_any_size(tmp_path: Path, width: int, height: int) -> None:
    frames = write(tmp_path / "x.mp4", [0, 1], video_format(), width=width, height=height)

    for frame_hwc, (_, found_hwc) in zip(frames, read(tmp_path / "x.mp4"), strict=True):
        assert found_hwc.shape == frame_hwc.shape
        assert np.abs(found_hwc.astype(float) - frame_hwc).mean() < 12


def test_players_are_told_of_colours_and_pixel_shapes(tmp_path: Path) -> None:
    write(tmp_path / "x.mp4", [0, 1], video_format(ratio=Fraction(4, 3)))

    with av.open(str(tmp_path / "x.mp4")) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
        assert (context.sample_aspect_ratio, context.name) == (Fraction(4, 3), "h264")
        assert (int(frame.colorspace), int(frame.color_range)) == (5, 1)


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "x.mp4", video_format(), first_pts=0) as video:
        video.add(np.zeros((16, 8, 3), np.uint8), pts=0)

        with pytest.raises(DecodeError, match="must be 8x16 as the first one, got 16x8"):
            video.add(np.zeros((8, 16, 3), np.uint8), pts=1)


def test_both_encoders_are_here() -> None:
    assert has_encoder("h264")
    assert has_encoder("ffv1")
