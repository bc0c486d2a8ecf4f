"""Opens a video container so that nothing in it can reach beyond its own bytes. Runs in the decoding child only.

Four bars: libavformat gets a nameless stream (`workers/sourcefiles.py`); only the containers in CONTAINER_FORMATS are
tried, so playlists, concat scripts, picture sequences and devices are not even parsed; no protocol is allowed; and a
demuxer that asks for another file all the same is refused, and the whole input with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from framevault.workers.errors import DecodeError, SourceChangedError, UnreadableSourceError
from framevault.workers.limits import DecodeLimits
from framevault.workers.sourcefiles import SourceFile, open_source

CONTAINER_FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "mxf", "ogg")
"""libavformat's names of what is read: MP4 and MOV, MKV and WebM, AVI, MPEG-TS and -PS, FLV, WMV, MXF, Ogg."""

IO_BUFFER_BYTES = 256 << 10
"""Bytes that libavformat asks for at a time."""

# What makes the decoders notice damage, found by flipping bytes of small clips: "bitstream" and "buffer" help WMV, and
# "aggressive" H.264 (silent damage by 60 bytes: 8 clips of 30 without, none with; no false alarm on real clips). With
# "explode" a wrong picture hash is an error in HEVC; elsewhere it would also reject harmless oddities.
_ERROR_DETECTION = {
    "h264": "crccheck+bitstream+buffer+aggressive",
    "hevc": "crccheck+bitstream+buffer+explode",
    "vvc": "crccheck+bitstream+buffer+explode",
}
_DEFAULT_ERROR_DETECTION = "crccheck+bitstream+buffer"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedVideo:
    """A container with its first video stream, ready to demux and decode."""

    url: str
    """Where it was opened from, for messages."""
    file: SourceFile
    """The bytes."""
    container: InputContainer
    """libavformat's side."""
    stream: VideoStream
    """The first video stream that is no cover picture."""

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yields the stream's packets from the current position on, empty ones left out."""
        for packet in self.container.demux(self.stream):
            if packet.size:
                yield packet

    def close(self) -> None:
        """Closes the container and the file."""
        self.container.close()
        self.file.close()


def open_video(
    url: str, *, limits: DecodeLimits, num_threads: int = 1, expected_token: str | None = None
) -> OpenedVideo:
    """Opens the source and checks it against the limits, before any frame is decoded by us.

    Raises:
        SourceUnavailableError: It can't be reached.
        UnreadableSourceError: It is no allowed container, has no video stream, or goes over a limit.
        SourceChangedError: Its version token is not the expected one.
    """
    file = open_source(url)
    if expected_token is not None and file.version_token != expected_token:
        file.close()
        raise SourceChangedError(f"{url}: expected version {expected_token}, found {file.version_token}")
    try:
        container = _open_container(url, file, limits=limits)
        stream = _pick_stream(url, container, limits=limits)
    except BaseException:
        file.close()
        raise
    _prepare_decoder(stream, limits=limits, num_threads=num_threads)
    return OpenedVideo(url=url, file=file, container=container, stream=stream)


def _open_container(url: str, file: SourceFile, *, limits: DecodeLimits) -> InputContainer:
    if file.size_bytes == 0:
        raise UnreadableSourceError(f"{url}: expected a video, got an empty file")
    container_options = {
        "format_whitelist": ",".join(CONTAINER_FORMATS),
        "protocol_whitelist": "none",
        "enable_drefs": "0",  # MOV's references to other files: off by default, but safety must not hang on that
        "max_streams": str(limits.max_streams + 1),  # One more, so that it is us who say what is wrong.
    }
    try:
        return av.open(
            file,
            "r",
            options={"max_pixels": str(limits.max_pixels)},
            container_options=container_options,
            metadata_errors="replace",
            buffer_size=IO_BUFFER_BYTES,
            io_open=_refuse_other_file,
        )
    except MemoryError as error:
        bounds = f"{limits.max_streams} streams and {limits.memory_bytes} bytes of memory"
        raise UnreadableSourceError(f"{url}: expected to get along with {bounds}, it needs more") from error
    except (av.error.FFmpegError, DecodeError) as error:
        raise UnreadableSourceError(
            f"{url}: expected a video in one of the containers {', '.join(CONTAINER_FORMATS)}: {error}"
        ) from error


def _refuse_other_file(url: str, flags: int, options: Mapping[str, str]) -> SourceFile:
    raise DecodeError(f"it refers to another file, {url!r:.200}, which is not allowed")


def _pick_stream(url: str, container: InputContainer, *, limits: DecodeLimits) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise UnreadableSourceError(
            f"{url}: expected at most {limits.max_streams} streams, got {len(container.streams)}"
        )
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        raise UnreadableSourceError(f"{url}: expected a video stream, got streams: {kinds}")
    stream = streams[0]
    # PyAV types it as always there; it is None for a codec that this build has no decoder for.
    if stream.codec_context is None:
        raise UnreadableSourceError(f"{url}: there is no decoder for its video stream")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > limits.max_pixels:
        size = f"{stream.codec_context.width}x{stream.codec_context.height}"
        raise UnreadableSourceError(f"{url}: expected at most {limits.max_pixels} pixels a frame, got {size}")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream


def _prepare_decoder(stream: VideoStream, *, limits: DecodeLimits, num_threads: int) -> None:
    context = stream.codec_context
    detection = _ERROR_DETECTION.get(context.codec.canonical_name, _DEFAULT_ERROR_DETECTION)
    context.options = {"err_detect": detection, "max_pixels": str(limits.max_pixels)}
    # Slices only: with frame threads an error would be reported at a later packet than the damaged one.
    context.thread_type = "SLICE"
    context.thread_count = num_threads
    context.copy_opaque = True
