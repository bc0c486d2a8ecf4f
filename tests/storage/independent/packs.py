"""Packs, from FORMAT.md: prologue, header, payloads, table, trailer."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.storage.independent.crc32c import crc32c
from tests.storage.independent.documents import (
    check_requires,
    fraction,
    hexadecimal,
    integer,
    parse_object,
    require,
    text,
    word,
)

WRAP = 2**64


@dataclass(frozen=True)
class Frame:
    """A row of the table."""

    pts: int
    start: int
    length: int
    crc: int
    is_keyframe: bool
    is_independent: bool


@dataclass(frozen=True)
class IndependentPack:
    """A parsed pack."""

    header: dict[str, Any]
    frames: list[Frame]
    data: bytes
    outside: set[int]
    """Frames that are outside the codec's domain."""

    def stream(self, frame_number: int) -> bytes:
        """Return a frame's stream, checked."""
        frame = self.frames[frame_number]
        stream = self.data[frame.start : frame.start + frame.length]
        require(crc32c(stream) == frame.crc, f"frame {frame_number}: wrong CRC")
        return stream

    def streams_for(self, frame_number: int) -> range:
        """Return the frames whose streams are needed for one."""
        start = frame_number
        while not self.frames[start].is_independent:
            start -= 1
        return range(start, frame_number + 1)


def parse_pack(key: str, data: bytes) -> IndependentPack:
    """Parse and check all of a pack but its streams."""
    require(len(data) >= 60, f"{key}: too short")
    magic, version, zero, header_length = struct.unpack("<4sHHI", data[:12])
    require(magic == b"FVPK" and data[-4:] == b"KPVF", f"{key}: no pack")
    require(version == 1, f"{key}: version {version} is not known")
    require(zero == 0 and header_length <= 2**20, f"{key}: bad prologue")
    trailer = data[-48:]
    table_length, num_frames, header_crc, table_crc = struct.unpack("<IIII", trailer[:16])
    first_pts, pts_step, smallest, bits = struct.unpack("<qqIB", trailer[16:37])
    require(crc32c(data[:12] + trailer[:40]) == struct.unpack("<I", trailer[40:44])[0], f"{key}: wrong CRC of trailer")
    require(trailer[37:40] == b"\0\0\0", f"{key}: bytes that must be zero")
    require(1 <= num_frames <= 2**24 and bits <= 31, f"{key}: bad trailer")
    require(12 + header_length + table_length + 48 <= len(data), f"{key}: header and table do not fit")
    header_bytes, table = data[12 : 12 + header_length], data[-48 - table_length : -48]
    require(crc32c(header_bytes) == header_crc and crc32c(table) == table_crc, f"{key}: wrong CRC of header or table")
    header = parse_header(key, header_bytes)
    column = (num_frames * bits + 7) // 8
    require(column + 4 * num_frames <= table_length, f"{key}: {num_frames} frames do not fit in the table")
    lengths = read_lengths(key, table[:column], num_frames=num_frames, bits=bits, smallest=smallest)
    crcs = struct.unpack(f"<{num_frames}I", table[column : column + 4 * num_frames])
    numbers = read_varints(key, table[column + 4 * num_frames :])
    require(len(numbers) >= num_frames, f"{key}: the table is too short")
    times = read_times(key, numbers[: num_frames - 1], first=first_pts, step=pts_step)
    flags = read_flags(key, numbers[num_frames - 1 :], num_frames=num_frames)
    ends = np.cumsum([12 + header_length, *lengths]).tolist()
    require(ends[-1] == len(data) - 48 - table_length, f"{key}: the streams do not fill the payloads")
    rows = zip(times, ends, lengths, crcs, flags, strict=False)
    frames = [Frame(*row[:4], bool(row[4] & 1), bool(row[4] & 2)) for row in rows]
    return IndependentPack(header, frames, data, read_outside(key, header, num_frames=num_frames))


def parse_header(key: str, data: bytes) -> dict[str, Any]:
    """Parse and check the header."""
    header = parse_object(f"{key}: header", data)
    check_requires(key, header)
    for name, digits in (("video_id", 32), ("segment_id", 32), ("codec_fingerprint", 64), ("weights_digest", 64)):
        hexadecimal(header, name, digits)
    word(header, "codec")
    integer(header, "bitstream_version", 1, 65535)
    integer(header, "quality", 0, 1000)
    require(isinstance(header.get("settings"), dict), f"{key}: settings must be an object")
    for name in ("coded_height", "coded_width", "source_height", "source_width"):
        integer(header, name, 1, 2**20)
    fraction(header, "time_base")
    fraction(header, "sample_aspect_ratio")
    require(integer(header, "rotation_degrees") in {0, 90, 180, 270}, f"{key}: bad rotation")
    text(header, "colour")
    text(header, "sampling")
    return header


def read_outside(key: str, header: dict[str, Any], *, num_frames: int) -> set[int]:
    """Read which frames are outside the codec's domain."""
    outside: set[int] = set()
    end = 0
    for first, count in header.get("outside_domain", []):
        require(isinstance(first, int) and isinstance(count, int), f"{key}: runs of integers")
        require(end <= first and count >= 1 and first + count <= num_frames, f"{key}: impossible runs")
        end = first + count
        outside |= set(range(first, end))
    return outside


def read_lengths(key: str, packed: bytes, *, num_frames: int, bits: int, smallest: int) -> list[int]:
    """Read the first column."""
    value = int.from_bytes(packed, "little")
    require(value >> num_frames * bits == 0, f"{key}: bits that must be zero")
    lengths = [(value >> number * bits & (1 << bits) - 1) + smallest for number in range(num_frames)]
    require(max(lengths) < 2**31, f"{key}: a stream is too long")
    return lengths


def read_varints(key: str, data: bytes) -> list[int]:
    """Read all varints to the end."""
    numbers, value, length = [], 0, 0
    for byte in data:
        value |= (byte & 127) << 7 * length
        length += 1
        require(length <= 10, f"{key}: a varint is too long")
        if byte < 128:
            require(value < WRAP and (byte > 0 or length == 1), f"{key}: a varint is too long")
            numbers.append(value)
            value, length = 0, 0
    require(length == 0, f"{key}: the table ends in a varint")
    return numbers


def read_times(key: str, numbers: list[int], *, first: int, step: int) -> list[int]:
    """Read the third column."""
    require(first != -(2**63), f"{key}: impossible pts")
    times = [first]
    for zigzag in numbers:
        difference = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
        time = (times[-1] + step + difference) % WRAP
        time -= WRAP if time >= WRAP // 2 else 0
        require(time > times[-1], f"{key}: pts do not rise")
        times.append(time)
    return times


def read_flags(key: str, numbers: list[int], *, num_frames: int) -> list[int]:
    """Read the fourth column."""
    flags: list[int] = []
    for run in numbers:
        length, value = run >> 2, run & 3
        require(1 <= length <= num_frames - len(flags), f"{key}: a run is too long or empty")
        require(not flags or flags[-1] != value, f"{key}: two runs in one")
        flags += [value] * length
    require(len(flags) == num_frames, f"{key}: flags of {len(flags)} frames of {num_frames}")
    require(flags[0] & 2 == 2, f"{key}: the first frame is not independent")
    return flags
