"""Packs of any content whose checksums are right: what a hostile writer would make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from google_crc32c import value as crc32c
from hypothesis import strategies as st

from framevault.storage.pack_envelope import PROLOGUE, TRAILER
from tests.storage.samples import pack_header


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """What goes into a pack."""

    table: bytes
    num_frames: int
    header: bytes = pack_header().to_json()
    payloads: bytes = b""
    first_pts: int = 0
    pts_step: int = 1
    smallest_length: int = 0
    length_bits: int = 0
    version: int = 1
    prologue_zero: int = 0
    trailer_zeros: bytes = b"\0\0\0"
    header_length: int | None = None
    table_length: int | None = None

    def to_bytes(self) -> bytes:
        """Return the pack, with right checksums."""
        header_length = len(self.header) if self.header_length is None else self.header_length
        table_length = len(self.table) if self.table_length is None else self.table_length
        prologue = PROLOGUE.pack(b"FVPK", self.version, self.prologue_zero, header_length)
        sums = (crc32c(self.header), crc32c(self.table))
        base = (self.first_pts, self.pts_step, self.smallest_length, self.length_bits)
        values = (table_length, self.num_frames, *sums, *base, self.trailer_zeros)
        checksum = crc32c(prologue + TRAILER.pack(*values, 0, b"KPVF")[:-8])
        trailer = TRAILER.pack(*values, checksum, b"KPVF")
        return b"".join([prologue, self.header, self.payloads, self.table, trailer])


def varint(value: int) -> bytes:
    """Return a varint of any length."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


SIGNED = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1]))
"""Numbers of 64 bits."""

VARINTS = st.one_of(
    st.integers(0, 9).map(varint),
    st.integers(0, 2**64 - 1).map(varint),
    st.sampled_from([varint(2**64 - 1), varint(2**64), varint(2**70), b"\x80\x00", b"\x81\x00", b"\xff" * 11, b"\x80"]),
)
"""Right and wrong ones."""


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Draw headers of which one member is wrong, or not there, or there is one more."""
    old, new = draw(
        st.sampled_from(
            [
                ('"bitstream_version":1', '"bitstream_version":0'),
                ('"bitstream_version":1', '"bitstream_version":65536'),
                ('"bitstream_version":1', '"bitstream_version":1.0'),
                ('"bitstream_version":1', '"bitstream_version":true'),
                ('"bitstream_version":1,', ""),
                ('"codec":"raw"', '"codec":"RAW"'),
                ('"codec":"raw"', '"codec":""'),
                ('"codec":"raw"', '"codec":"raw","codec":"raw"'),
                ('"coded_height":64', '"coded_height":0'),
                ('"coded_height":64', '"coded_height":1048577'),
                ('"coded_height":64', '"coded_height":2147483648'),
                ('"requires":[]', '"requires":["crops"]'),
                ('"requires":[]', '"requires":[""]'),
                ('"requires":[],', ""),
                ('"rotation_degrees":0', '"rotation_degrees":45'),
                ('"rotation_degrees":0', '"rotation_degrees":270'),
                ('"time_base":[1,', '"time_base":[0,'),
                ('"time_base":[1,', '"time_base":[2147483648,'),
                ('"quality":4', '"quality":1001'),
                ('"quality":4', '"quality":4,"zebra":[1e300]'),
                ('"settings":{', '"settings":[],"x":{'),
                ('"weights_digest":"e', '"weights_digest":"E'),
                ("{", " {\t"),
                ("}", "} "),
                ("}", ""),
                ("null", "NaN"),
                ("null", "Infinity"),
            ]
        )
    )
    return pack_header().to_json().replace(old.encode(), new.encode())


FAULTS: dict[str, st.SearchStrategy[object]] = {
    "header": headers(),
    "first_pts": SIGNED,
    "pts_step": SIGNED,
    "smallest_length": st.sampled_from([1, 2**31 - 1, 2**31, 2**32 - 1]),
    "length_bits": st.integers(0, 255),
    "num_frames": st.sampled_from([0, 1, 2**24, 2**24 + 1, 2**31, 2**32 - 1]),
    "version": st.sampled_from([0, 2, 65535]),
    "prologue_zero": st.sampled_from([1, 65535]),
    "trailer_zeros": st.sampled_from([b"\0\0\1", b"\xff\0\0"]),
    "header_length": st.sampled_from([0, 2**20, 2**20 + 1, 2**31, 2**32 - 1]),
    "table_length": st.sampled_from([0, 1, 2**31, 2**32 - 1]),
    "payloads": st.binary(max_size=9),
}
"""Values that may be wrong, by field."""


@st.composite
def forgeries(draw: st.DrawFn) -> Forgery:
    """Draw packs that are right, or wrong in one or two places."""
    num_frames = draw(st.integers(1, 5))
    bits = draw(st.sampled_from([0, 1, 3, 8, 31]))
    lengths = draw(st.lists(st.integers(0, min(2**bits - 1, 9)), min_size=num_frames, max_size=num_frames))
    steps = draw(st.lists(st.integers(0, 9), min_size=num_frames - 1, max_size=num_frames - 1))
    right = Forgery(
        table=_lengths_column(lengths, bits) + b"\1\2\3\4" * num_frames + _varints([*steps, 4 * num_frames + 3]),
        num_frames=num_frames,
        payloads=b"x" * sum(lengths),
        first_pts=draw(st.integers(-100, 100)),
        pts_step=draw(st.integers(6, 100)),
        length_bits=bits,
    )
    if draw(st.booleans()):
        other = draw(st.lists(st.one_of(st.integers(0, 24).map(varint), VARINTS), max_size=num_frames + 3))
        padding = draw(st.sampled_from([0, 0, 1]))
        column = _lengths_column([*lengths, padding], bits)[: (num_frames * bits + 7) // 8]
        right = replace(right, table=column + b"\1\2\3\4" * num_frames + b"".join(other))
    names = draw(st.lists(st.sampled_from(sorted(FAULTS)), max_size=2, unique=True))
    wrong: dict[str, Any] = {name: draw(FAULTS[name]) for name in names}
    return replace(right, **wrong)


def _lengths_column(lengths: list[int], bits: int) -> bytes:
    packed = sum(length << number * bits for number, length in enumerate(lengths))
    return packed.to_bytes((len(lengths) * bits + 7) // 8 + 1, "little")[: (len(lengths) * bits + 7) // 8]


def _varints(values: list[int]) -> bytes:
    return b"".join(map(varint, values))
