"""The pack: the bitstreams of one segment with an offset table, in one immutable object.

::

    prologue 12 B | header (JSON) | payloads, one after the other | table | trailer 48 B

`FORMAT.md` specifies every byte; `pack_envelope.py` has the two ends, `pack_table.py` the table. Packs come from
anywhere: every length and offset is checked before it is used, and nothing is allocated on a number's word alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google_crc32c import value as crc32c

from framevault.storage.documents import Fields, JsonValue, canonical_json, parse_json
from framevault.storage.errors import DamagedError, PackError
from framevault.storage.pack_envelope import (
    PROLOGUE,
    TRAILER,
    Trailer,
    read_prologue,
    read_trailer,
    write_prologue,
    write_trailer,
)
from framevault.storage.pack_table import FrameEntry, decode_table, encode_table
from framevault.storage.store import Store

LARGEST_PAYLOAD = 2**31 - 1
"""Bytes of one frame's stream, so that its size fits the index."""

LARGEST_SIDE = 1 << 20
"""Pixels."""

PROBE_BYTES = 1 << 16
"""Read at once from either end of a pack for its header and table; a segment's table is a few kilobytes."""

LARGEST_GAP = 1 << 16
"""Bytes between wanted frames that are read along rather than asked for separately."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHeader:
    """What is the same for all frames of a pack."""

    video_id: str
    """Of the source, 32 hex digits."""
    segment_id: str
    """Of the segment, 32 hex digits."""
    codec: str
    """Name of the codec."""
    codec_fingerprint: str
    """SHA-256 over codec, settings and weights, 64 hex digits."""
    weights_digest: str
    """SHA-256 of the codec's weights; empty or of nothing for a codec without."""
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

    def to_json(self) -> bytes:
        """Return the header as it is stored."""
        names = [name for name in self.__slots__ if name != "settings"]
        return canonical_json({**{name: getattr(self, name) for name in names}, "settings": dict(self.settings)})

    @classmethod
    def from_json(cls, key: str, payload: bytes) -> PackHeader:
        """Parse a stored header.

        Raises:
            PackError: It is not one.
        """
        try:
            members = parse_json(f"{key}: header", payload)
            if not isinstance(members, dict):
                raise PackError(f"{key}: the header must be a JSON object")
            return cls._from_fields(Fields(f"{key}: header", members))
        except DamagedError as error:
            raise PackError(str(error)) from error

    @classmethod
    def _from_fields(cls, fields: Fields) -> PackHeader:
        return cls(
            video_id=fields.hexadecimal("video_id", length=32),
            segment_id=fields.hexadecimal("segment_id", length=32),
            codec=fields.text("codec"),
            codec_fingerprint=fields.hexadecimal("codec_fingerprint", length=64),
            weights_digest=fields.text("weights_digest"),
            quality=fields.integer("quality", maximum=1000),
            settings=fields.mapping("settings"),
            coded_height=fields.integer("coded_height", minimum=1, maximum=LARGEST_SIDE),
            coded_width=fields.integer("coded_width", minimum=1, maximum=LARGEST_SIDE),
            source_height=fields.integer("source_height", minimum=1, maximum=LARGEST_SIDE),
            source_width=fields.integer("source_width", minimum=1, maximum=LARGEST_SIDE),
            time_base=fields.fraction("time_base"),
            rotation_degrees=fields.integer("rotation_degrees", maximum=359),
            sample_aspect_ratio=fields.fraction("sample_aspect_ratio"),
            colour=fields.text("colour"),
            sampling=fields.text("sampling"),
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
        self._header_json = header.to_json()
        PackHeader.from_json(f"segment {header.segment_id}", self._header_json)
        self._segment_id = header.segment_id
        self._payloads: list[bytes] = []
        self._entries: list[FrameEntry] = []

    def add(self, payload: bytes, *, pts: int, is_keyframe: bool) -> None:
        """Add the next frame.

        Raises:
            PackError: The stream is too long, or the pts not above the one before.
        """
        if len(payload) > LARGEST_PAYLOAD:
            raise PackError(
                f"segment {self._segment_id}: a stream may have {LARGEST_PAYLOAD} bytes, got {len(payload)}"
            )
        if self._entries and pts <= self._entries[-1].pts:
            raise PackError(f"segment {self._segment_id}: pts must rise, got {pts} after {self._entries[-1].pts}")
        self._payloads.append(payload)
        self._entries.append(
            FrameEntry(length=len(payload), crc32c=crc32c(payload), pts=pts, is_keyframe=bool(is_keyframe))
        )

    def finish(self) -> bytes:
        """Return the pack.

        Raises:
            PackError: No frame was added.
        """
        if not self._entries:
            raise PackError(f"segment {self._segment_id}: a pack must have at least one frame")
        table, base = encode_table(self._entries)
        prologue = write_prologue(len(self._header_json))
        trailer = Trailer(
            table_length=len(table),
            num_frames=len(self._entries),
            header_crc32c=crc32c(self._header_json),
            table_crc32c=crc32c(table),
            base=base,
        )
        return b"".join([prologue, self._header_json, *self._payloads, table, write_trailer(prologue, trailer)])


def read_pack(data: bytes, *, key: str = "pack") -> Pack:
    """Parse a whole pack; the streams are checked when they are asked for.

    Raises:
        PackError: It is not a pack; names the key and the reason.
    """
    return Pack(table=_parse(key, len(data), data, data), data=data)


def read_pack_table(store: Store, key: str, *, size_bytes: int) -> PackTable:
    """Read a stored pack's header and table only.

    Raises:
        PackError: It is not a pack.
        NotFoundError: There is none.
        StoreUnavailableError: The store can't be read.
    """
    head = store.read(key, length=min(PROBE_BYTES, size_bytes))
    tail = store.read(key, start=max(0, size_bytes - PROBE_BYTES), length=min(PROBE_BYTES, size_bytes))
    if (needed := PROLOGUE.size + read_prologue(key, head)) > len(head):
        head = store.read(key, length=min(needed, size_bytes))
    trailer = read_trailer(key, head, tail)
    if (needed := TRAILER.size + trailer.table_length) > len(tail):
        tail = store.read(key, start=max(0, size_bytes - needed), length=min(needed, size_bytes))
    return _parse(key, size_bytes, head, tail)


def read_payloads(store: Store, table: PackTable, *, frame_numbers: Sequence[int]) -> list[bytes]:
    """Read some frames' streams of a stored pack; neighbours are read together.

    Raises:
        PackError: A stream is damaged; names the key and the frame.
        NotFoundError: The pack is gone.
        StoreUnavailableError: The store can't be read.
    """
    wanted = [table.frames[number] for number in sorted(set(frame_numbers))]
    payloads: dict[int, bytes] = {}
    for run in _coalesce(wanted):
        start = run[0].offset
        data = store.read(table.key, start=start, length=run[-1].offset + run[-1].length - start)
        for frame in run:
            payload = data[frame.offset - start : frame.offset - start + frame.length]
            payloads[frame.frame_number] = table.check_payload(frame.frame_number, payload)
    return [payloads[table.frames[number].frame_number] for number in frame_numbers]


def _parse(key: str, size_bytes: int, head: bytes, tail: bytes) -> PackTable:
    """Parse a pack from its first and its last bytes (which may overlap)."""
    header_length = read_prologue(key, head)
    trailer = read_trailer(key, head, tail)
    room = size_bytes - PROLOGUE.size - TRAILER.size - header_length
    if trailer.table_length > room:
        raise PackError(f"{key}: header and table do not fit in {size_bytes} bytes")
    header_json = head[PROLOGUE.size : PROLOGUE.size + header_length]
    if len(header_json) != header_length or crc32c(header_json) != trailer.header_crc32c:
        raise PackError(f"{key}: the header's checksum is wrong")
    end = len(tail) - TRAILER.size
    table = tail[max(0, end - trailer.table_length) : end]
    if len(table) != trailer.table_length or crc32c(table) != trailer.table_crc32c:
        raise PackError(f"{key}: the table's checksum is wrong")
    entries = decode_table(key, table, num_frames=trailer.num_frames, base=trailer.base)
    payload_bytes = sum(entry.length for entry in entries)
    if payload_bytes != room - trailer.table_length:
        raise PackError(
            f"{key}: the table's streams must fill {room - trailer.table_length} bytes, fill {payload_bytes}"
        )
    header = PackHeader.from_json(key, header_json)
    return PackTable(key=key, header=header, frames=_frames(entries, PROLOGUE.size + header_length))


def _frames(entries: Sequence[FrameEntry], offset: int) -> tuple[PackFrame, ...]:
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
            )
        )
        offset += entry.length
    return tuple(frames)


def _coalesce(frames: Sequence[PackFrame]) -> list[list[PackFrame]]:
    """Group frames, in order, that lie close together."""
    runs: list[list[PackFrame]] = []
    for frame in frames:
        if runs and frame.offset - (runs[-1][-1].offset + runs[-1][-1].length) <= LARGEST_GAP:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs
