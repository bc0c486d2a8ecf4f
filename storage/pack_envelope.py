"""The first and last bytes of a pack: magic, version, and what is needed to find and check header and table."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from google_crc32c import value as crc32c

from framevault.storage.documents import VERSION_0_ADVICE
from framevault.storage.errors import PackError, UnsupportedPackError
from framevault.storage.pack_table import TableBase

MAGIC = b"FVPK"
"""First bytes of a pack."""

PACK_VERSION = 1
"""Of the pack's layout; the streams in it have a version of their own."""

END_MAGIC = b"KPVF"
"""Last bytes of a pack."""

PROLOGUE = struct.Struct("<4sHHI")
"""Magic, version, zero, bytes of the header."""

TRAILER = struct.Struct("<IIIIqqIB3sI4s")
"""Bytes of the table, frames, CRCs of header and table, base of the table (4 values), zeros, CRC of all this, magic."""

LARGEST_HEADER = 1 << 20
"""Bytes of a header; ours have under a thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """What the last bytes say."""

    table_length: int
    """Bytes of the table."""
    num_frames: int
    """Rows of the table."""
    header_crc32c: int
    """Of the header."""
    table_crc32c: int
    """Of the table."""
    base: TableBase
    """What the table's columns are relative to."""


def write_prologue(header_length: int) -> bytes:
    """Return the first bytes of a pack."""
    return PROLOGUE.pack(MAGIC, PACK_VERSION, 0, header_length)


def read_prologue(key: str, head: bytes) -> int:
    """Check the first bytes of a pack and return the length of its header.

    Raises:
        PackError: They are not a pack's.
        UnsupportedPackError: They are a pack's of another version.
    """
    if len(head) < PROLOGUE.size + TRAILER.size:
        raise PackError(f"{key}: a pack has at least {PROLOGUE.size + TRAILER.size} bytes, got {len(head)}")
    magic, version, zero, header_length = PROLOGUE.unpack_from(head)
    if magic != MAGIC:
        raise PackError(f"{key}: must start with {MAGIC!r}, starts with {magic!r}")
    if version == 0:
        raise UnsupportedPackError(f"{key}: {VERSION_0_ADVICE}")
    if version != PACK_VERSION:
        raise UnsupportedPackError(
            f"{key}: is a pack of version {version}, this framevault reads version {PACK_VERSION}; use a newer one"
        )
    if zero != 0:
        raise PackError(f"{key}: bytes 6 and 7 must be zero, are {zero:#06x}")
    if header_length > LARGEST_HEADER:
        raise PackError(f"{key}: a header may have {LARGEST_HEADER} bytes, this one has {header_length}")
    return int(header_length)


def write_trailer(prologue: bytes, trailer: Trailer) -> bytes:
    """Return the last bytes of a pack; their checksum covers the prologue too."""
    base = trailer.base
    values = (
        *(trailer.table_length, trailer.num_frames, trailer.header_crc32c, trailer.table_crc32c),
        *(base.first_pts, base.pts_step, base.smallest_length, base.length_bits),
    )
    unsigned = TRAILER.pack(*values, b"\0\0\0", 0, END_MAGIC)
    return TRAILER.pack(*values, b"\0\0\0", crc32c(prologue + unsigned[:-8]), END_MAGIC)


def read_trailer(key: str, head: bytes, tail: bytes) -> Trailer:
    """Check the last bytes of a pack.

    Raises:
        PackError: They are not a pack's, or not those that belong to its first bytes.
    """
    raw = tail[-TRAILER.size :]
    if len(raw) != TRAILER.size:
        raise PackError(f"{key}: must end with {TRAILER.size} bytes of trailer, has {len(raw)}: cut off?")
    table_length, num_frames, header_sum, table_sum, first_pts, step, smallest, bits, zeros, checksum, magic = (
        TRAILER.unpack(raw)
    )
    if magic != END_MAGIC:
        raise PackError(f"{key}: must end with {END_MAGIC!r}, ends with {magic!r}: cut off?")
    if checksum != crc32c(head[: PROLOGUE.size] + raw[:-8]):
        raise PackError(f"{key}: the trailer's checksum is wrong")
    if zeros != b"\0\0\0":
        raise PackError(f"{key}: bytes 37 to 39 of the trailer must be zero, are {zeros.hex()}")
    base = TableBase(first_pts=first_pts, pts_step=step, smallest_length=smallest, length_bits=bits)
    return Trailer(
        table_length=table_length,
        num_frames=num_frames,
        header_crc32c=header_sum,
        table_crc32c=table_sum,
        base=base,
    )
