"""Reading parts of a stored pack."""

from __future__ import annotations

import uuid

import pytest

from framevault.storage.errors import PackError
from framevault.storage.pack_envelope import TRAILER
from framevault.storage.pack_ranges import LARGEST_GAP, PROBE_BYTES, read_pack_table, read_payloads
from framevault.storage.packs import read_pack
from framevault.storage.store import open_store
from tests.storage.samples import sample_pack


def table_bytes(pack: bytes) -> int:
    return int(TRAILER.unpack(pack[-TRAILER.size :])[0])


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
