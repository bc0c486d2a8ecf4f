"""Around damage: a damaged frame costs itself and those that are coded against it, and the others are decoded.

Damage shows in two ways: a stream's checksum is wrong, or the decoder can't make sense of it. In either case the frames
that follow are left out up to the next one that stands alone (`is_independent` in the pack's table), and decoding goes
on there with a decoder that remembers nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from framevault.codecs.base import Changes
from framevault.codecs.errors import BitstreamError
from framevault.storage.errors import ChecksumError, PackError
from framevault.storage.packs import Pack, read_pack
from framevault.storage.store import ObjectRef, Store

FeatureDecoder = Callable[[Sequence[bytes]], Changes]
"""Gives the features of the next streams of a segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFault:
    """Consecutive frames of a segment that can't be decoded."""

    first_frame: int
    """Number of the damaged one."""
    last_frame: int
    """Number of the last one that is coded against it; the same if none is."""
    first_pts: int
    """Of the first."""
    last_pts: int
    """Of the last."""
    reason: str
    """What is wrong with it."""

    @property
    def num_frames(self) -> int:
        """How many they are."""
        return self.last_frame - self.first_frame + 1

    def __str__(self) -> str:
        """Say what is lost, and why."""
        others = f" and those coded against it, to {self.last_frame}" if self.num_frames > 1 else ""
        return f"frame {self.first_frame}{others}: {self.reason}"


def read_stored(store: Store, ref: ObjectRef, *, segment_id: str) -> Pack:
    """Read a segment's pack. One in which nothing but streams is damaged is returned too: the others are sound.

    Raises:
        ChecksumError: It is damaged where all frames are lost, or another object.
        StoreError: It can't be read.
    """
    key = f"{store.url}: {ref.key}"
    try:
        return read_pack(store.read_checked(ref), key=key)
    except ChecksumError:
        data = store.read(ref.key)
        try:
            pack = read_pack(data, key=key)
        except PackError:
            pack = None
        # Header and table have checksums of their own. If all streams are whole as well, it is a pack, but another one.
        if (
            pack is None
            or len(data) != ref.size_bytes
            or pack.header.segment_id != segment_id
            or not any(_faults(pack))
        ):
            raise
        return pack


class SegmentRun:
    """One way through a segment: batch by batch, and around damage. For one thread."""

    def __init__(self, pack: Pack, make_decoder: Callable[[], FeatureDecoder], *, batch_size: int) -> None:
        """Begin.

        Args:
            pack: The segment.
            make_decoder: Makes a decoder that remembers nothing.
            batch_size: Most frames of a call.
        """
        self._pack = pack
        self._make_decoder = make_decoder
        self._decode = make_decoder()
        self._batch_size = batch_size
        self._faults = _faults(pack)
        self._position = 0
        self._single_until = 0

    @property
    def is_over(self) -> bool:
        """Whether no frame is left."""
        return self._position == len(self._pack.frames)

    def advance(self) -> tuple[range, Changes] | FrameFault:
        """Decode the next frames, or say why the next one can't be decoded."""
        first = self._position
        fault = self._faults[first]
        if fault is not None:
            return self._leave_out(fault)
        numbers = self._next_numbers()
        try:
            changes = self._decode([self._pack.payload(number) for number in numbers])
        except BitstreamError as error:
            if len(numbers) == 1:
                return self._leave_out(f"{self._pack.table.key}: frame {first}: {error}")
            # One of them it is: again, one by one.
            self._single_until = numbers.stop
            self._start_over()
            return self.advance()
        self._position = numbers.stop
        return numbers, changes

    def _next_numbers(self) -> range:
        """Return the frames of the next call: as many whole ones as go through the networks together."""
        first = self._position
        last = min(first + (1 if first < self._single_until else self._batch_size), len(self._faults))
        return range(first, next((n for n in range(first, last) if self._faults[n] is not None), last))

    def _leave_out(self, reason: str) -> FrameFault:
        """Go on behind the next frame and those after it that are coded against it."""
        frames, first = self._pack.frames, self._position
        self._position = next((n for n in range(first + 1, len(frames)) if frames[n].is_independent), len(frames))
        # What the decoder remembers is not what the next frame's encoder remembered.
        self._decode = self._make_decoder()
        last = self._position - 1
        return FrameFault(
            first_frame=first,
            last_frame=last,
            first_pts=frames[first].pts,
            last_pts=frames[last].pts,
            reason=reason,
        )

    def _start_over(self) -> None:
        """Have a decoder again that has decoded all frames before the next one, from the last that stands alone."""
        self._decode = self._make_decoder()
        start = max(n for n in range(self._position + 1) if self._pack.frames[n].is_independent)
        for first in range(start, self._position, self._batch_size):
            numbers = range(first, min(first + self._batch_size, self._position))
            self._decode([self._pack.payload(number) for number in numbers])


def _faults(pack: Pack) -> list[str | None]:
    """Say of each frame what is wrong with its stream; None if it is what was written."""
    return [_fault(pack, frame.frame_number) for frame in pack.frames]


def _fault(pack: Pack, frame_number: int) -> str | None:
    try:
        pack.payload(frame_number)
    except PackError as error:
        return str(error)
    return None
