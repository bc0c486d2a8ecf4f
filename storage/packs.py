"""The pack: the bitstreams of one segment with an offset table, in one immutable object.

::

    prologue 12 B | header (JSON) | payloads, one after the other | table | trailer 48 B

`FORMAT.md` specifies every byte; `pack_envelope.py` has the two ends, `pack_table.py` the table. Packs come from
anywhere: every length and offset is checked before it is used, and nothing is allocated on a number's word alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from google_crc32c import value as crc32c

from framevault.storage.documents import Fields, JsonValue, canonical_json, check_requires, json_depth, parse_json
from framevault.storage.errors import DamagedError, PackError, UnsupportedError, UnsupportedPackError
from framevault.storage.pack_envelope import (
    LARGEST_HEADER,
    PROLOGUE,
    TRAILER,
    Trailer,
    read_prologue,
    read_trailer,
    write_prologue,
    write_trailer,
)
from framevault.storage.pack_table import MOST_FRAMES, FrameEntry, decode_table, encode_table

LARGEST_PAYLOAD = 2**31 - 1
"""Bytes of one frame's stream, so that its size fits the index."""

LARGEST_SIDE = 1 << 20
"""Pixels."""

HIGHEST_BITSTREAM_VERSION = 2**16 - 1
"""They start at 1."""

HIGHEST_QUALITY = 1000
"""They start at 0; what they mean is the codec's affair."""

DEEPEST_SETTINGS = 16
"""Objects and lists within each other; some JSON readers allow few."""

ROTATIONS = (0, 90, 180, 270)
"""Degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHeader:
    """What is the same for all frames of a pack."""

    video_id: str
    """Of the source, 32 hex digits."""
    segment_id: str
    """Of the segment, 32 hex digits."""
    codec: str
    """Name of the codec."""
    bitstream_version: int
    """Of the codec's streams; counts up when their layout changes, whatever becomes of the pack's own."""
    codec_fingerprint: str
    """SHA-256 over codec, settings and weights, 64 hex digits."""
    weights_digest: str
    """SHA-256 of the codec's checkpoint, 64 hex digits; of nothing for a codec without."""
    quality: int
    """Rate level of the codec."""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """Anything else that the codec wants to know when it decodes."""
    coded_height: int
    """Height of the frames as they were given to the codec, in pixels."""
    coded_width: int
    """Width of the frames as they were given to the codec, in pixels."""
    source_height: int
    """Height of the source's decoded frames, before rotation."""
    source_width: int
    """Width of the source's decoded frames, before rotation."""
    time_base: tuple[int, int]
    """Seconds a pts tick, as numerator and denominator."""
    rotation_degrees: int
    """Clockwise rotation that was applied to the source's frames: 0, 90, 180 or 270."""
    sample_aspect_ratio: tuple[int, int]
    """Width to height of a source pixel."""
    colour: str
    """The source's colours, as matrix and range."""
    sampling: str
    """Which frames of the source were taken."""
    outside_domain: tuple[tuple[int, int], ...] = ()
    """Runs of frames that are outside the codec's domain: the first one's number and how many, rising.

    What is restored of them differs from what they were by more than the codec's limit.
    """

    def to_json(self) -> bytes:
        """Return the header as it is stored."""
        names = [name for name in self.__slots__ if name not in ("settings", "outside_domain")]
        members = {name: getattr(self, name) for name in names}
        if self.outside_domain:
            members["outside_domain"] = [list(run) for run in self.outside_domain]
        return canonical_json({**members, "settings": dict(self.settings), "requires": []})

    @classmethod
    def from_json(cls, key: str, payload: bytes) -> PackHeader:
        """Parse a stored header.

        Raises:
            PackError: It is not one.
            UnsupportedPackError: It requires what this version does not know.
        """
        try:
            members = parse_json(f"{key}: header", payload)
            if not isinstance(members, dict):
                raise PackError(f"{key}: the header must be a JSON object")
            return cls._from_fields(Fields(f"{key}: header", members))
        except UnsupportedError as error:
            raise UnsupportedPackError(str(error)) from error
        except DamagedError as error:
            raise PackError(str(error)) from error

    @classmethod
    def _from_fields(cls, fields: Fields) -> PackHeader:
        check_requires(fields.key, fields.words("requires"))
        return cls(
            video_id=fields.hexadecimal("video_id", length=32),
            segment_id=fields.hexadecimal("segment_id", length=32),
            codec=fields.word("codec"),
            bitstream_version=fields.integer("bitstream_version", minimum=1, maximum=HIGHEST_BITSTREAM_VERSION),
            codec_fingerprint=fields.hexadecimal("codec_fingerprint", length=64),
            weights_digest=fields.hexadecimal("weights_digest", length=64),
            quality=fields.integer("quality", maximum=HIGHEST_QUALITY),
            settings=fields.mapping("settings"),
            coded_height=fields.integer("coded_height", minimum=1, maximum=LARGEST_SIDE),
            coded_width=fields.integer("coded_width", minimum=1, maximum=LARGEST_SIDE),
            source_height=fields.integer("source_height", minimum=1, maximum=LARGEST_SIDE),
            source_width=fields.integer("source_width", minimum=1, maximum=LARGEST_SIDE),
            time_base=fields.fraction("time_base"),
            rotation_degrees=fields.choice("rotation_degrees", ROTATIONS),
            sample_aspect_ratio=fields.fraction("sample_aspect_ratio"),
            colour=fields.text("colour"),
            sampling=fields.text("sampling"),
            outside_domain=fields.pairs("outside_domain"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFrame:
    """One frame's stream in a pack."""

    frame_number: int
    """Position in the segment, from 0."""
    pts: int
    """In ticks of the header's time base; rises from frame to frame."""
    offset: int
    """Where the stream starts in the object."""
    length: int
    """Bytes of the stream."""
    crc32c: int
    """CRC32C of the stream."""
    is_keyframe: bool
    """Whether the source's frame was a keyframe."""
    is_independent: bool
    """Whether the stream decodes without the segment's earlier ones.

    One that does not may need all of them from the latest independent frame on, and none before it.
    """
    is_outside: bool
    """Whether the header says that it is outside the codec's domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTable:
    """All of a pack but its streams."""

    key: str
    """Where the pack lies; for messages if it came as bytes."""
    header: PackHeader
    """What is the same for all frames."""
    frames: tuple[PackFrame, ...]
    """At least one."""

    def check_payload(self, frame_number: int, payload: bytes) -> bytes:
        """Return one frame's stream if it is what was written.

        Raises:
            PackError: It is not; names the key and the frame.
        """
        frame = self.frames[frame_number]
        if len(payload) != frame.length:
            raise PackError(f"{self.key}: frame {frame_number} must have {frame.length} bytes, has {len(payload)}")
        if (found := crc32c(payload)) != frame.crc32c:
            raise PackError(f"{self.key}: frame {frame_number} must have CRC32C {frame.crc32c:08x}, has {found:08x}")
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A whole pack in memory."""

    table: PackTable
    """Header and frames."""
    data: bytes = field(repr=False)
    """The object."""

    @property
    def header(self) -> PackHeader:
        """What is the same for all frames."""
        return self.table.header

    @property
    def frames(self) -> tuple[PackFrame, ...]:
        """The frames, at least one."""
        return self.table.frames

    def payload(self, frame_number: int) -> bytes:
        """Return one frame's stream.

        Raises:
            PackError: Its checksum is wrong; names the key and the frame. Other frames are as good as before.
            IndexError: There is no such frame.
        """
        frame = self.frames[frame_number]
        return self.table.check_payload(frame.frame_number, self.data[frame.offset : frame.offset + frame.length])

    def check_payloads(self) -> None:
        """Check every frame's stream.

        Raises:
            PackError: One is damaged; names the key and the frame.
        """
        for frame in self.frames:
            self.payload(frame.frame_number)


class PackWriter:
    """Collects the streams of a segment; not for several threads at once."""

    def __init__(self, header: PackHeader) -> None:
        """Start a pack.

        Raises:
            PackError: A member of the header could not be read back.
        """
        self._header = header
        self._segment_id = header.segment_id
        self._write_header()
        self._outside = {first + number for first, count in header.outside_domain for number in range(count)}
        self._payloads: list[bytes] = []
        self._entries: list[FrameEntry] = []

    def add(
        self, payload: bytes, *, pts: int, is_keyframe: bool, is_independent: bool, is_outside: bool = False
    ) -> None:
        """Add the next frame; its stream may have no bytes at all.

        It is outside the codec's domain if this says so, or the header that was given.

        Raises:
            PackError: The stream is too long, the pts not above the one before, or the first frame not independent.
        """
        if len(payload) > LARGEST_PAYLOAD:
            raise PackError(
                f"segment {self._segment_id}: a stream may have {LARGEST_PAYLOAD} bytes, got {len(payload)}"
            )
        if self._entries and pts <= self._entries[-1].pts:
            raise PackError(f"segment {self._segment_id}: pts must rise, got {pts} after {self._entries[-1].pts}")
        if not self._entries and not is_independent:
            raise PackError(f"segment {self._segment_id}: the first frame must be independent")
        if is_outside:
            self._outside.add(len(self._entries))
        self._payloads.append(payload)
        self._entries.append(
            FrameEntry(
                length=len(payload),
                crc32c=crc32c(payload),
                pts=pts,
                is_keyframe=bool(is_keyframe),
                is_independent=bool(is_independent),
            )
        )

    def finish(self) -> bytes:
        """Return the pack.

        Raises:
            PackError: No frame was added, or too many.
        """
        if not 1 <= len(self._entries) <= MOST_FRAMES:
            raise PackError(
                f"segment {self._segment_id}: a pack must have at least one frame and at most {MOST_FRAMES}, "
                f"has {len(self._entries)}"
            )
        self._header = replace(self._header, outside_domain=_runs(self._outside))
        header_json = self._write_header()
        _outside_frames(f"segment {self._segment_id}", self._header, len(self._entries))
        table, base = encode_table(self._entries)
        prologue = write_prologue(len(header_json))
        trailer = Trailer(
            table_length=len(table),
            num_frames=len(self._entries),
            header_crc32c=crc32c(header_json),
            table_crc32c=crc32c(table),
            base=base,
        )
        return b"".join([prologue, header_json, *self._payloads, table, write_trailer(prologue, trailer)])

    def _write_header(self) -> bytes:
        header_json = self._header.to_json()
        PackHeader.from_json(f"segment {self._segment_id}", header_json)
        size, depth = len(header_json), json_depth(dict(self._header.settings))
        if size > LARGEST_HEADER or depth > DEEPEST_SETTINGS:
            raise PackError(
                f"segment {self._segment_id}: settings may be {DEEPEST_SETTINGS} deep and the header have "
                f"{LARGEST_HEADER} bytes, these are {depth} deep and it has {size}"
            )
        return header_json


def read_pack(data: bytes, *, key: str = "pack") -> Pack:
    """Parse a whole pack; the streams are checked when they are asked for.

    Raises:
        PackError: It is not a pack; names the key and the reason.
    """
    return Pack(table=parse_ends(key, len(data), data, data), data=data)


def parse_ends(key: str, size_bytes: int, head: bytes, tail: bytes) -> PackTable:
    """Parse a pack of so many bytes from its first ones, header included, and its last ones, table included.

    Raises:
        PackError: It is not a pack; names the key and the reason.
    """
    header_length = read_prologue(key, head)
    trailer = read_trailer(key, head, tail)
    room = payload_room(key, size_bytes, header_length, trailer)
    header_json = head[PROLOGUE.size : PROLOGUE.size + header_length]
    if len(header_json) != header_length or crc32c(header_json) != trailer.header_crc32c:
        raise PackError(f"{key}: the header's checksum is wrong")
    end = len(tail) - TRAILER.size
    table = tail[max(0, end - trailer.table_length) : end]
    if len(table) != trailer.table_length or crc32c(table) != trailer.table_crc32c:
        raise PackError(f"{key}: the table's checksum is wrong")
    entries = decode_table(key, table, num_frames=trailer.num_frames, base=trailer.base)
    payload_bytes = sum(entry.length for entry in entries)
    if payload_bytes != room:
        raise PackError(f"{key}: the table's streams must fill {room} bytes, fill {payload_bytes}")
    header = PackHeader.from_json(key, header_json)
    outside = _outside_frames(key, header, len(entries))
    return PackTable(key=key, header=header, frames=_frames(entries, PROLOGUE.size + header_length, outside=outside))


def payload_room(key: str, size_bytes: int, header_length: int, trailer: Trailer) -> int:
    """Return how many bytes of a pack are left for streams.

    Raises:
        PackError: Header and table have more than there are.
    """
    room = size_bytes - PROLOGUE.size - TRAILER.size - header_length - trailer.table_length
    if room < 0:
        raise PackError(f"{key}: header and table do not fit in {size_bytes} bytes")
    return room


def _runs(numbers: Collection[int]) -> tuple[tuple[int, int], ...]:
    """Return the runs of consecutive numbers: each one's first, and how many."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and sum(runs[-1]) == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return tuple(runs)


def _outside_frames(key: str, header: PackHeader, num_frames: int) -> frozenset[int]:
    """Return the frames that a header says are outside the codec's domain.

    Raises:
        PackError: Runs don't rise, are empty, or name frames that there are not.
    """
    end = 0
    for first, count in header.outside_domain:
        if first < end or count < 1 or first + count > num_frames:
            raise PackError(
                f"{key}: header: outside_domain must be rising runs among {num_frames} frames, has {[first, count]}"
            )
        end = first + count
    return frozenset(first + number for first, count in header.outside_domain for number in range(count))


def _frames(entries: Sequence[FrameEntry], offset: int, *, outside: Collection[int]) -> tuple[PackFrame, ...]:
    frames = []
    for number, entry in enumerate(entries):
        frames.append(
            PackFrame(
                frame_number=number,
                pts=entry.pts,
                offset=offset,
                length=entry.length,
                crc32c=entry.crc32c,
                is_keyframe=entry.is_keyframe,
                is_independent=entry.is_independent,
                is_outside=number in outside,
            )
        )
        offset += entry.length
    return tuple(frames)
