"""The guarded process that touches hostile files: `python -m framevault.workers.decoding_child RING_FD`.

It reads requests as lines of JSON from its standard input and answers on its standard output; decoded frames go into
the shared ring whose file descriptor it is given. The first line sets the limits (`workers/limits.py`). It ends when
its input does, so it never outlives its parent by more than one message.

    configure {limits, num_threads}                -> ready
    probe_video {url}                              -> video facts and packet table
    probe_picture {url}                            -> picture facts
    decode_video {url, ..., shape, slots}          -> start, frames..., end
    decode_pictures {files, shape, slots}          -> start, frames..., end
    release {slots}                                   (while it decodes: so many slots may be written again)

Any request may be answered by an error instead; `alive` may come before any answer. torch is never imported here.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import av
import numpy as np
from numpy.typing import NDArray

from framevault.workers.decoding import VideoDecoder, request_from_message
from framevault.workers.demuxing import probe_video
from framevault.workers.errors import (
    DecodeError,
    DecoderKilledError,
    SourceChangedError,
    SourceUnavailableError,
    UnreadableSourceError,
)
from framevault.workers.limits import DecodeLimits, bind_process, grant_cpu
from framevault.workers.messages import (
    Message,
    decode_message,
    encode_message,
    get_float,
    get_int,
    get_messages,
    get_str,
)
from framevault.workers.pixels import FrameShape, choose_layout, view_slots

_ALIVE_INTERVAL_S = 1.0
_EXPECTED_ERRORS = (DecodeError, SourceChangedError, UnreadableSourceError, SourceUnavailableError)
# Packages whose errors mean that a remote source can't be reached now; not all of them derive from OSError.
_REMOTE_PACKAGES = ("aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "adlfs", "s3fs")


class Channel:
    """The two pipes to the parent, as lines of JSON."""

    def __init__(self, *, input_fd: int, output_fd: int) -> None:
        """Takes over the two file descriptors."""
        self._input = os.fdopen(input_fd, "rb", buffering=1 << 16)
        self._output_fd = output_fd
        self._last_sent_s = time.monotonic()

    def receive(self) -> Message:
        """Waits for the parent's next line; ends the process if there is none."""
        line = self._input.readline()
        if not line:
            os._exit(0)
        return decode_message(line)

    def send(self, message: Message) -> None:
        """Sends one line; ends the process if nobody listens any more."""
        rest = memoryview(encode_message(message))
        try:
            while rest:
                rest = rest[os.write(self._output_fd, rest) :]
        except BrokenPipeError:
            os._exit(0)
        self._last_sent_s = time.monotonic()

    def report_alive(self) -> None:
        """Tells the parent that work goes on, once a second at most; call it as often as you like."""
        if time.monotonic() - self._last_sent_s > _ALIVE_INTERVAL_S:
            self.send({"type": "alive"})


class RingSink:
    """Writes frames into the slots of the ring, one after another, and waits where the consumer has not freed one."""

    def __init__(
        self, channel: Channel, ring: NDArray[np.uint8], *, shape: FrameShape, num_slots: int, batch: int
    ) -> None:
        """Starts with all `num_slots` slots free; the parent is told after each `batch` frames."""
        self._channel = channel
        self._slots = view_slots(ring, shape, first_slot=0, num_slots=num_slots)
        self._num_slots = self._num_free = num_slots
        self._batch = batch
        self._num_written = 0
        self._keyframes: list[int] = []
        self.wait_s = 0.0
        """Seconds spent waiting for a free slot."""

    def start(self, *, matrix: str, value_range: str) -> None:
        """Tells the parent the colour facts."""
        self._channel.send({"type": "start", "matrix": matrix, "range": value_range})

    def write(self, planes: list[NDArray[np.uint8]], *, is_keyframe: bool) -> None:
        """Copies one frame into the next slot."""
        while self._num_free == 0:
            self._wait_for_release()
        slot = self._num_written % self._num_slots
        for slot_plane, plane in zip(self._slots, planes, strict=True):
            slot_plane[slot] = plane
        self._num_free -= 1
        self._num_written += 1
        self._keyframes.append(int(is_keyframe))
        if len(self._keyframes) == self._batch:
            self.flush()

    def flush(self) -> None:
        """Tells the parent about the frames that it does not know of yet."""
        if self._keyframes:
            self._channel.send({"type": "frames", "keyframes": self._keyframes})
            self._keyframes = []

    def _wait_for_release(self) -> None:
        start_s = time.monotonic()
        self._num_free += get_int(self._channel.receive(), "slots")
        self.wait_s += time.monotonic() - start_s


class Child:
    """Answers the parent's requests, one at a time."""

    def __init__(self, channel: Channel, *, ring_fd: int, limits: DecodeLimits, num_threads: int) -> None:
        """Keeps what every request needs."""
        self._channel = channel
        self._ring_fd = ring_fd
        self._limits = limits
        self._ring = np.empty(0, np.uint8)
        self._decoder = VideoDecoder(limits=limits, num_threads=num_threads, on_progress=channel.report_alive)

    def answer(self, request: Message) -> None:
        """Does what the request asks; an error becomes an answer too."""
        try:
            self._dispatch(request)
        except _EXPECTED_ERRORS as error:
            self._send_error(type(error).__name__, str(error))
        except MemoryError as error:
            self._send_error(
                DecoderKilledError.__name__, f"the decoder needs more than {self._limits.memory_bytes} bytes: {error}"
            )
        except Exception as error:  # noqa: BLE001  the one place where a child's failure becomes a message
            is_remote = type(error).__module__.split(".")[0] in _REMOTE_PACKAGES
            if is_remote or (isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError)):
                self._send_error(
                    SourceUnavailableError.__name__, f"{request.get('url')}: {type(error).__name__}: {error}"
                )
            else:
                self._send_error("DecoderFailedError", traceback.format_exc(limit=-8))

    def _dispatch(self, request: Message) -> None:
        operation, alive = get_str(request, "op"), self._channel.report_alive
        if operation == "probe_video":
            self._channel.send(
                {"type": "video", **probe_video(get_str(request, "url"), limits=self._limits, on_progress=alive)}
            )
        elif operation == "probe_picture":
            self._probe_picture(request)
        elif operation == "decode_video":
            shape = _read_shape(request)
            self._decode(request, shape, lambda sink: self._decoder.decode(request_from_message(request, shape), sink))
        elif operation == "decode_pictures":
            shape = _read_shape(request)
            self._decode(request, shape, lambda sink: self._decode_pictures(request, sink, shape=shape))
        elif operation != "release":  # of the segment before, whose last frames needed no room any more
            raise ValueError(f"unknown operation {operation!r}")

    def _probe_picture(self, request: Message) -> None:
        from framevault.workers.pictures import probe_picture  # Pillow: few children see pictures

        facts = probe_picture(get_str(request, "url"), limits=self._limits, on_progress=self._channel.report_alive)
        self._channel.send({"type": "picture", **facts})

    def _decode(self, request: Message, shape: FrameShape, decode: Callable[[RingSink], None]) -> None:
        num_slots = get_int(request, "num_slots")
        ring = self._map_ring(num_slots * shape.slot_bytes)
        sink = RingSink(self._channel, ring, shape=shape, num_slots=num_slots, batch=get_int(request, "batch"))
        start_s = time.monotonic()
        decode(sink)
        sink.flush()
        decode_s = time.monotonic() - start_s - sink.wait_s
        self._channel.send({"type": "end", "decode_s": decode_s, "wait_s": sink.wait_s})

    def _decode_pictures(self, request: Message, sink: RingSink, *, shape: FrameShape) -> None:
        from framevault.workers.pictures import decode_picture

        files = get_messages(request, "files")
        grant_cpu(self._limits.cpu_s_start + self._limits.cpu_s_per_frame * len(files))
        for number, file in enumerate(files):
            url = get_str(file, "url")
            summary = f"expected {len(files)} frames, found {number}"
            try:
                rgb_hwc = decode_picture(url, version_token=get_str(file, "version_token"), limits=self._limits)
            except SourceChangedError:
                raise
            except DecodeError as error:
                raise DecodeError(f"{error} ({summary})") from error
            if rgb_hwc.shape[:2] != (shape.height, shape.width):
                expected, found = f"{shape.width}x{shape.height}", f"{rgb_hwc.shape[1]}x{rgb_hwc.shape[0]}"
                raise DecodeError(f"{url}: expected a picture of {expected}, got {found} ({summary})")
            if number == 0:
                sink.start(matrix="rgb", value_range="full")
            sink.write([rgb_hwc], is_keyframe=True)
            self._channel.report_alive()

    def _map_ring(self, num_bytes: int) -> NDArray[np.uint8]:
        if self._ring.size < num_bytes:
            self._ring = np.frombuffer(mmap.mmap(self._ring_fd, os.fstat(self._ring_fd).st_size), np.uint8)
        return self._ring

    def _send_error(self, kind: str, text: str) -> None:
        self._channel.send({"type": "error", "kind": kind, "text": text})


def _read_shape(request: Message) -> FrameShape:
    layout = get_str(request, "layout")
    if choose_layout(layout) != layout:
        raise ValueError(f"unknown layout {layout!r}")
    return FrameShape(layout=layout, height=get_int(request, "height"), width=get_int(request, "width"))


def _read_limits(message: Message) -> DecodeLimits:
    return DecodeLimits(
        max_pixels=get_int(message, "max_pixels"),
        max_streams=get_int(message, "max_streams"),
        max_frames=get_int(message, "max_frames"),
        wall_s=get_float(message, "wall_s"),
        start_s=get_float(message, "start_s"),
        cpu_s_start=get_float(message, "cpu_s_start"),
        cpu_s_per_frame=get_float(message, "cpu_s_per_frame"),
        cpu_s_per_megabyte=get_float(message, "cpu_s_per_megabyte"),
        memory_bytes=get_int(message, "memory_bytes"),
    )


def main() -> NoReturn:
    """Binds itself to its limits and answers requests until its standard input ends."""
    # Nothing but our own lines may get into the channel, whatever a library prints.
    output_fd = os.dup(1)
    os.dup2(2, 1)
    channel = Channel(input_fd=os.dup(0), output_fd=output_fd)
    configuration = channel.receive()
    limits = _read_limits(configuration)
    bind_process(limits, ring_bytes=get_int(configuration, "max_ring_bytes"))
    # A full pipe must not stop us: what does not fit is lost.
    os.set_blocking(2, False)
    # libav's errors are counted (workers/decoding.py), not shown.
    logging.disable(logging.CRITICAL)
    av.logging.set_level(av.logging.ERROR)
    child = Child(channel, ring_fd=int(sys.argv[1]), limits=limits, num_threads=get_int(configuration, "num_threads"))
    channel.send({"type": "ready"})
    while True:
        child.answer(channel.receive())


if __name__ == "__main__":
    main()
