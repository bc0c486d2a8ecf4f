"""Directions in a vault: kept once each, the newest counts, and never read when they can't be right."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framevault.storage import directions
from framevault.storage.directions import digest_in, find_directions, keep_directions, read_directions
from framevault.storage.errors import ChecksumError, DamagedError, NotFoundError, StoreError, VaultError
from framevault.storage.store import Store, open_store
from framevault.storage.vacuum import vacuum
from framevault.storage.vault import open_vault
from framevault.storage.verify import VerifyCounts, verify_vault
from tests.storage.samples import make_vault

GENERATOR = "ab" * 32

PAYLOAD = b"in the place of directions"


def key_of(number: int, payload: bytes, *, generator: str = GENERATOR) -> str:
    return f"directions/{generator}/{number:04d}-{hashlib.sha256(payload).hexdigest()}.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def test_the_newest_of_a_generator_count_and_all_stay(store: Store) -> None:
    keys = [keep_directions(store, payload, generator=GENERATOR) for payload in (b"one", b"two", b"one")]
    other = keep_directions(store, b"one", generator="cd" * 32)

    assert keys == [key_of(0, b"one"), key_of(1, b"two"), key_of(0, b"one")]
    assert find_directions(store, GENERATOR) == keys[1]
    assert find_directions(store, "cd" * 32) == other
    assert find_directions(store, "ef" * 32) is None
    assert [read_directions(store, key) for key in store.list()] == [b"one", b"two", b"one"]
    assert digest_in(keys[1]) == hashlib.sha256(b"two").hexdigest()


def test_many_writers_at_once_leave_what_each_has(store: Store) -> None:
    payloads = [b"one", b"two"] * 4
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda payload: keep_directions(store, payload, generator=GENERATOR), payloads))

    assert keys == set(store.list())
    assert {digest_in(key) for key in keys} == {hashlib.sha256(payload).hexdigest() for payload in payloads}
    assert find_directions(store, GENERATOR) in keys


def test_of_two_with_the_same_number_the_last_key_counts_and_the_next_number_is_higher(store: Store) -> None:
    keys = sorted(key_of(7, payload) for payload in (b"one", b"two"))
    for payload in (b"one", b"two"):
        store.create(key_of(7, payload), payload)

    assert find_directions(store, GENERATOR) == keys[1]
    assert keep_directions(store, PAYLOAD, generator=GENERATOR) == key_of(8, PAYLOAD)


def test_numbers_are_compared_as_numbers_and_end(store: Store) -> None:
    for number in (9999, 10000, 999_999_999):
        store.create(key_of(number, b"%d" % number), b"%d" % number)
    store.create(f"directions/{GENERATOR}/00001-{'0' * 64}.safetensors", b"no such key")

    assert find_directions(store, GENERATOR) == key_of(999_999_999, b"999999999")
    with pytest.raises(StoreError, match=r"999999999-.* has the highest number that there is"):
        keep_directions(store, PAYLOAD, generator=GENERATOR)


def test_damage_is_named_with_what_was_expected_and_what_came(store: Store) -> None:
    key = key_of(0, PAYLOAD)
    store.create(key, b"other")

    with pytest.raises(ChecksumError, match=rf"{key} must have SHA-256 {digest_in(key)}, has .* \(5 bytes\)"):
        read_directions(store, key)
    with pytest.raises(DamagedError, match=rf"{key} must have {len(PAYLOAD)} bytes, has 5: remove this object"):
        keep_directions(store, PAYLOAD, generator=GENERATOR)
    with pytest.raises(NotFoundError, match="0001-"):
        read_directions(store, key_of(1, PAYLOAD))


def test_what_is_too_large_is_neither_written_nor_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keep_directions(store, PAYLOAD, generator=GENERATOR)
    monkeypatch.setattr(directions, "LARGEST_DIRECTIONS", 10)
    monkeypatch.setattr(Store, "read", lambda *_, **__: pytest.fail("read it"))

    with pytest.raises(VaultError, match=f"at most 10 bytes to be kept, got {len(PAYLOAD)}"):
        keep_directions(store, PAYLOAD, generator=GENERATOR)
    with pytest.raises(DamagedError, match=f"{key} must have at most 10 bytes, has {len(PAYLOAD)}"):
        read_directions(store, key)


@pytest.mark.parametrize("generator", ["", "AB" * 32, "../" * 21 + "x", "ab" * 33])
def test_what_is_no_fingerprint_gets_no_key(store: Store, generator: str) -> None:
    with pytest.raises(VaultError, match="a generator's fingerprint must be 64 hex digits"):
        keep_directions(store, PAYLOAD, generator=generator)
    assert list(store.list()) == []


def test_verify_counts_sound_ones_and_reports_the_others(tmp_path: Path) -> None:
    make_vault(str(tmp_path / "vault"))
    store = open_vault(str(tmp_path / "vault"), create=False)
    before, counts = VerifyCounts(), VerifyCounts()
    list(verify_vault(store, counts=before))
    keep_directions(store, PAYLOAD, generator=GENERATOR)

    assert list(verify_vault(store, counts=counts)) == []
    assert (counts.num_directions, counts.num_objects) == (1, before.num_objects + 1)
    assert counts.num_bytes == before.num_bytes + len(PAYLOAD)

    damaged, strange = key_of(1, b"something"), f"directions/{GENERATOR}/mine.safetensors"
    store.create(damaged, PAYLOAD)
    store.create(strange, PAYLOAD)
    assert {(each.key, each.kind) for each in verify_vault(store)} == {(damaged, "damaged"), (strange, "orphan")}


def test_vacuum_keeps_all_for_ever(tmp_path: Path) -> None:
    store = open_vault(str(tmp_path), create=True)
    keys = {keep_directions(store, payload, generator=GENERATOR) for payload in (b"one", b"two")}

    counts = [vacuum(store, grace_s=0) for _ in range(2)]

    assert [(each.num_removed, each.num_waiting) for each in counts] == [(0, 0), (0, 0)]
    assert all(store.exists(key) for key in keys)
