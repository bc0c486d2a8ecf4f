"""Damaged, changed and oddly cut sources: what decodes whole is given, the rest is an error that says what is wrong."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from framevault.pipeline.probing import SourceProber
from framevault.workers.errors import DecodeError, SourceChangedError, SourceUnavailableError
from framevault.workers.frames import FrameReader
from framevault.workers.tasks import Segment
from tests.media import VideoSpec, flip_bytes, make_pictures, make_video
from tests.workers.decoding_rig import assert_same_frames, cut, decode_whole, read_planes

GOP = 8


@pytest.fixture(scope="module")
def prober() -> Iterator[SourceProber]:
    with SourceProber() as prober:
        yield prober


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader() as reader:
        yield reader


def decode_each(reader: FrameReader, segments: list[Segment]) -> tuple[dict[int, int], dict[int, str]]:
    """Decode every segment; give the frames of the good ones and the messages of the bad ones, by number."""
    good: dict[int, int] = {}
    bad: dict[int, str] = {}
    for segment in segments:
        try:
            good[segment.number] = len(read_planes(reader, [segment]))
        except DecodeError as error:
            bad[segment.number] = str(error)
    return good, bad


def test_of_an_mp4_that_is_cut_off_the_segments_before_the_cut_decode(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    spec = VideoSpec(num_frames=5 * GOP, gop=GOP, b_frames=2, container_options=(("movflags", "faststart"),))
    whole = make_video(tmp_path / "whole.mp4", spec)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    segments = cut(prober, path, segment_frames=GOP)

    good, bad = decode_each(reader, segments)

    assert sum(segment.num_frames for segment in segments) == 5 * GOP
    assert len(good) >= 2
    assert len(bad) >= 1
    assert max(good) < min(bad)
    missing = segments[min(bad)]
    assert f"{path}: expected {missing.num_frames} frames, found " in bad[missing.number]
    assert f"(segment {missing.number}, pts {missing.first_pts} to {missing.last_pts})" in bad[missing.number]
    assert_same_frames(
        read_planes(reader, segments[:2]), decode_whole(whole)[: sum(s.num_frames for s in segments[:2])]
    )


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "mpeg4.avi", "hevc.mp4"])
def test_a_keyframe_that_is_overwritten_costs_its_own_segment_only(
    name: str, tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    codec = {"mpeg4.avi": "mpeg4", "hevc.mp4": "libx265"}.get(name, "libx264")
    # HEVC notices damage only by the pictures' hashes, which not every encoder writes.
    options = (("x265-params", f"keyint={GOP}:bframes=0:hash=1:pools=1:frame-threads=1:log-level=none"),)
    spec = VideoSpec(num_frames=3 * GOP, gop=GOP, codec=codec, options=options if codec == "libx265" else ())
    path = make_video(tmp_path / name, spec)
    segments = cut(prober, path, segment_frames=GOP)
    assert len(segments) == 3
    assert segments[1].packets is not None
    run = segments[1].packets
    # Behind the headers of packet and stream, where the picture begins.
    flip_bytes(path, start=run.start_position + min(200, run.start_size // 2), count=60)

    good, bad = decode_each(reader, cut(prober, path, segment_frames=GOP))

    assert set(good) == {0, 2}
    assert set(bad) == {1}
    assert f"{path}: expected {GOP} frames, found " in bad[1]


def test_damage_is_flagged_or_harmless_but_never_costs_a_frame_in_silence(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=3 * GOP, gop=GOP, b_frames=2))
    whole = path.read_bytes()
    chance = random.Random(5)
    num_damaged = 0

    for _ in range(20):
        path.write_bytes(whole)
        flip_bytes(path, start=chance.randrange(1000, len(whole) - 3000), count=4)
        good, bad = decode_each(reader, cut(prober, path, segment_frames=GOP))
        assert sum(good.values()) == sum(segment.num_frames for segment in cut(prober, path) if segment.number in good)
        num_damaged += bool(bad)

    assert num_damaged >= 8


def test_a_lossless_source_with_checksums_hides_no_flipped_byte(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    spec = VideoSpec(codec="ffv1", num_frames=6, gop=1, options=(("level", "3"), ("slicecrc", "1")))
    path = make_video(tmp_path / "clip.mkv", spec)
    whole = path.read_bytes()
    segments = cut(prober, path, segment_frames=1)
    chance = random.Random(1)

    for segment in segments[1:]:
        assert segment.packets is not None
        path.write_bytes(whole)
        flip_bytes(
            path, start=segment.packets.start_position + chance.randrange(20, segment.packets.start_size), count=1
        )
        good, bad = decode_each(reader, cut(prober, path, segment_frames=1))
        assert set(bad) == {segment.number}
        assert set(good) == set(range(6)) - {segment.number}


def test_leading_pictures_of_a_stream_cut_at_an_open_gop_do_not_spoil_it(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    for codec in ("libx264", "libx265", "mpeg2video"):
        spec = VideoSpec(codec=codec, b_frames=2, is_open_gop=True, num_frames=30)
        whole = make_video(tmp_path / f"{codec}.ts", spec)
        second = cut(prober, whole, segment_frames=1)[1]
        assert second.packets is not None
        path = tmp_path / f"cut_{codec}.ts"
        path.write_bytes(whole.read_bytes()[second.packets.start_position :])

        good, bad = decode_each(reader, cut(prober, path, segment_frames=1))

        assert bad == {}
        assert sum(good.values()) >= 20


def test_a_source_that_was_replaced_is_an_error(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    path = make_video(tmp_path / "clip.mp4")
    segments = cut(prober, path)
    make_video(path, VideoSpec(num_frames=24))

    with pytest.raises(SourceChangedError, match=r"clip\.mp4: expected version \d+-\d+, found \d+-\d+ \(segment 0"):
        read_planes(reader, segments)


def test_a_source_that_changes_while_it_is_read_is_an_error(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=60, gop=60))
    (segment,) = cut(prober, path, segment_frames=100)

    with FrameReader(ring_bytes=1) as reader:
        frames = reader.frames(segment)
        next(frames)
        os.utime(path, ns=(0, 0))
        with pytest.raises(SourceChangedError, match="it changed while it was read"):
            list(frames)


def test_a_change_between_two_segments_is_an_error(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    path = make_video(tmp_path / "clip.mp4")
    segments = cut(prober, path)
    read_planes(reader, segments[:1])
    os.utime(path, ns=(0, 0))

    with pytest.raises(SourceChangedError):
        read_planes(reader, segments[1:])


def test_a_source_that_is_gone_is_the_environments_fault(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    path = make_video(tmp_path / "clip.mp4")
    segments = cut(prober, path)
    path.rename(tmp_path / "other.mp4")

    with pytest.raises(SourceUnavailableError, match=r"can't open .*clip\.mp4"):
        read_planes(reader, segments)


def test_a_damaged_picture_costs_its_own_segment_only(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    folder = make_pictures(tmp_path / "stills", [(40, 30)] * 3)
    (folder / "001.png").write_bytes(b"no picture")
    half = (folder / "002.png").read_bytes()
    (folder / "003.png").write_bytes(half[: len(half) // 2])
    segments = cut(prober, folder, segment_frames=1)

    good, bad = decode_each(reader, segments)

    assert set(good) == {0, 2}
    assert "001.png: expected a picture" in bad[1]
    assert "003.png: the picture can't be decoded" in bad[3]
    assert "(expected 1 frames, found 0)" in bad[3]


def test_a_picture_that_changes_after_planning_is_an_error(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    folder = make_pictures(tmp_path / "stills", [(40, 30)] * 2)
    segments = cut(prober, folder)
    os.utime(folder / "001.png", ns=(0, 0))

    with pytest.raises(SourceChangedError, match=r"001\.png: expected version"):
        read_planes(reader, segments)


def test_segments_of_two_files_may_alternate(tmp_path: Path, prober: SourceProber, reader: FrameReader) -> None:
    paths = [make_video(tmp_path / name, VideoSpec(b_frames=2)) for name in ("a.mp4", "b.mkv")]
    first, second = (cut(prober, path) for path in paths)
    truth = decode_whole(paths[0])

    found = [
        planes for a, b in zip(first, second, strict=True) for planes in read_planes(reader, [a, b])[: a.num_frames]
    ]

    assert_same_frames(found, truth)


def test_a_video_whose_frames_change_size_is_an_error(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    small = make_video(tmp_path / "small.ts", VideoSpec(num_frames=GOP)).read_bytes()
    large = make_video(tmp_path / "large.ts", VideoSpec(num_frames=GOP, width=128)).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)

    _, bad = decode_each(reader, cut(prober, path, segment_frames=GOP))

    assert "expected a frame of 96x64, got 128x64" in bad[1]


def test_a_recording_joined_from_two_gives_the_frames_of_both(
    tmp_path: Path, prober: SourceProber, reader: FrameReader
) -> None:
    part = make_video(tmp_path / "part.ts", VideoSpec(num_frames=3 * GOP, gop=GOP, b_frames=2))
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)

    segments = cut(prober, path, segment_frames=GOP)
    good, bad = decode_each(reader, segments)

    # libavformat takes the jump in the packet counters at the joint for a loss in the packet before it.
    assert set(bad) == {2}
    assert "is cut off" in bad[2]
    assert good == dict.fromkeys([0, 1, 3, 4, 5], GOP)
    assert_same_frames(read_planes(reader, segments[3:]), decode_whole(part))
