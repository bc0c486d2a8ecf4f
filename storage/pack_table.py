"""The table of a pack: length, CRC32C, pts and keyframe flag of each frame, in about 6 bytes a frame.

Four columns, one after the other:

1. lengths: `length - smallest_length`, `length_bits` bits each, lowest bit first, filled up to a whole byte;
2. CRC32Cs: 4 bytes each, little endian;
3. pts: for each frame but the first, `pts - previous pts - pts_step`, zigzag, as a varint (LEB128);
4. flags: lengths of runs as varints; the first run is of keyframes (it may be 0), then they alternate.

The four base values stand in the pack's trailer. FORMAT.md has an example.
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

LONGEST_VARINT = 10
"""Bytes; enough for 65 bits, which a difference of two pts needs."""

MOST_LENGTH_BITS = 31
"""A length fits in 31 bits."""


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
    runs = _runs([entry.is_keyframe for entry in entries])
    columns = [
        _pack_bits([length - base.smallest_length for length in lengths], base.length_bits),
        np.array([entry.crc32c for entry in entries], dtype="<u4").tobytes(),
        b"".join(_varint(_zigzag(step - base.pts_step)) for step in steps),
        b"".join(_varint(run) for run in runs),
    ]
    return b"".join(columns), base


def decode_table(key: str, table: bytes, *, num_frames: int, base: TableBase) -> list[FrameEntry]:
    """Return the rows of a table of any origin.

    Raises:
        PackError: It is not one of so many frames.
    """
    if num_frames < 1 or base.length_bits > MOST_LENGTH_BITS:
        raise PackError(f"{key}: {num_frames} frames with lengths of {base.length_bits} bits are none")
    size = (num_frames * base.length_bits + 7) // 8
    # Each frame takes 4 bytes for its CRC, so this bounds all that is allocated below by the table's own size.
    if size + 4 * num_frames > len(table):
        raise PackError(f"{key}: {num_frames} frames do not fit in a table of {len(table)} bytes")
    lengths = _unpack_bits(table[:size], num_frames, bits=base.length_bits) + base.smallest_length
    sums = np.frombuffer(table, dtype="<u4", count=num_frames, offset=size)
    varints = _read_varints(key, table[size + 4 * num_frames :])
    pts = _read_pts(key, varints, num_frames=num_frames, base=base)
    flags = _read_flags(key, varints, num_frames=num_frames)
    if next(varints, None) is not None:
        raise PackError(f"{key}: the table is longer than its {num_frames} frames")
    if int(lengths.max()) >= 2**MOST_LENGTH_BITS:
        raise PackError(f"{key}: frame {int(lengths.argmax())} has an impossible length of {int(lengths.max())}")
    rows = zip(lengths.tolist(), sums.tolist(), pts, flags, strict=True)
    return [FrameEntry(length=row[0], crc32c=row[1], pts=row[2], is_keyframe=row[3]) for row in rows]


def _pack_bits(values: Sequence[int], bits: int) -> bytes:
    columns = np.array(values, dtype=np.int64)[:, None] >> np.arange(bits)
    return np.packbits((columns & 1).astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _unpack_bits(packed: bytes, num_values: int, *, bits: int) -> NDArray[np.int64]:
    flat = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=num_values * bits, bitorder="little")
    values = np.zeros(num_values, dtype=np.int64)
    for position, column in enumerate(flat.reshape(num_values, bits).T):
        values |= column.astype(np.int64) << position
    return values


def _runs(flags: Sequence[bool]) -> list[int]:
    runs = [len(list(group)) for _, group in groupby(flags)]
    return runs if flags[0] else [0, *runs]


def _read_pts(key: str, varints: Iterator[int], *, num_frames: int, base: TableBase) -> list[int]:
    pts = [base.first_pts]
    for number in range(1, num_frames):
        step = _unzigzag(_next(key, varints)) + base.pts_step
        if step <= 0 or pts[-1] + step > LARGEST_PTS:
            raise PackError(
                f"{key}: frame {number}: pts must rise and fit in 64 bits, got {pts[-1]} and then {step:+d}"
            )
        pts.append(pts[-1] + step)
    return pts


def _read_flags(key: str, varints: Iterator[int], *, num_frames: int) -> list[bool]:
    flags: list[bool] = []
    is_keyframe = True
    while len(flags) < num_frames:
        run = _next(key, varints)
        if run > num_frames - len(flags) or (run == 0 and not (is_keyframe and not flags)):
            raise PackError(f"{key}: a run of {run} flags at frame {len(flags)} of {num_frames}")
        flags.extend([is_keyframe] * run)
        is_keyframe = not is_keyframe
    return flags


def _next(key: str, varints: Iterator[int]) -> int:
    value = next(varints, None)
    if value is None:
        raise PackError(f"{key}: the table ends too early")
    return value


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


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
            yield value
            value = shift = 0
        elif shift >= 7 * LONGEST_VARINT:
            raise PackError(f"{key}: a number of the table is too long")
    if shift:
        raise PackError(f"{key}: the table ends within a number")
