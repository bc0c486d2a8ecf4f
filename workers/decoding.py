"""Decodes exactly the frames of one segment. Runs in the decoding child only.

The child finds the segment's keyframe packet in the file, numbers the packets from it on and sends them through the
decoder with their numbers attached, so each frame that comes out is known to be the right one. Anything that is not as
planned is an error: a frame missing, flagged as damaged, of another size, or out of order; a decoder error at any
packet of the run, but for leading pictures, which belong to the segment before and lean on frames that this one lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from framevault.workers.containers import OpenedVideo, open_video
from framevault.workers.demuxing import name_matrix, name_range
from framevault.workers.errors import DecodeError, SourceChangedError, UnreadableSourceError
from framevault.workers.limits import DecodeLimits, grant_cpu
from framevault.workers.messages import Message, get_int, get_ints, get_optional_int, get_str
from framevault.workers.pixels import FrameShape, plain_layout
from framevault.workers.tasks import PacketRun

_ONLY_COMPLAINING = frozenset({"ffv1"})
"""Codecs whose decoder writes a line to the log at a wrong checksum and flags nothing."""


class FrameSink(Protocol):
    """Where decoded frames go."""

    def start(self, *, matrix: str, value_range: str) -> None:
        """Takes the colour facts, before the first frame."""
        ...

    def write(self, planes: list[NDArray[np.uint8]], *, is_keyframe: bool) -> None:
        """Takes one frame; blocks while there is no room."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRequest:
    """One segment of a video, as the child needs it."""

    url: str
    """Path or fsspec URL."""
    version_token: str
    """The source's token when it was planned."""
    is_first: bool
    """Whether the segment begins with the first keyframe of the file."""
    run: PacketRun
    """The packets to decode."""
    shape: FrameShape
    """Layout and size of the frames to deliver."""


def request_from_message(message: Message, shape: FrameShape) -> VideoRequest:
    """Reads a request; raises MessageError if a value is missing or of another type."""
    run = PacketRun(
        start_pts=get_optional_int(message, "start_pts"),
        start_dts=get_optional_int(message, "start_dts"),
        start_position=get_int(message, "start_position"),
        start_size=get_int(message, "start_size"),
        num_packets=get_int(message, "num_packets"),
        num_leading_packets=get_int(message, "num_leading_packets"),
        frame_packets=get_ints(message, "frame_packets"),
    )
    return VideoRequest(
        url=get_str(message, "url"),
        version_token=get_str(message, "version_token"),
        is_first=bool(get_int(message, "is_first")),
        run=run,
        shape=shape,
    )


class VideoDecoder:
    """Decodes segments one after another and keeps the last file open, as segments mostly come in order."""

    def __init__(self, *, limits: DecodeLimits, num_threads: int, on_progress: Callable[[], None]) -> None:
        """Remembers the limits, the decoder's threads, and whom to tell that work goes on."""
        self._limits = limits
        self._num_threads = num_threads
        self._on_progress = on_progress
        self._video: OpenedVideo | None = None
        self._is_fresh = False

    def decode(self, request: VideoRequest, sink: FrameSink) -> None:
        """Writes the segment's frames to the sink, in order.

        Raises:
            DecodeError: They are not exactly the ones expected.
            SourceChangedError: The source is not the one that was planned.
            SourceUnavailableError: It can't be reached.
        """
        grant_cpu(self._limits.cpu_s_start + self._limits.cpu_s_per_frame * request.run.num_packets)
        is_done = False
        try:
            self._deliver(request, sink)
            is_done = True
        except (DecodeError, UnreadableSourceError) as error:
            if not isinstance(error, SourceChangedError):
                self._check_unchanged(request)
            raise
        finally:
            if not is_done:
                self.close()
        self._check_unchanged(request)

    def close(self) -> None:
        """Closes the file that is kept open."""
        if self._video is not None:
            self._video.close()
        self._video = None

    def _check_unchanged(self, request: VideoRequest) -> None:
        if self._video is not None and self._video.file.has_changed():
            self.close()
            raise SourceChangedError(f"{request.url}: it changed while it was read")

    def _deliver(self, request: VideoRequest, sink: FrameSink) -> None:
        delivery = _Delivery(request, sink)
        try:
            for offset, packet in enumerate(self._packets_from_start(request)):
                delivery.take(self._decode_packet(request, packet, offset=offset))
                if offset + 1 == request.run.num_packets:
                    break
            delivery.take(self._decode_packet(request, None, offset=request.run.num_packets))
        except _DamageError as damage:
            raise DecodeError(f"{request.url}: {delivery.summary()}: {damage}") from damage
        if delivery.num_written < len(request.run.frame_packets):
            raise DecodeError(f"{request.url}: {delivery.summary()}: the rest is missing")

    def _decode_packet(
        self, request: VideoRequest, packet: Packet[VideoStream] | None, *, offset: int
    ) -> list[VideoFrame]:
        is_leading = 0 < offset <= request.run.num_leading_packets
        if packet is not None:
            packet.opaque = (offset,)
            if packet.is_corrupt and not is_leading:
                raise _DamageError(f"packet {offset} after the keyframe is cut off")
        assert self._video is not None
        context = self._video.stream.codec_context
        num_complaints = _count_complaints()
        try:
            frames = context.decode(packet)
            if context.codec.canonical_name in _ONLY_COMPLAINING and _count_complaints() > num_complaints:
                raise _DamageError(f"the checksum of packet {offset} after the keyframe is wrong")
            return frames
        except av.error.FFmpegError as error:
            if is_leading:
                return []
            raise _DamageError(f"packet {offset} after the keyframe can't be decoded: {error}") from error

    def _packets_from_start(self, request: VideoRequest) -> Iterator[Packet[VideoStream]]:
        """Yields packets from the segment's keyframe on: after a seek, or from the file's start if that misses it."""
        if not request.is_first:
            video = self._open(request)
            self._is_fresh = False
            if _seek(video, request.run) and (found := self._find_start(video, request.run, can_pass=False)):
                yield found
                yield from self._read(video)
                return
        if not self._is_fresh:
            self.close()
        video = self._open(request)
        self._is_fresh = False
        found = self._find_start(video, request.run, can_pass=True)
        if found is None:
            raise _DamageError(f"the keyframe at byte {request.run.start_position} is not in the file")
        yield found
        yield from self._read(video)

    def _open(self, request: VideoRequest) -> OpenedVideo:
        if self._video is not None and (self._video.url, self._video.file.version_token) != (
            request.url,
            request.version_token,
        ):
            self.close()
        if self._video is None:
            self._video = open_video(
                request.url, limits=self._limits, num_threads=self._num_threads, expected_token=request.version_token
            )
            self._is_fresh = True
        return self._video

    def _find_start(self, video: OpenedVideo, run: PacketRun, *, can_pass: bool) -> Packet[VideoStream] | None:
        """Reads on to the keyframe; gives up at a later time unless `can_pass` (times may start anew within a file)."""
        for packet in self._read(video):
            if _is_start(packet, run):
                return packet
            if not can_pass and packet.dts is not None and run.start_dts is not None and packet.dts > run.start_dts:
                return None
        return None

    def _read(self, video: OpenedVideo) -> Iterator[Packet[VideoStream]]:
        try:
            for packet in video.packets():
                self._on_progress()
                yield packet
        except av.error.FFmpegError as error:
            raise _DamageError(f"its packets can't be read: {error}") from error


class _DamageError(Exception):
    """Why the frames stop; becomes a DecodeError with the counts."""


class _Delivery:
    """Checks what comes out of the decoder against the request and writes it to the sink."""

    def __init__(self, request: VideoRequest, sink: FrameSink) -> None:
        self._request = request
        self._sink = sink
        self._places = {packet: place for place, packet in enumerate(request.run.frame_packets)}
        self._plane_shapes = request.shape.plane_shapes
        self.num_written = 0

    def take(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            if not isinstance(frame.opaque, tuple):
                raise _DamageError("a frame came out of the decoder without its packet's number")
            offset = frame.opaque[0]
            if 0 < offset <= self._request.run.num_leading_packets:
                continue
            if frame.is_corrupt:
                raise _DamageError(f"the frame of packet {offset} after the keyframe is damaged")
            if offset in self._places:
                self._write(frame, offset)

    def _write(self, frame: VideoFrame, offset: int) -> None:
        if self._places[offset] != self.num_written:
            wanted = self._request.run.frame_packets[min(self.num_written, len(self._places) - 1)]
            raise _DamageError(f"expected the frame of packet {wanted} after the keyframe, got that of packet {offset}")
        if self.num_written == 0:
            self._sink.start(matrix=name_matrix(self._request.url, frame), value_range=name_range(frame))
        plain = _convert(frame, self._request.shape)
        planes = [_plane_array(plain, number, shape=shape) for number, shape in enumerate(self._plane_shapes)]
        self._sink.write(planes, is_keyframe=frame.key_frame)
        self.num_written += 1

    def summary(self) -> str:
        return f"expected {len(self._places)} frames, found {self.num_written}"


def _count_complaints() -> int:
    """Gives the number of errors that libav has logged in this process."""
    return av.logging.get_last_error()[0]


def _seek(video: OpenedVideo, run: PacketRun) -> bool:
    target = run.start_pts if run.start_dts is None else run.start_dts
    if target is None:
        return False
    try:
        video.container.seek(target, stream=video.stream)
    except av.error.FFmpegError:
        return False  # Some containers can't seek: the caller then reads from the start.
    return True


def _is_start(packet: Packet[VideoStream], run: PacketRun) -> bool:
    position = -1 if packet.pos is None else packet.pos
    if not packet.is_keyframe or packet.size != run.start_size or position != run.start_position:
        return False
    return packet.pts is None or run.start_pts is None or packet.pts == run.start_pts


def _convert(frame: VideoFrame, shape: FrameShape) -> VideoFrame:
    """Gives the frame in the wanted layout: itself where its own planes are that already."""
    if (frame.width, frame.height) != (shape.width, shape.height):
        raise _DamageError(f"expected a frame of {shape.width}x{shape.height}, got {frame.width}x{frame.height}")
    if plain_layout(frame.format.name) == shape.layout:
        return frame
    # The same range on both sides: only the layout and the depth are to change.
    value_range = 2 if name_range(frame) == "full" else 1
    return frame.reformat(format=shape.layout, src_color_range=value_range, dst_color_range=value_range)


def _plane_array(frame: VideoFrame, number: int, *, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Gives one plane as a view into the decoder's memory, without the padding at the ends of its rows."""
    plane = frame.planes[number]
    row_bytes = math.prod(shape[1:])
    data = np.frombuffer(memoryview(plane), np.uint8, count=shape[0] * plane.line_size)
    return data.reshape(shape[0], plane.line_size)[:, :row_bytes].reshape(shape)
