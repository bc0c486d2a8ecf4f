"""Learns what a video file holds: digest, packet table, and the facts of its frames. Runs in the decoding child only.

Every packet is demuxed, but only the first keyframe and the pictures that lean on it are decoded: they tell pixel
format, size, colour and rotation, and which leading pictures can't be decoded at all. The one exception is a file whose
packets are timed in decoding order though its decoder reorders frames (H.264 with B-frames in AVI): it is decoded once,
as nothing else tells in which order its frames are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from framevault.workers.containers import OpenedVideo, open_video
from framevault.workers.errors import SourceChangedError, UnreadableSourceError
from framevault.workers.limits import DecodeLimits, grant_cpu
from framevault.workers.messages import Message
from framevault.workers.packets import (
    PacketTable,
    RawPacket,
    build_table,
    is_order_doubtful,
    table_to_message,
    usual_distance,
)
from framevault.workers.sourcefiles import open_source

_MAX_HEAD_PACKETS = 64
"""Packets that give frames and are kept to be decoded after the demuxing; leading pictures beyond them would be
taken as not decodable."""
_MAX_HIDDEN_HEAD_PACKETS = 4096
"""Packets kept besides, whose frames an edit list takes out: as long as groups of pictures get."""

# AVColorSpace and AVColorRange (libavutil/pixfmt.h). BT.470BG and SMPTE 170M have the same coefficients: BT.601's.
_MATRIX_NAMES = {0: "rgb", 1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_UNSPECIFIED_RANGE, _FULL_RANGE = 0, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demuxed:
    """What one pass over the packets gave."""

    packets: list[RawPacket]
    """All from the first keyframe on."""
    head: list[Packet[VideoStream]]
    """The first of them, with their data."""
    num_skipped: int
    """Packets before the first keyframe."""
    num_empty: int
    """Packets without data: a frame that is not stored because it repeats the one before."""
    error: str | None
    """Why demuxing stopped before the end, if it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What decoding the start gave."""

    frame: VideoFrame
    """The first frame."""
    undecodable: frozenset[int]
    """Leading pictures that did not come out whole."""


def probe_video(url: str, *, limits: DecodeLimits, on_progress: Callable[[], None]) -> Message:
    """Hashes and demuxes the file and gives its facts and packet table as a message.

    Raises:
        SourceUnavailableError: It can't be reached.
        UnreadableSourceError: It is no video that can be read, or goes over a limit.
        SourceChangedError: It changed meanwhile.
    """
    file = open_source(url)
    grant_cpu(limits.cpu_s_start + limits.cpu_s_per_megabyte * file.size_bytes / 1e6)
    digest, token, size_bytes = file.hash_content(on_progress), file.version_token, file.size_bytes
    file.close()
    video = open_video(url, limits=limits, expected_token=token)
    try:
        demuxed = _demux(video, limits=limits, on_progress=on_progress)
        head = _decode_head(video, demuxed)
        table = _build(
            video, demuxed, head=head, order=_find_order(video, demuxed, limits=limits, on_progress=on_progress)
        )
        facts = _describe(video, head.frame, table=table)
        if video.file.has_changed():
            raise SourceChangedError(f"{url}: it changed while it was probed")
    finally:
        video.close()
    return {
        "digest": digest,
        "version_token": token,
        "size_bytes": size_bytes,
        **facts,
        "table": table_to_message(table),
    }


def _demux(video: OpenedVideo, *, limits: DecodeLimits, on_progress: Callable[[], None]) -> _Demuxed:
    packets: list[RawPacket] = []
    head: list[Packet[VideoStream]] = []
    num_skipped = num_empty = num_shown = 0
    error: str | None = None
    try:
        for packet in video.container.demux(video.stream):
            on_progress()
            if packet.size == 0:
                num_empty += packet.dts is not None
            elif not packets and not packet.is_keyframe:
                num_skipped += 1
            else:
                packets.append(_describe_packet(packet))
                num_shown += not packet.is_discard
                if num_shown <= _MAX_HEAD_PACKETS and len(packets) <= _MAX_HEAD_PACKETS + _MAX_HIDDEN_HEAD_PACKETS:
                    head.append(packet)
            if len(packets) > limits.max_frames:
                raise UnreadableSourceError(f"{video.url}: expected at most {limits.max_frames} frames, got more")
    except av.error.FFmpegError as reason:
        error = str(reason)
    if not packets:
        reason_text = f": {error}" if error else ""
        raise UnreadableSourceError(
            f"{video.url}: expected video frames, got no keyframe in {num_skipped} packets{reason_text}"
        )
    return _Demuxed(packets=packets, head=head, num_skipped=num_skipped, num_empty=num_empty, error=error)


def _describe_packet(packet: Packet[VideoStream]) -> RawPacket:
    return RawPacket(
        pts=packet.pts,
        dts=packet.dts,
        position=-1 if packet.pos is None else packet.pos,
        size=packet.size,
        is_keyframe=packet.is_keyframe,
        is_discard=packet.is_discard,
    )


def _decode_head(video: OpenedVideo, demuxed: _Demuxed) -> _Head:
    leading = _leading_numbers(demuxed.packets)
    first: VideoFrame | None = None
    shown: set[int] = set()
    error: Exception | None = None
    for number, packet in enumerate([*demuxed.head, None]):
        if first is not None and number > max(leading, default=0) and packet is not None:
            continue
        try:
            frames = _decode_numbered(video, packet, number=number)
        except av.error.FFmpegError as reason:
            error = reason
            continue
        first = first or next((frame for _, frame in frames), None)
        shown.update(shown_number for shown_number, frame in frames if not frame.is_corrupt)
    if first is None:
        raise UnreadableSourceError(f"{video.url}: its first frame can't be decoded: {error or 'nothing came out'}")
    return _Head(frame=first, undecodable=frozenset(leading) - shown)


def _decode_numbered(
    video: OpenedVideo, packet: Packet[VideoStream] | None, *, number: int
) -> list[tuple[int, VideoFrame]]:
    if packet is not None:
        packet.opaque = (number,)
    frames = video.stream.codec_context.decode(packet)
    return [(frame.opaque[0], frame) for frame in frames if isinstance(frame.opaque, tuple)]


def _leading_numbers(packets: Sequence[RawPacket]) -> list[int]:
    key = packets[0].pts
    following_key = next(
        (number for number, packet in enumerate(packets) if number and packet.is_keyframe), len(packets)
    )
    return [
        number
        for number, packet in enumerate(islice(packets, following_key))
        if key is not None and packet.pts is not None and packet.pts < key and not packet.is_discard
    ]


def _find_order(
    video: OpenedVideo, demuxed: _Demuxed, *, limits: DecodeLimits, on_progress: Callable[[], None]
) -> list[int] | None:
    depth = video.stream.codec_context.reorder_depth
    if not is_order_doubtful(demuxed.packets, reorder_depth=depth):
        return None
    grant_cpu(limits.cpu_s_start + limits.cpu_s_per_frame * len(demuxed.packets))
    again = open_video(video.url, limits=limits, expected_token=video.file.version_token)
    order: list[int] = []
    try:
        packets = islice(again.packets(), demuxed.num_skipped, demuxed.num_skipped + len(demuxed.packets))
        for number, packet in enumerate(chain(packets, (None,))):
            on_progress()
            try:
                order.extend(shown for shown, _ in _decode_numbered(again, packet, number=number))
            except av.error.FFmpegError:
                continue  # The segment that holds it will say so.
    finally:
        again.close()
    return order


def _build(video: OpenedVideo, demuxed: _Demuxed, *, head: _Head, order: list[int] | None) -> PacketTable:
    return build_table(
        demuxed.packets,
        tail=_missing_tail(video, demuxed),
        undecodable=head.undecodable,
        display_order=order,
        num_skipped=demuxed.num_skipped,
    )


def _missing_tail(video: OpenedVideo, demuxed: _Demuxed) -> list[RawPacket]:
    """Lists the packets that the container announces beyond the last one found."""
    found = demuxed.num_skipped + len(demuxed.packets)
    if video.container.format.name.startswith("mov"):
        entries = video.stream.index_entries
        times = [packet.pts for packet in demuxed.packets if packet.pts is not None]
        delay = (demuxed.packets[0].pts or 0) - (demuxed.packets[0].dts or 0) if times else 0
        return [
            RawPacket(
                pts=max(entry.timestamp + delay, max(times, default=0) + 1),
                dts=entry.timestamp,
                position=entry.pos,
                size=entry.size,
                is_keyframe=entry.is_keyframe,
                is_discard=entry.is_discard,
            )
            for entry in (entries[number] for number in range(found, len(entries)))
        ]
    num_missing = _count_missing(video, demuxed, found=found)
    blank = RawPacket(pts=None, dts=None, position=-1, size=0, is_keyframe=False, is_discard=False)
    return [blank] * max(num_missing, int(demuxed.error is not None))


def _count_missing(video: OpenedVideo, demuxed: _Demuxed, *, found: int) -> int:
    if video.container.format.name == "avi":
        return max(0, video.stream.frames - found - demuxed.num_empty)
    times = [packet.pts for packet in demuxed.packets if packet.pts is not None]
    text = video.stream.metadata.get("DURATION")
    if text is None or len(times) < 2 or video.stream.time_base is None:
        return 0
    distance = usual_distance(times)
    end = float((max(times) + distance) * video.stream.time_base)
    # Writers round the tag, and the last frame may be shown longer: only a second's worth of frames is a loss.
    lost_s = _parse_duration(text) - end
    return round(lost_s / float(distance * video.stream.time_base)) if lost_s > 1.0 else 0


def _parse_duration(text: str) -> float:
    """Reads Matroska's `00:01:02.500000000`; 0 if it is something else."""
    parts = text.split(":")
    try:
        return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    except ValueError:
        return 0.0


def _describe(video: OpenedVideo, frame: VideoFrame, *, table: PacketTable) -> dict[str, object]:
    context, time_base = video.stream.codec_context, video.stream.time_base
    if time_base is None or not time_base:
        raise UnreadableSourceError(f"{video.url}: expected a time base, got none")
    ratio = video.stream.sample_aspect_ratio or 1
    times = [table.pts[number] for number in table.frames_in_display_order()]
    if not times:
        raise UnreadableSourceError(f"{video.url}: expected video frames, got {len(table.pts)} packets that give none")
    duration_s = float((times[-1] - times[0] + usual_distance(times)) * time_base)
    return {
        "container": video.container.format.name,
        "codec": context.codec.canonical_name,
        "width": frame.width,
        "height": frame.height,
        "pixel_format": frame.format.name,
        "time_base": [time_base.numerator, time_base.denominator],
        "rotation_degrees": _clockwise_degrees(video.url, frame),
        "sample_aspect_ratio": [ratio.numerator, ratio.denominator],
        "colour_matrix": name_matrix(video.url, frame),
        "colour_range": name_range(frame),
        "duration_s": duration_s,
        "fps": len(times) / duration_s,
    }


def _clockwise_degrees(url: str, frame: VideoFrame) -> int:
    degrees = -frame.rotation % 360
    nearest = round(degrees / 90) * 90
    if abs(degrees - nearest) > 1:
        raise UnreadableSourceError(f"{url}: expected a rotation by a multiple of 90 degrees, got {degrees}")
    return nearest % 360


def name_matrix(url: str, frame: VideoFrame) -> str:
    """Gives the frame's colour matrix by name.

    Raises:
        UnreadableSourceError: It is one that can't be converted, such as YCgCo.
    """
    name = _MATRIX_NAMES.get(int(frame.colorspace))
    if name is None:
        known = ", ".join(sorted(set(_MATRIX_NAMES.values())))
        raise UnreadableSourceError(f"{url}: expected a colour matrix of {known}, got AVColorSpace {frame.colorspace}")
    return name


def name_range(frame: VideoFrame) -> str:
    """Gives the frame's range of sample values by name: what it says, else full for yuvj, RGB and gray formats."""
    name = frame.format.name
    if int(frame.color_range) == _UNSPECIFIED_RANGE:
        # As swscale does: gray is full unless it says otherwise.
        return "full" if name.startswith(("yuvj", "gray", "ya", "mono", "pal")) or frame.format.is_rgb else "limited"
    return "full" if int(frame.color_range) == _FULL_RANGE or frame.format.is_rgb else "limited"
