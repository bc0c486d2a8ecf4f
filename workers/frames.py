"""Frames of a segment, decoded in a guarded child process and read from shared memory without a copy.

The child (`workers/decoding_child.py`) runs ahead of the consumer as far as the ring has room, so decoding overlaps
with what is done to the frames. Neither av nor torch is imported on this side.

Layouts: N frames, H rows, W columns; planes are uint8 [N, H, W] (chroma planes smaller), or [N, H, W, 3] for rgb24.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from framevault.workers.errors import DecodeError, DecoderFailedError
from framevault.workers.guard import GuardedChild
from framevault.workers.limits import DecodeLimits
from framevault.workers.messages import Message, MessageError, get_float, get_ints, get_str
from framevault.workers.pixels import FrameShape, PixelLayout, choose_layout, view_slots
from framevault.workers.tasks import ColourMatrix, ColourRange, Segment

RING_BYTES = 96 << 20
"""Shared memory of a reader, unless told otherwise: two batches of sixteen 1080p frames."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameBatch:
    """Consecutive frames of a segment; the planes are views that hold until the next batch is asked for."""

    pts: tuple[int, ...]
    """Each frame's pts, in ticks of the source's time base."""
    is_keyframe: tuple[bool, ...]
    """Whether each frame was coded in the source without reference to others."""
    planes: tuple[NDArray[np.uint8], ...]
    """Y, U and V [N, rows, columns], Y, or RGB [N, rows, columns, 3], as `layout` says; coded size, not turned."""
    layout: PixelLayout
    """How the planes make pixels."""
    height: int
    """Coded height, in pixels."""
    width: int
    """Coded width, in pixels."""
    colour_matrix: ColourMatrix
    """What the frames say about their colour matrix."""
    colour_range: ColourRange
    """Range of the sample values."""
    rotation_degrees: int
    """Clockwise turn that makes the frames upright."""

    @property
    def num_frames(self) -> int:
        """How many frames it holds."""
        return len(self.pts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedFrame:
    """One frame of a segment; the planes are views that hold until the next frame is asked for."""

    pts: int
    """Its pts, in ticks of the source's time base."""
    is_keyframe: bool
    """Whether it was coded in the source without reference to others."""
    planes: tuple[NDArray[np.uint8], ...]
    """Y, U and V [rows, columns], Y alone, or RGB [rows, columns, 3], as `layout` says; coded size, not turned."""
    layout: PixelLayout
    """How the planes make pixels."""


class FrameReader:
    """Decodes segments, one at a time, in one guarded child that serves them all.

    It may be used from any thread but by one at a time; threads that decode at once have a reader each. Close it, or
    use it in a `with` statement; one that is forgotten ends its child when it is collected or the interpreter exits.
    """

    def __init__(
        self, *, limits: DecodeLimits | None = None, ring_bytes: int = RING_BYTES, num_threads: int = 1
    ) -> None:
        """Starts nothing yet; the child starts with the first segment.

        `ring_bytes` bounds the shared memory, but two frames always fit. `num_threads` are the decoder's threads: more
        than one helps only sources coded in slices; more readers help always.
        """
        self._limits = limits or DecodeLimits()
        self._ring_bytes = ring_bytes
        largest = FrameShape(layout="rgb24", height=1, width=self._limits.max_pixels).slot_bytes
        self._child = GuardedChild(
            limits=self._limits, max_ring_bytes=max(ring_bytes, 2 * largest), num_threads=num_threads
        )
        self._busy = threading.Lock()

    @property
    def process_id(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._child.process_id

    def batches(self, segment: Segment, *, batch_size: int = 16) -> FrameBatches:
        """Begins to decode at once and gives the frames in batches of `batch_size`, or fewer if the ring is small.

        Raises:
            RuntimeError: Another segment is not finished or closed yet.
            DecoderKilledError: No child can be started.
        """
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("a FrameReader decodes one segment at a time: exhaust or close the one before")
        try:
            return FrameBatches(
                self._child, segment, ring_bytes=self._ring_bytes, batch_size=batch_size, busy=self._busy
            )
        except BaseException:
            self._busy.release()
            raise

    def frames(self, segment: Segment) -> Iterator[DecodedFrame]:
        """Yields the segment's frames one by one; raises what `FrameBatches` raises."""
        with self.batches(segment, batch_size=1) as batches:
            for batch in batches:
                yield DecodedFrame(
                    pts=batch.pts[0],
                    is_keyframe=batch.is_keyframe[0],
                    planes=tuple(plane[0] for plane in batch.planes),
                    layout=batch.layout,
                )

    def close(self) -> None:
        """Ends the child and frees the ring."""
        self._child.close()

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Closes."""
        self.close()


class FrameBatches(Iterator[FrameBatch]):
    """The batches of one segment that is being decoded; made by `FrameReader.batches`.

    All frames are good only once the iteration has ended without an error: the source is checked for changes last.
    Closing it before ends the child.
    """

    def __init__(
        self, child: GuardedChild, segment: Segment, *, ring_bytes: int, batch_size: int, busy: threading.Lock
    ) -> None:
        """Sends the request."""
        self._child = child
        self._segment = segment
        self._busy: threading.Lock | None = None
        self._shape = segment_shape(segment)
        slot_bytes = self._shape.slot_bytes
        self._batch = max(1, min(batch_size, ring_bytes // (2 * slot_bytes), segment.num_frames))
        num_batches = max(2, min(ring_bytes // (self._batch * slot_bytes), -(-segment.num_frames // self._batch)))
        self._num_slots = self._batch * num_batches
        self._ring = child.map_ring(self._num_slots * slot_bytes)
        self._keyframes: list[int] = []
        self._num_given = 0
        self._num_held = 0
        self._colour: tuple[ColourMatrix, ColourRange] | None = None
        self.decode_s = 0.0
        """Seconds that the child worked on the segment; known at the end."""
        self.blocked_s = 0.0
        """Seconds that the child waited for room in the ring; known at the end."""
        child.send(_request(segment, self._shape, num_slots=self._num_slots, batch=self._batch))
        self._busy = busy

    def __iter__(self) -> Self:
        """Gives itself."""
        return self

    def __next__(self) -> FrameBatch:
        """Gives the next batch; the views of the one before are overwritten from now on.

        Raises:
            DecodeError: The source did not give exactly the expected frames.
            SourceChangedError: It is not the source that was planned.
            SourceUnavailableError: It can't be reached.
            DecoderKilledError: The child died or went over a limit; a retry may help.
            DecoderFailedError: The child has a bug.
        """
        if self._busy is None:
            raise StopIteration
        try:
            return self._receive_batch()
        except StopIteration:
            self._finish()
            raise
        except DecodeError as error:
            self._finish()
            raise type(error)(f"{error} ({describe_segment(self._segment)})") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops decoding; does nothing once the segment is finished."""
        if self._busy is not None:
            self._child.stop()
            self._finish()

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Closes."""
        self.close()

    def __del__(self) -> None:
        """Closes, if it was forgotten."""
        if getattr(self, "_busy", None) is not None:
            self.close()

    def _finish(self) -> None:
        if self._busy is not None:
            self._busy.release()
        self._busy = None

    def _receive_batch(self) -> FrameBatch:
        if self._num_held:
            self._child.send({"op": "release", "slots": self._num_held})
            self._num_held = 0
        num_left = self._segment.num_frames - self._num_given
        num_wanted = min(self._batch, num_left)
        while len(self._keyframes) < self._num_given + max(1, num_wanted):
            message = self._child.receive()
            if not self._take(message):
                if num_left:
                    raise DecoderFailedError(f"expected {num_left} more frames, the decoding child ended without them")
                raise StopIteration
        return self._make_batch(num_wanted)

    def _take(self, message: Message) -> bool:
        """Notes what a message says; false at the end."""
        try:
            kind = get_str(message, "type")
            if kind == "start":
                self._colour = _read_colour(message)
            elif kind == "frames":
                self._keyframes.extend(get_ints(message, "keyframes"))
            elif kind == "end":
                self.decode_s, self.blocked_s = get_float(message, "decode_s"), get_float(message, "wait_s")
            else:
                raise MessageError(f"expected start, frames or end, got {kind!r:.80}")
            if len(self._keyframes) > min(self._segment.num_frames, self._num_given + self._num_slots):
                raise MessageError(f"expected {self._segment.num_frames} frames, got more")
        except MessageError as error:
            raise DecoderFailedError(f"the decoding child broke the protocol: {error}") from error
        return kind != "end"

    def _make_batch(self, num_frames: int) -> FrameBatch:
        if self._colour is None:
            raise DecoderFailedError("the decoding child sent frames before their colour facts")
        start, stop = self._num_given, self._num_given + num_frames
        first_slot = start % self._num_slots
        planes = view_slots(self._ring, self._shape, first_slot=first_slot, num_slots=num_frames)
        self._num_given, self._num_held = stop, num_frames
        return FrameBatch(
            pts=self._segment.frame_pts[start:stop],
            is_keyframe=tuple(bool(flag) for flag in self._keyframes[start:stop]),
            planes=planes,
            layout=self._shape.layout,
            height=self._shape.height,
            width=self._shape.width,
            colour_matrix=self._colour[0],
            colour_range=self._colour[1],
            rotation_degrees=self._segment.source.rotation_degrees,
        )


def segment_shape(segment: Segment) -> FrameShape:
    """Gives layout and coded size of the frames that a segment is decoded to."""
    layout = choose_layout(segment.source.pixel_format)
    return FrameShape(layout=layout, height=segment.height, width=segment.width)


def describe_segment(segment: Segment) -> str:
    """Gives the words that tell people which segment it is."""
    return f"segment {segment.number}, pts {segment.first_pts} to {segment.last_pts}"


def _request(segment: Segment, shape: FrameShape, *, num_slots: int, batch: int) -> Message:
    common: dict[str, object] = {**asdict(shape), "num_slots": num_slots, "batch": batch}
    if segment.packets is None:
        files = [asdict(file) for file in segment.files]
        return {"op": "decode_pictures", "url": segment.source.url, "files": files, **common}
    source = segment.source
    facts = {"url": source.url, "version_token": source.version_token, "is_first": int(segment.number == 0)}
    return {"op": "decode_video", **facts, **asdict(segment.packets), **common}


def _read_colour(message: Message) -> tuple[ColourMatrix, ColourRange]:
    matrix, value_range = get_str(message, "matrix"), get_str(message, "range")
    if matrix not in get_args(ColourMatrix) or value_range not in get_args(ColourRange):
        raise MessageError(f"unknown colour matrix {matrix!r:.80} or range {value_range!r:.80}")
    return cast(ColourMatrix, matrix), cast(ColourRange, value_range)
