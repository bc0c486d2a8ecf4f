"""Planes to RGB, against swscale (through PyAV) and against what the standards say."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from framevault.pipeline.probing import SourceProber
from framevault.workers.colour import ColourError, planes_to_rgb, resolve_matrix, rgb_from_batch, turn_upright
from framevault.workers.frames import FrameReader
from framevault.workers.pixels import PixelLayout
from framevault.workers.tasks import ColourMatrix, ColourRange
from tests.media import VideoSpec, make_pictures, make_video, test_pattern
from tests.workers.decoding_rig import cut

MATRIX_NUMBERS: dict[ColourMatrix, int] = {"bt709": 1, "bt601": 5, "smpte240m": 7, "bt2020": 9}
"""AVColorSpace numbers; swscale counts alike."""


@pytest.fixture(scope="module")
def prober() -> Iterator[SourceProber]:
    with SourceProber() as prober:
        yield prober


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader() as reader:
        yield reader


def read_rgb(reader: FrameReader, prober: SourceProber, path: Path) -> torch.Tensor:
    """All frames of a file as one tensor."""
    segments = cut(prober, path, segment_frames=1000)
    return torch.cat([rgb_from_batch(batch) for segment in segments for batch in reader.batches(segment)])


def smooth_planes(layout: PixelLayout, *, height: int, width: int) -> list[torch.Tensor]:
    """Planes without sharp edges, where the way chroma is upsampled makes no difference."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [
        (70 * np.sin(columns / 40) + 128, 40 * np.cos(rows / 50) + 128, 40 * np.sin((rows + columns) / 60) + 128)[n]
        for n in range(1 if layout == "gray" else 3)
    ]
    steps = {"yuv420p": (2, 2), "yuv422p": (1, 2)}.get(layout, (1, 1))
    planes = [waves[0], *(wave[:: steps[0], :: steps[1]] for wave in waves[1:])]
    return [torch.from_numpy(plane.round().astype(np.uint8))[None] for plane in planes]


def swscale_rgb(
    planes: list[torch.Tensor], layout: str, *, matrix: ColourMatrix, value_range: ColourRange
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What swscale makes of the same planes."""
    height, width = planes[0].shape[1:]
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = values[0].numpy()
        plane.update(padded.tobytes())
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=MATRIX_NUMBERS[matrix],
        src_color_range=2 if value_range == "full" else 1,
        dst_color_range=2,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


@pytest.mark.parametrize("value_range", ["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020", "smpte240m"])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p"])
def test_smooth_pictures_come_out_as_swscale_makes_them(
    layout: PixelLayout, matrix: ColourMatrix, value_range: ColourRange
) -> None:
    planes = smooth_planes(layout, height=64, width=96)

    ours = planes_to_rgb(planes, layout=layout, matrix=matrix, value_range=value_range)[0].permute(1, 2, 0).numpy()
    theirs = swscale_rgb(planes, layout, matrix=matrix, value_range=value_range)

    difference = np.abs(ours.astype(int) - theirs.astype(int))
    # swscale computes with coarse tables and repeats chroma instead of interpolating: means up to 0.92 were measured
    # here, most of it where it loses the last bits. A wrong matrix or range is far outside, as the next test shows.
    assert difference.max() <= 5
    assert difference.mean() < 1.2


def test_a_wrong_matrix_or_range_would_be_noticed() -> None:
    planes = smooth_planes("yuv444p", height=64, width=96)
    truth = swscale_rgb(planes, "yuv444p", matrix="bt601", value_range="limited").astype(int)

    for matrix, value_range in (("bt709", "limited"), ("bt601", "full")):
        rgb = planes_to_rgb(planes, layout="yuv444p", matrix=matrix, value_range=value_range)  # type: ignore[arg-type]  # literals of a tuple
        assert np.abs(rgb[0].permute(1, 2, 0).numpy().astype(int) - truth).mean() > 2


@pytest.mark.parametrize(
    ("luma", "blue", "red", "value_range", "expected"),
    [
        (16, 128, 128, "limited", (0, 0, 0)),
        (235, 128, 128, "limited", (255, 255, 255)),
        (0, 128, 128, "full", (0, 0, 0)),
        (255, 128, 128, "full", (255, 255, 255)),
        (81, 90, 240, "limited", (255, 0, 0)),
        (145, 54, 34, "limited", (0, 255, 0)),
        (41, 240, 110, "limited", (0, 0, 255)),
    ],
)
def test_the_colours_that_bt601_tabulates_are_met(
    luma: int, blue: int, red: int, value_range: ColourRange, expected: tuple[int, int, int]
) -> None:
    planes = [torch.full((1, 2, 2), value, dtype=torch.uint8) for value in (luma, blue, red)]

    rgb = planes_to_rgb(planes, layout="yuv444p", matrix="bt601", value_range=value_range)

    assert np.abs(rgb[0, :, 0, 0].numpy().astype(int) - expected).max() <= 1


def test_gray_becomes_three_equal_channels() -> None:
    gray = torch.tensor([[[16, 125, 235]]], dtype=torch.uint8)

    full = planes_to_rgb([gray], layout="gray", matrix="unspecified", value_range="full")
    limited = planes_to_rgb([gray], layout="gray", matrix="unspecified", value_range="limited")

    assert full.tolist() == [[[[16, 125, 235]]] * 3]
    assert limited.tolist() == [[[[0, 127, 255]]] * 3]


def test_chroma_columns_are_sited_on_the_left_and_rows_midway() -> None:
    luma = torch.full((1, 4, 4), 128, dtype=torch.uint8)
    flat = torch.full((1, 2, 2), 128, dtype=torch.uint8)
    columns = torch.tensor([[[128, 168], [128, 168]]], dtype=torch.uint8)
    rows = torch.tensor([[[128, 128], [168, 168]]], dtype=torch.uint8)

    from_columns = planes_to_rgb([luma, flat, columns], layout="yuv420p", matrix="bt601", value_range="full")
    from_rows = planes_to_rgb([luma, flat, rows], layout="yuv420p", matrix="bt601", value_range="full")

    assert [round((red - 128) / 1.402) for red in from_columns[0, 0, 0].tolist()] == [0, 20, 40, 40]
    assert [round((red - 128) / 1.402) for red in from_rows[0, 0, :, 0].tolist()] == [0, 10, 30, 40]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 17), (16, 4096), (5, 2)])
def test_odd_sizes_keep_their_size(height: int, width: int) -> None:
    chroma = (1, -(-height // 2), -(-width // 2))
    planes = [torch.full(shape, 128, dtype=torch.uint8) for shape in ((1, height, width), chroma, chroma)]

    rgb = planes_to_rgb(planes, layout="yuv420p", matrix="bt709", value_range="full")

    assert rgb.shape == (1, 3, height, width)
    assert set(rgb.flatten().tolist()) == {128}


def test_frames_are_converted_alike_alone_and_in_a_large_batch() -> None:
    planes = [plane.repeat(5, 1, 1) for plane in smooth_planes("yuv420p", height=1080, width=1920)]

    many = planes_to_rgb(planes, layout="yuv420p", matrix="bt709", value_range="limited")
    one = planes_to_rgb([plane[4:] for plane in planes], layout="yuv420p", matrix="bt709", value_range="limited")

    assert torch.equal(many[4:], one)


def test_planes_that_say_they_are_rgb_are_an_error() -> None:
    planes = smooth_planes("yuv444p", height=2, width=2)

    with pytest.raises(ColourError, match="got rgb"):
        planes_to_rgb(planes, layout="yuv444p", matrix="rgb", value_range="full")


def test_a_source_that_names_no_matrix_is_taken_by_its_height() -> None:
    assert resolve_matrix("unspecified", height=720) == "bt709"
    assert resolve_matrix("unspecified", height=719) == "bt601"
    assert resolve_matrix("bt2020", height=100) == "bt2020"


def test_frames_are_turned_clockwise() -> None:
    frame = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])

    assert turn_upright(frame, rotation_degrees=90).tolist() == [[[[4, 1], [5, 2], [6, 3]]]]
    assert turn_upright(frame, rotation_degrees=180).tolist() == [[[[6, 5, 4], [3, 2, 1]]]]
    assert turn_upright(frame, rotation_degrees=270).tolist() == [[[[3, 6], [2, 5], [1, 4]]]]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_video_comes_out_as_players_show_it(
    degrees: int, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    spec = VideoSpec(rotation_degrees=degrees, num_frames=2, pixel_format="yuv444p", options=(("crf", "1"),))
    pattern = np.rot90(test_pattern(0, width=96, height=64), -(degrees // 90))

    rgb = read_rgb(reader, prober, make_video(tmp_path / "clip.mp4", spec))

    assert rgb.shape[2:] == pattern.shape[:2]
    assert np.abs(rgb[0].permute(1, 2, 0).numpy().astype(int) - pattern).mean() < 6


@pytest.mark.parametrize(("matrix", "number"), MATRIX_NUMBERS.items())
@pytest.mark.parametrize("value_range", [1, 2])
def test_a_video_is_read_with_the_matrix_and_range_that_it_states(
    matrix: str, number: int, value_range: int, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    spec = VideoSpec(codec="ffv1", pixel_format="yuv444p", num_frames=1, colour_matrix=number, colour_range=value_range)
    path = make_video(tmp_path / "clip.mkv", spec)

    rgb = read_rgb(reader, prober, path)[0].permute(1, 2, 0).numpy().astype(int)

    assert np.abs(rgb - test_pattern(0, width=96, height=64)).mean() < 1.5


def test_rgb_pictures_come_through_untouched(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    folder = make_pictures(tmp_path / "stills", [(31, 17)])

    rgb = read_rgb(reader, prober, folder)

    assert np.array_equal(rgb[0].permute(1, 2, 0).numpy(), test_pattern(0, width=31, height=17))


def test_the_result_outlives_the_ring(tmp_path: Path, prober: SourceProber) -> None:
    folder = make_pictures(tmp_path / "stills", [(1, 1)] * 3)
    (segment,) = cut(prober, folder)

    with FrameReader() as reader:
        frames = [rgb_from_batch(batch) for batch in reader.batches(segment, batch_size=1)]

    expected = [test_pattern(number, width=1, height=1).reshape(1, 3, 1, 1).tolist() for number in range(3)]
    assert [frame.tolist() for frame in frames] == expected
