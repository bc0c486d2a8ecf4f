"""Packs: what goes in comes out, in few bytes, and whatever is not a pack is refused in words."""

from __future__ import annotations

import contextlib
import tracemalloc
import uuid
from dataclasses import replace

import numpy as np
import pytest
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.storage.errors import PackError
from framevault.storage.pack_envelope import PROLOGUE, TRAILER
from framevault.storage.packs import (
    LARGEST_GAP,
    PROBE_BYTES,
    Pack,
    PackHeader,
    PackWriter,
    read_pack,
    read_pack_table,
    read_payloads,
)
from framevault.storage.store import open_store
from tests.storage.samples import pack_header, sample_pack

MOST_TABLE_BYTES_PER_FRAME = 8
"""The design's promise."""

LARGEST_PTS = 2**63 - 1

Frame = tuple[bytes, int, bool]
"""Stream, pts and keyframe flag."""


@st.composite
def frames_of_any_kind(draw: st.DrawFn) -> list[Frame]:
    pts = sorted(draw(st.sets(st.integers(-LARGEST_PTS, LARGEST_PTS), min_size=1, max_size=40)))
    return [(draw(st.binary(max_size=50)), each, draw(st.booleans())) for each in pts]


def make_pack(frames: list[Frame]) -> bytes:
    writer = PackWriter(pack_header())
    for payload, pts, is_keyframe in frames:
        writer.add(payload, pts=pts, is_keyframe=is_keyframe)
    return writer.finish()


def content(pack: Pack) -> tuple[PackHeader, list[Frame]]:
    frames = [(pack.payload(frame.frame_number), frame.pts, frame.is_keyframe) for frame in pack.frames]
    return pack.header, frames


@settings(deadline=None)
@given(frames=frames_of_any_kind())
def test_what_goes_in_comes_out(frames: list[Frame]) -> None:
    pack = read_pack(make_pack(frames))

    assert content(pack) == (pack_header(), frames)
    assert [frame.frame_number for frame in pack.frames] == list(range(len(frames)))


def test_the_same_frames_give_the_same_bytes() -> None:
    assert sample_pack() == sample_pack()


def test_the_example_of_the_format_page_is_true() -> None:
    pack = make_pack([(b"a" * 100, 0, True), (b"b" * 350, 512, False), (b"c" * 101, 1025, False)])

    table_length, num_frames, _, _, first_pts, pts_step, smallest, bits, *_ = TRAILER.unpack(pack[-48:])
    table = pack[-48 - table_length : -48]

    assert (table_length, num_frames, first_pts, pts_step, smallest, bits) == (19, 3, 0, 512, 100, 8)
    assert table[:3] == bytes.fromhex("00fa01")
    assert table[3:15] == b"".join(crc32c(each).to_bytes(4, "little") for each in (b"a" * 100, b"b" * 350, b"c" * 101))
    assert table[15:] == bytes.fromhex("00020102")


@settings(max_examples=60, deadline=None)
@given(
    num_frames=st.integers(1, 200),
    seed=st.integers(0, 2**32),
    step=st.sampled_from([1, 40, 512, 1001, 3003, 90_000]),
    jitter=st.integers(0, 30),
    keyframe_share=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
)
def test_the_table_takes_at_most_8_bytes_a_frame(
    num_frames: int, seed: int, step: int, jitter: int, keyframe_share: float
) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(100, 60_000, num_frames)
    pts = np.cumsum(random.integers(max(1, step - jitter), step + jitter + 1, num_frames))
    flags = random.random(num_frames) < keyframe_share
    frames = [(bytes(length), int(p), bool(flag)) for length, p, flag in zip(lengths, pts, flags, strict=True)]

    pack = make_pack(frames)

    assert table_bytes(pack) <= MOST_TABLE_BYTES_PER_FRAME * num_frames


def table_bytes(pack: bytes) -> int:
    return int(TRAILER.unpack(pack[-TRAILER.size :])[0])


def test_a_steady_segment_of_similar_streams_takes_about_6_bytes_a_frame_of_table() -> None:
    pack = sample_pack(num_frames=128, sizes=(100, 400))

    assert table_bytes(pack) == (128 * 9) // 8 + 128 * 4 + 127 + 2


def test_an_error_names_the_damaged_frame_and_costs_no_other() -> None:
    data = bytearray(sample_pack(num_frames=5))
    offset = read_pack(bytes(data)).frames[3].offset
    data[offset + 4] ^= 1

    pack = read_pack(bytes(data), key="packs/ab/x.fvp")

    with pytest.raises(PackError, match=r"packs/ab/x\.fvp: frame 3 must have CRC32C"):
        pack.payload(3)
    with pytest.raises(PackError, match="frame 3"):
        pack.check_payloads()
    assert pack.payload(2)
    assert pack.payload(4)


def test_every_flipped_bit_is_found() -> None:
    data = sample_pack(num_frames=4)

    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(PackError):
            read_pack(bytes(damaged)).check_payloads()


def test_every_truncation_is_found() -> None:
    data = sample_pack(num_frames=4)

    for length in range(len(data)):
        with pytest.raises(PackError, match=r"^packs/x\.fvp: "):
            read_pack(data[:length], key="packs/x.fvp")


@settings(max_examples=400, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_a_mutated_pack_is_refused_or_means_the_same(edits: list[tuple[int, bytes]]) -> None:
    original = sample_pack(num_frames=6, sizes=(0, 30))
    data = bytearray(original)
    for position, replacement in edits:
        start = position % len(data)
        data[start : start + len(replacement)] = replacement

    try:
        found = content(read_pack(bytes(data)))
    except PackError:
        return
    assert found == content(read_pack(original))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), table=st.binary(max_size=80), header=st.binary(max_size=40), data=st.data())
def test_a_hostile_pack_with_right_checksums_is_refused_in_words(
    seed: int, table: bytes, header: bytes, data: st.DataObject
) -> None:
    pack = forge(
        header=data.draw(st.sampled_from([header, pack_header().to_json()])),
        payloads=b"x" * data.draw(st.integers(0, 100)),
        table=table,
        num_frames=data.draw(st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))),
        base=(
            data.draw(st.integers(-(2**63), 2**63 - 1)),
            data.draw(st.integers(-(2**63), 2**63 - 1)),
            data.draw(st.one_of(st.integers(0, 10), st.integers(0, 2**32 - 1))),
            data.draw(st.integers(0, 255)),
        ),
    )

    # Any other error fails the test.
    with contextlib.suppress(PackError):
        read_pack(pack).check_payloads()


def forge(*, header: bytes, payloads: bytes, table: bytes, num_frames: int, base: tuple[int, int, int, int]) -> bytes:
    """Return a pack of any content whose checksums over it are right."""
    prologue = PROLOGUE.pack(b"FVPK", 0, 0, len(header))
    values = (len(table), num_frames, crc32c(header), crc32c(table), *base, b"\0\0\0")
    checksum = crc32c(prologue + TRAILER.pack(*values, 0, b"KPVF")[:-8])
    return b"".join([prologue, header, payloads, table, TRAILER.pack(*values, checksum, b"KPVF")])


def test_a_claim_of_billions_of_frames_allocates_nothing() -> None:
    pack = forge(header=pack_header().to_json(), payloads=b"", table=b"", num_frames=2**32 - 1, base=(0, 1, 0, 31))

    tracemalloc.start()
    with pytest.raises(PackError, match="4294967295 frames do not fit in a table of 0 bytes"):
        read_pack(pack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000


def test_deeply_nested_json_in_a_header_is_refused() -> None:
    header = b'{"settings":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    pack = forge(header=header, payloads=b"x", table=b"\0\0\0\0\1", num_frames=1, base=(0, 0, 1, 0))

    with pytest.raises(PackError, match="header"):
        read_pack(pack)


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"coded_height": 0}, "coded_height"),
        ({"coded_width": 2**40}, "coded_width"),
        ({"time_base": (1, 0)}, "time_base"),
        ({"video_id": "x" * 32}, "video_id"),
        ({"quality": -1}, "quality"),
    ],
)
def test_a_header_that_could_not_be_read_back_is_never_written(change: dict[str, object], member: str) -> None:
    header = replace(pack_header(), **change)  # type: ignore[arg-type] # the wrong types are the point

    with pytest.raises(PackError, match=member):
        PackWriter(header)


def test_an_empty_pack_and_pts_that_do_not_rise_are_refused() -> None:
    writer = PackWriter(pack_header())
    with pytest.raises(PackError, match="at least one frame"):
        writer.finish()

    writer.add(b"x", pts=5, is_keyframe=True)

    with pytest.raises(PackError, match="pts must rise, got 5 after 5"):
        writer.add(b"y", pts=5, is_keyframe=False)


def test_another_version_is_refused_in_words() -> None:
    data = bytearray(sample_pack())
    data[4] = 7

    with pytest.raises(PackError, match="must be of version 0, is of 7"):
        read_pack(bytes(data))


@pytest.mark.parametrize(("num_frames", "sizes"), [(3, (10, 20)), (12, (50_000, 60_000)), (12_000, (0, 9))])
def test_table_and_streams_can_be_read_in_ranges(num_frames: int, sizes: tuple[int, int]) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    data = sample_pack(num_frames=num_frames, sizes=sizes)
    ref = store.create("packs/x.fvp", data)
    whole = read_pack(data, key="packs/x.fvp")

    table = read_pack_table(store, ref.key, size_bytes=ref.size_bytes)
    wanted = [num_frames - 1, 0, 1, num_frames - 1]

    assert table == whole.table
    assert read_payloads(store, table, frame_numbers=wanted) == [whole.payload(number) for number in wanted]
    assert num_frames != 12_000 or table_bytes(data) > PROBE_BYTES


def test_neighbouring_streams_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    ref = store.create("packs/x.fvp", sample_pack(num_frames=20, sizes=(LARGEST_GAP // 4, LARGEST_GAP // 4 + 1)))
    table = read_pack_table(store, ref.key, size_bytes=ref.size_bytes)
    reads: list[int | None] = []
    read = store.read

    def count(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        reads.append(length)
        return read(key, start=start, length=length)

    monkeypatch.setattr(store, "read", count)
    read_payloads(store, table, frame_numbers=[0, 1, 3, 18, 19])

    assert reads == [4 * (LARGEST_GAP // 4), 2 * (LARGEST_GAP // 4)]


def test_a_damaged_stream_is_named_when_it_is_read_alone() -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    data = bytearray(sample_pack(num_frames=5))
    data[read_pack(bytes(data)).frames[2].offset] ^= 255
    ref = store.create("packs/x.fvp", bytes(data))
    table = read_pack_table(store, ref.key, size_bytes=ref.size_bytes)

    with pytest.raises(PackError, match=r"packs/x\.fvp: frame 2 must have CRC32C"):
        read_payloads(store, table, frame_numbers=[1, 2])


def test_a_pack_that_is_shorter_than_said_is_refused() -> None:
    store = open_store(f"memory://{uuid.uuid4().hex}")
    ref = store.create("packs/x.fvp", sample_pack(num_frames=5))

    for size_bytes in (0, 10, ref.size_bytes - 1, ref.size_bytes + 1, ref.size_bytes + 100_000):
        with pytest.raises(PackError, match=r"packs/x\.fvp"):
            read_pack_table(store, ref.key, size_bytes=size_bytes)
