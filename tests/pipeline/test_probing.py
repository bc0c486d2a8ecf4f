"""What is learnt of a source, and which inputs are refused, with what words."""

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from framevault.pipeline.planning import PlanSettings, plan_source
from framevault.pipeline.probing import PictureTable, ProbedSource, SourceProber, probe_source
from framevault.pipeline.sources import expand_inputs
from framevault.workers.errors import SourceUnavailableError, UnreadableSourceError
from framevault.workers.limits import DecodeLimits
from framevault.workers.packets import PacketTable
from tests.media import VideoSpec, make_audio_only, make_pictures, make_video


@pytest.fixture(scope="module")
def prober() -> Iterator[SourceProber]:
    with SourceProber() as prober:
        yield prober


def probe(prober: SourceProber, path: Path) -> ProbedSource:
    (location,) = expand_inputs([str(path)])
    return prober.probe(location)


def test_a_video_is_described_and_identified_by_its_bytes(tmp_path: Path, prober: SourceProber) -> None:
    path = make_video(tmp_path / "clip.mp4", VideoSpec(b_frames=2, sample_aspect_ratio=(4, 3), colour_matrix=1))

    info = probe(prober, path).info

    assert info.video_id == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert (info.name, info.kind, info.container[:3], info.codec) == ("clip.mp4", "video", "mov", "h264")
    assert (info.width, info.height, info.pixel_format) == (96, 64, "yuv420p")
    assert (info.num_frames, info.fps, info.duration_s, info.size_bytes) == (25, 25.0, 1.0, path.stat().st_size)
    assert (info.sample_aspect_ratio, info.colour_matrix, info.colour_range) == ((4, 3), "bt709", "limited")


def test_keyframes_are_found_by_demuxing(tmp_path: Path, prober: SourceProber) -> None:
    table = probe(prober, make_video(tmp_path / "clip.mp4", VideoSpec(gop=10))).table

    assert isinstance(table, PacketTable)
    assert [key.packet_number for key in table.keyframes] == [0, 10, 20]
    assert table.frames_in_display_order() == list(range(25))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_the_clockwise_turn_and_swaps_the_shown_size(
    degrees: int, tmp_path: Path, prober: SourceProber
) -> None:
    info = probe(prober, make_video(tmp_path / "clip.mp4", VideoSpec(rotation_degrees=degrees))).info

    assert info.rotation_degrees == degrees
    assert (info.width, info.height) == (96, 64)
    assert (info.display_width, info.display_height) == ((64, 96) if degrees in (90, 270) else (96, 64))


def test_the_first_of_two_video_streams_is_taken(tmp_path: Path, prober: SourceProber) -> None:
    info = probe(prober, make_video(tmp_path / "clip.mp4", VideoSpec(num_video_streams=2))).info

    assert (info.width, info.num_frames) == (96, 25)


def test_a_folder_of_pictures_is_identified_by_names_and_contents(tmp_path: Path, prober: SourceProber) -> None:
    folder = make_pictures(tmp_path / "stills", [(20, 10), (20, 10)])
    lines = [f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in sorted(folder.iterdir())]

    probed = probe(prober, folder)

    assert probed.info.video_id == hashlib.sha256("".join(lines).encode()).hexdigest()[:32]
    assert (probed.info.kind, probed.info.codec, probed.info.num_frames, probed.info.fps) == ("pictures", "png", 2, 1.0)
    assert isinstance(probed.table, PictureTable)
    assert probed.table.sizes == ((20, 10), (20, 10))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_an_empty_file_is_refused(tmp_path: Path, prober: SourceProber) -> None:
    with pytest.raises(UnreadableSourceError, match=r"empty\.mp4: expected a video, got an empty file"):
        probe(prober, _write(tmp_path / "empty.mp4", b""))


@pytest.mark.parametrize("content", [b"hello, I am a text\n" * 100, bytes(range(256)) * 50, b"\0" * 4096])
def test_something_else_that_is_named_mp4_is_refused(content: bytes, tmp_path: Path, prober: SourceProber) -> None:
    with pytest.raises(
        UnreadableSourceError, match=r"text\.mp4: expected a video in one of the containers mov, matroska"
    ):
        probe(prober, _write(tmp_path / "text.mp4", content))


def test_a_picture_that_is_named_mp4_is_refused(tmp_path: Path, prober: SourceProber) -> None:
    folder = make_pictures(tmp_path / "stills", [(20, 10)])

    with pytest.raises(UnreadableSourceError, match="expected a video in one of the containers"):
        probe(prober, (folder / "000.png").rename(tmp_path / "picture.mp4"))


def test_an_mp4_whose_index_is_cut_off_is_refused(tmp_path: Path, prober: SourceProber) -> None:
    whole = make_video(tmp_path / "whole.mp4").read_bytes()

    with pytest.raises(UnreadableSourceError, match=r"cut\.mp4"):
        probe(prober, _write(tmp_path / "cut.mp4", whole[: len(whole) // 2]))


def test_a_file_without_video_streams_is_refused(tmp_path: Path, prober: SourceProber) -> None:
    with pytest.raises(UnreadableSourceError, match="expected a video stream, got streams: audio"):
        probe(prober, make_audio_only(tmp_path / "sound.mp4"))


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{target}\n#EXT-X-ENDLIST\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{target}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "list.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="0" bandwidth="1"><BaseURL>{target}</BaseURL><SegmentBase/></Representation></AdaptationSet>'
    "</Period></MPD>",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_refused_and_the_file_it_points_at_is_never_opened(
    name: str, tmp_path: Path, prober: SourceProber
) -> None:
    # Whoever opens a FIFO for reading lets a writer that does not wait open it too: so it tells whether anybody did.
    target = tmp_path / "secret.ts"
    os.mkfifo(target)
    playlist = _write(tmp_path / name, PLAYLISTS[name].format(target=target).encode())

    with pytest.raises(UnreadableSourceError, match="expected a video in one of the containers"):
        probe(prober, playlist)

    with pytest.raises(OSError, match="No such device or address"):
        os.open(target, os.O_WRONLY | os.O_NONBLOCK)


def test_the_frames_behind_a_playlist_do_not_come_out(tmp_path: Path, prober: SourceProber) -> None:
    make_video(tmp_path / "real.ts")

    for text in PLAYLISTS.values():
        with pytest.raises(UnreadableSourceError):
            probe(prober, _write(tmp_path / "list.mp4", text.format(target="real.ts").encode()))


def _make_alias(path: Path, target: Path) -> Path:
    """Copy a MOV, but let its data reference (QuickTime file format, "Data reference atoms") name the original."""
    content = bytearray(target.read_bytes())
    own_data = b"\0\0\0\x0curl \0\0\0\x01"
    name = target.name.encode()
    records = struct.pack(">hH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    header = b"\0" * 10 + b"\x01v".ljust(28, b"\0") + b"\0" * 12 + bytes([len(name)]) + name.ljust(63, b"\0")
    alias = bytes(4) + header + b"\0" * 16 + struct.pack(">HH", 1, 1) + b"\0" * 16 + records
    alias = struct.pack(">I4s", 8 + len(alias), b"alis") + alias
    where = content.index(own_data)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = content.rindex(box, 0, where) - 4
        size = struct.unpack_from(">I", content, start)[0] + len(alias) - len(own_data)
        struct.pack_into(">I", content, start, size)
    content[where : where + len(own_data)] = alias
    path.write_bytes(content)
    return path


def test_an_mp4_that_refers_to_another_files_frames_does_not_get_them(tmp_path: Path, prober: SourceProber) -> None:
    secret = make_video(tmp_path / "secret.mov", VideoSpec(codec="mjpeg", pixel_format="yuvj420p"))
    alias = _make_alias(tmp_path / "alias.mov", secret)
    with av.open(str(alias), options={"enable_drefs": "1"}) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25, "the reference does not work at all"

    with pytest.raises(UnreadableSourceError, match=r"alias\.mov: expected video frames, got no keyframe"):
        probe(prober, alias)


def test_a_missing_file_is_the_environments_fault(tmp_path: Path, prober: SourceProber) -> None:
    (location,) = expand_inputs([str(make_video(tmp_path / "clip.mp4"))])
    (tmp_path / "clip.mp4").unlink()

    with pytest.raises(SourceUnavailableError, match=r"can't open .*clip\.mp4"):
        prober.probe(location)


def test_a_fifo_is_refused_without_waiting_for_it(tmp_path: Path, prober: SourceProber) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")

    with pytest.raises(UnreadableSourceError, match="expected a regular file"):
        probe(prober, tmp_path / "pipe.mp4")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(max_pixels=96 * 64 - 1), "expected at most 6143 pixels a frame, got 96x64"),
        (DecodeLimits(max_streams=1), "expected at most 1 streams, got 2"),
        (DecodeLimits(max_frames=24), "expected at most 24 frames"),
    ],
)
def test_a_video_over_a_limit_is_refused(limits: DecodeLimits, reason: str, tmp_path: Path) -> None:
    spec = VideoSpec(num_video_streams=2)
    (location,) = expand_inputs([str(make_video(tmp_path / "clip.mp4", spec))])

    with pytest.raises(UnreadableSourceError, match=reason):
        probe_source(location, limits=limits)


def test_the_frames_of_a_lost_tail_are_planned_so_that_they_are_missed(tmp_path: Path, prober: SourceProber) -> None:
    spec = VideoSpec(num_frames=40, gop=8, container_options=(("movflags", "faststart"),))
    whole = make_video(tmp_path / "whole.mp4", spec).read_bytes()

    probed = probe(prober, _write(tmp_path / "cut.mp4", whole[: len(whole) * 6 // 10]))

    assert isinstance(probed.table, PacketTable)
    assert probed.info.num_frames == 40
    assert 0 < probed.table.num_missing < 40


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv"])
def test_a_lost_tail_is_noticed_in_other_containers_that_tell_their_length(
    name: str, tmp_path: Path, prober: SourceProber
) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    whole = make_video(tmp_path / name, VideoSpec(num_frames=100, codec=codec)).read_bytes()

    probed = probe(prober, _write(tmp_path / f"cut{name}", whole[: len(whole) // 2]))

    assert isinstance(probed.table, PacketTable)
    assert probed.table.num_missing > 0
    assert probed.info.num_frames == pytest.approx(100, abs=3)


def test_a_whole_video_misses_nothing(tmp_path: Path, prober: SourceProber) -> None:
    for name in ("clip.avi", "clip.mkv", "clip.mp4", "clip.ts"):
        table = probe(prober, make_video(tmp_path / name, VideoSpec(codec="mpeg4"))).table

        assert isinstance(table, PacketTable)
        assert (table.num_missing, table.num_undecodable) == (0, 0)


def test_leading_pictures_that_lost_what_they_lean_on_are_not_counted(tmp_path: Path, prober: SourceProber) -> None:
    spec = VideoSpec(codec="libx265", b_frames=2, is_open_gop=True, num_frames=30)
    whole = make_video(tmp_path / "whole.ts", spec)
    table = probe(prober, whole).table
    assert isinstance(table, PacketTable)
    second = next(key for key in table.keyframes if key.packet_number > 0)
    probed = probe(prober, _write(tmp_path / "cut.ts", whole.read_bytes()[second.position :]))

    segments = plan_source(probed, settings=PlanSettings(codec_fingerprint="c"))

    assert isinstance(probed.table, PacketTable)
    assert probed.table.num_undecodable > 0
    assert probed.info.num_frames == sum(segment.num_frames for segment in segments) < 30
