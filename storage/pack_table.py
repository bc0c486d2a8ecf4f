"""The table of a pack: length, CRC32C, pts and two flags of each frame, in about 6 bytes a frame.

Four columns, one after the other:

1. lengths: `length - smallest_length`, `length_bits` bits each, lowest bit first, filled up to a whole byte;
2. CRC32Cs: 4 bytes each, little endian;
3. pts: for each frame but the first, `pts - previous pts - pts_step` modulo 2^64, zigzag, as a varint (LEB128);
4. flags: for each run of frames with the same flags a varint of `4 * length of the run + 2 * is_independent +
   is_keyframe`. (Two columns of runs cost up to 2 bytes a frame, and together with the rest more than 8.)

The four base values stand in the pack's trailer. A table has one form: padding is zero, varints are as short as they
can be. FORMAT.md has an example.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from framevault.storage.errors import PackError

SMALLEST_PTS = -(2**63) + 1
"""libav uses the number below it for "no pts"."""

LARGEST_PTS = 2**63 - 1
"""Pts have 64 bits, signed."""

MOST_FRAMES = 2**24
"""Of a pack; three days at 60 frames a second."""

LONGEST_VARINT = 10
"""Bytes; enough for 64 bits."""

MOST_LENGTH_BITS = 31
"""A length fits in 31 bits."""

KEYFRAME, INDEPENDENT = 1, 2
"""Flags of a run."""

_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEntry:
    """One frame's row."""

    length: int
    """Bytes of its stream."""
    crc32c: int
    """Of its stream."""
    pts: int
    """Above the one before."""
    is_keyframe: bool
    """Whether the source's frame was one."""
    is_independent: bool
    """Whether the stream decodes without the segment's earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBase:
    """What the columns are relative to."""

    first_pts: int
    """Of the first frame."""
    pts_step: int
    """Expected difference between neighbours."""
    smallest_length: int
    """Of all streams."""
    length_bits: int
    """Width of a value in the column of lengths."""


def encode_table(entries: Sequence[FrameEntry]) -> tuple[bytes, TableBase]:
    """Return the table of one or more frames, and its base.

    Raises:
        PackError: A pts has more than 64 bits.
    """
    if not SMALLEST_PTS <= entries[0].pts <= entries[-1].pts <= LARGEST_PTS:
        raise PackError(f"pts must fit in 64 bits, got {entries[0].pts} to {entries[-1].pts}")
    lengths = [entry.length for entry in entries]
    steps = [after.pts - before.pts for before, after in pairwise(entries)]
    base = TableBase(
        first_pts=entries[0].pts,
        pts_step=min(statistics.median_low(steps), LARGEST_PTS) if steps else 0,
        smallest_length=min(lengths),
        length_bits=(max(lengths) - min(lengths)).bit_length(),
    )
    columns = [
        _pack_bits([length - base.smallest_length for length in lengths], base.length_bits),
        np.array([entry.crc32c for entry in entries], dtype="<u4").tobytes(),
        b"".join(_varint(_zigzag(step - base.pts_step)) for step in steps),
        b"".join(_varint(4 * len(list(run)) + flags) for flags, run in groupby(map(_flags_of, entries))),
    ]
    return b"".join(columns), base


def decode_table(key: str, table: bytes, *, num_frames: int, base: TableBase) -> list[FrameEntry]:
    """Return the rows of a table of any origin.

    Raises:
        PackError: It is not one of so many frames.
    """
    if not 1 <= num_frames <= MOST_FRAMES or base.length_bits > MOST_LENGTH_BITS:
        raise PackError(
            f"{key}: must have 1 to {MOST_FRAMES} frames and lengths of at most {MOST_LENGTH_BITS} bits, "
            f"has {num_frames} and {base.length_bits}"
        )
    size = (num_frames * base.length_bits + 7) // 8
    # Each frame takes 4 bytes for its CRC, so this bounds all that is allocated below by the table's own size.
    if size + 4 * num_frames > len(table):
        raise PackError(f"{key}: {num_frames} frames do not fit in a table of {len(table)} bytes")
    lengths = _unpack_lengths(key, table[:size], num_frames=num_frames, base=base)
    sums = np.frombuffer(table, dtype="<u4", count=num_frames, offset=size)
    varints = _read_varints(key, table[size + 4 * num_frames :])
    pts = _read_pts(key, varints, num_frames=num_frames, base=base)
    flags = _read_flags(key, varints, num_frames=num_frames)
    if next(varints, None) is not None:
        raise PackError(f"{key}: the table is longer than its {num_frames} frames")
    if not flags[0] & INDEPENDENT:
        raise PackError(f"{key}: frame 0 must be independent: there is none before it")
    return [
        FrameEntry(
            length=row[0],
            crc32c=row[1],
            pts=row[2],
            is_keyframe=bool(row[3] & KEYFRAME),
            is_independent=bool(row[3] & INDEPENDENT),
        )
        for row in zip(lengths.tolist(), sums.tolist(), pts, flags, strict=True)
    ]


def _unpack_lengths(key: str, packed: bytes, *, num_frames: int, base: TableBase) -> NDArray[np.int64]:
    num_bits = num_frames * base.length_bits
    if num_bits % 8 and packed[-1] >> num_bits % 8:
        raise PackError(f"{key}: the bits after the last length must be zero")
    lengths = _unpack_bits(packed, num_frames, bits=base.length_bits) + base.smallest_length
    if int(lengths.max()) >= 2**MOST_LENGTH_BITS:
        raise PackError(f"{key}: frame {int(lengths.argmax())} has an impossible length of {int(lengths.max())}")
    return lengths


def _pack_bits(values: Sequence[int], bits: int) -> bytes:
    columns = np.array(values, dtype=np.int64)[:, None] >> np.arange(bits)
    return np.packbits((columns & 1).astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _unpack_bits(packed: bytes, num_values: int, *, bits: int) -> NDArray[np.int64]:
    flat = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=num_values * bits, bitorder="little")
    values = np.zeros(num_values, dtype=np.int64)
    for position, column in enumerate(flat.reshape(num_values, bits).T):
        values |= column.astype(np.int64) << position
    return values


def _flags_of(entry: FrameEntry) -> int:
    return KEYFRAME * entry.is_keyframe + INDEPENDENT * entry.is_independent


def _read_pts(key: str, varints: Iterator[int], *, num_frames: int, base: TableBase) -> list[int]:
    if base.first_pts < SMALLEST_PTS:
        raise PackError(f"{key}: frame 0: pts must be at least {SMALLEST_PTS}, is {base.first_pts}")
    pts = [base.first_pts]
    for number in range(1, num_frames):
        each = _signed(pts[-1] + base.pts_step + _unzigzag(_next(key, varints)))
        if each <= pts[-1]:
            raise PackError(f"{key}: frame {number}: pts must rise, got {pts[-1]} and then {each}")
        pts.append(each)
    return pts


def _read_flags(key: str, varints: Iterator[int], *, num_frames: int) -> list[int]:
    frames: list[int] = []
    while len(frames) < num_frames:
        length, flags = divmod(_next(key, varints), 4)
        if not 1 <= length <= num_frames - len(frames) or (frames and frames[-1] == flags):
            raise PackError(f"{key}: a run of {length} times flags {flags} at frame {len(frames)} of {num_frames}")
        frames.extend([flags] * length)
    return frames


def _next(key: str, varints: Iterator[int]) -> int:
    value = next(varints, None)
    if value is None:
        raise PackError(f"{key}: the table ends too early")
    return value


def _signed(value: int) -> int:
    """Return the number of 64 bits, signed, that is the same modulo 2^64."""
    return (value + 2**63 & _MASK) - 2**63


def _zigzag(value: int) -> int:
    signed = _signed(value)
    return 2 * signed if signed >= 0 else -2 * signed - 1


def _unzigzag(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varints(key: str, data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if value > _MASK or (byte == 0 and shift > 7):
                raise PackError(f"{key}: a number of the table has more than 64 bits, or more bytes than it needs")
            yield value
            value = shift = 0
        elif shift >= 7 * LONGEST_VARINT:
            raise PackError(f"{key}: a number of the table is too long")
    if shift:
        raise PackError(f"{key}: the table ends within a number")
