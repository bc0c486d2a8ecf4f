"""Packs from an enemy: refused in words that name the key, and without the memory that they ask for."""

from __future__ import annotations

import contextlib
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.storage.errors import PackError
from framevault.storage.pack_ranges import read_pack_table, read_payloads
from framevault.storage.packs import read_pack
from framevault.storage.store import open_store
from tests.storage.pack_forging import Forgery, forgeries
from tests.storage.samples import sample_pack

MOST_HOSTILE_BYTES = 1_000_000
"""Memory that a pack of a few kilobytes may cost, whatever it says."""


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Fail if more is allocated than a small pack may cost."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_HOSTILE_BYTES


@settings(max_examples=200)
@given(forgery=forgeries())
def test_a_hostile_pack_with_right_checksums_is_refused_by_key_and_reason_and_costs_little(forgery: Forgery) -> None:
    data = forgery.to_bytes()
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.create("packs/ab/x.fvp", data)
    reasons = []

    with little_memory():
        for read in (
            lambda: read_pack(data, key="packs/ab/x.fvp"),
            lambda: read_pack_table(store, "packs/ab/x.fvp", size_bytes=len(data)),
        ):
            try:
                read()
            except PackError as error:
                reasons.append(str(error))

    assert len(reasons) in {0, 2}
    assert all(reason.startswith("packs/ab/x.fvp: ") and len(reason) > 30 for reason in reasons)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    flips=st.lists(st.integers(0, 10_000), max_size=3),
    cut=st.one_of(st.just(0), st.integers(-2000, 200)),
)
def test_a_stored_pack_that_was_flipped_cut_or_extended_is_refused_by_key_and_reason(
    seed: int, flips: list[int], cut: int
) -> None:
    original = sample_pack(num_frames=5, seed=seed, sizes=(0, 60))
    data = bytearray(original[: len(original) + cut] if cut < 0 else original + bytes(cut))
    for flip in flips:
        if data:
            data[flip // 8 % len(data)] ^= 1 << flip % 8
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.create("packs/ab/x.fvp", bytes(data))

    for size_bytes in (len(data), len(original)):
        reason, payloads = "", list[bytes]()
        try:
            with little_memory():
                table = read_pack_table(store, "packs/ab/x.fvp", size_bytes=size_bytes)
                payloads = read_payloads(store, table, frame_numbers=range(5))
        except PackError as error:
            reason = str(error)

        if reason:
            assert reason.startswith("packs/ab/x.fvp: ")
            assert bytes(data) != original
        else:
            assert bytes(data[: len(original)]) == original  # what follows is outside of what was asked for
            assert payloads == [read_pack(original).payload(number) for number in range(5)]


@pytest.mark.parametrize("num_frames", [2**24 + 1, 2**31, 2**32 - 1])
def test_a_claim_of_too_many_frames_is_refused_before_anything_is_allocated(num_frames: int) -> None:
    pack = Forgery(table=b"", num_frames=num_frames, length_bits=31).to_bytes()

    with little_memory(), pytest.raises(PackError, match=f"must have 1 to 16777216 frames .* has {num_frames}"):
        read_pack(pack)


def test_a_claim_of_more_frames_than_the_table_has_room_for_is_refused_before_anything_is_allocated() -> None:
    pack = Forgery(table=bytes(100), num_frames=2**24).to_bytes()

    with little_memory(), pytest.raises(PackError, match="16777216 frames do not fit in a table of 100 bytes"):
        read_pack(pack)


@pytest.mark.parametrize("smallest_length", [2**31, 2**32 - 1])
def test_a_stream_of_two_gigabytes_is_refused_by_its_frame(smallest_length: int) -> None:
    pack = Forgery(table=b"\0\0\0\0\7", num_frames=1, smallest_length=smallest_length).to_bytes()

    with little_memory(), pytest.raises(PackError, match=f"frame 0 has an impossible length of {smallest_length}"):
        read_pack(pack)


@pytest.mark.parametrize("table_length", [2**31, 2**32 - 1])
@pytest.mark.parametrize("size_bytes", [0, 2**31, 2**40])
def test_a_table_of_gigabytes_is_not_asked_for(tmp_path: Path, table_length: int, size_bytes: int) -> None:
    """Whatever a manifest says the pack's size is: reading gigabytes of a file reserves them, however short it is."""
    store = open_store(str(tmp_path))
    data = Forgery(table=b"\0\0\0\0\7", num_frames=1, table_length=table_length).to_bytes()
    store.create("packs/x.fvp", data)

    with little_memory(), pytest.raises(PackError, match=r"packs/x\.fvp: "):
        read_pack_table(store, "packs/x.fvp", size_bytes=size_bytes or len(data))


@pytest.mark.parametrize(
    ("forgery", "reason"),
    [
        (Forgery(table=b"\0\0\0\0\7", num_frames=1, prologue_zero=1), "bytes 6 and 7 must be zero, are 0x0001"),
        (Forgery(table=b"\0\0\0\0\7", num_frames=1, trailer_zeros=b"\0\1\0"), "37 to 39 .* must be zero, are 000100"),
        (Forgery(table=b"\0\0\0\0\5", num_frames=1), "frame 0 must be independent"),
        (Forgery(table=b"\0\0\0\0\3\7", num_frames=1), "a run of 0 times flags 3 at frame 0 of 1"),
        (Forgery(table=b"\0\0\0\0\x0b", num_frames=1), "a run of 2 times flags 3 at frame 0 of 1"),
        (Forgery(table=bytes(8) + b"\0\7\7", num_frames=2), "a run of 1 times flags 3 at frame 1 of 2"),
        (Forgery(table=b"\0\0\0\0\x87\0", num_frames=1), "more bytes than it needs"),
        (Forgery(table=b"\0\0\0\0\7\0", num_frames=1), "longer than its 1 frames"),
        (Forgery(table=b"\2\0\0\0\0\7", num_frames=1, length_bits=1), "bits after the last length must be zero"),
        (Forgery(table=bytes(8) + b"\1\x0b", num_frames=2), "frame 1: pts must rise, got 0 and then 0"),
        (Forgery(table=bytes(4) + b"\7", num_frames=1, first_pts=-(2**63)), "frame 0: pts must be at least"),
        (
            Forgery(table=bytes(8) + b"\0\x0b", num_frames=2, first_pts=2**63 - 1),
            "frame 1: pts must rise, got 9223372036854775807 and then -9223372036854775808",
        ),
    ],
)
def test_what_a_table_must_not_say_is_named(forgery: Forgery, reason: str) -> None:
    with pytest.raises(PackError, match=f"^packs/x\\.fvp: .*{reason}"):
        read_pack(forgery.to_bytes(), key="packs/x.fvp")


def test_deeply_nested_json_in_a_header_is_refused() -> None:
    header = b'{"settings":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    pack = Forgery(header=header, payloads=b"x", table=b"\0\0\0\0\7", num_frames=1, smallest_length=1).to_bytes()

    with pytest.raises(PackError, match="header"):
        read_pack(pack)
