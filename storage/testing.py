"""What every kind of store must do: subclass `StoreTests` with a fixture `store_url`.

::

    class TestMemoryStore(StoreTests):
        @pytest.fixture
        def store_url(self) -> str:
            return f"memory://{uuid.uuid4().hex}"
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from framevault.storage.errors import AlreadyExistsError, ChecksumError, DamagedError, NotFoundError
from framevault.storage.store import ObjectRef, Store, open_store

NUM_WRITERS = 8
"""Writers of one key at once."""


class StoreTests:
    """Conformance tests of a store; `store_url` must name an empty place."""

    allows_concurrent_writers = True
    """Whether two writers of one key at once are decided; false for a store that says so in its documentation."""

    @pytest.fixture
    def store(self, store_url: str) -> Store:
        """Return the store under test."""
        return open_store(store_url)

    def test_an_object_is_read_as_it_was_created(self, store: Store) -> None:
        """Create and read."""
        ref = store.create("packs/ab/x.fvp", b"0123456789")

        assert ref == ObjectRef(key="packs/ab/x.fvp", size_bytes=10, crc32c=0x280C069E)
        assert store.read("packs/ab/x.fvp") == b"0123456789"
        assert store.read_checked(ref) == b"0123456789"

    def test_an_empty_object_exists(self, store: Store) -> None:
        """Zero bytes are an object too."""
        ref = store.create("empty", b"")

        assert store.exists("empty")
        assert store.read_checked(ref) == b""

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, 3, b"012"),
            (3, 4, b"3456"),
            (7, None, b"789"),
            (7, 100, b"789"),
            (0, 0, b""),
            (10, 5, b""),
            (50, 5, b""),
            (50, None, b""),
        ],
    )
    def test_a_range_is_read_as_far_as_it_goes(
        self, store: Store, start: int, length: int | None, expected: bytes
    ) -> None:
        """Ranges behave like slices."""
        store.create("digits", b"0123456789")

        assert store.read("digits", start=start, length=length) == expected

    def test_a_key_is_never_created_twice(self, store: Store) -> None:
        """What is there stays."""
        store.create("manifests/a.json", b"first")

        with pytest.raises(AlreadyExistsError, match=r"manifests/a\.json"):
            store.create("manifests/a.json", b"second")

        assert store.read("manifests/a.json") == b"first"

    def test_create_or_keep_says_what_is_there(self, store: Store) -> None:
        """The kept object's own size and checksum come back."""
        first, is_first_created = store.create_or_keep("x", b"first")
        second, is_second_created = store.create_or_keep("x", b"second, longer")

        assert (is_first_created, is_second_created) == (True, False)
        assert first == second == ObjectRef.of("x", b"first")

    def test_of_many_writers_of_one_key_exactly_one_wins(self, store: Store) -> None:
        """Everyone else learns that the key is taken, and readers see the winner's bytes."""
        if not self.allows_concurrent_writers:
            pytest.skip("this store documents that it allows one writer at a time")
        payloads = [bytes([number]) * 10_000 for number in range(NUM_WRITERS)]

        with ThreadPoolExecutor(NUM_WRITERS) as pool:
            results = list(pool.map(lambda payload: store.create_or_keep("contended", payload), payloads))

        winners = [payload for payload, (_, is_created) in zip(payloads, results, strict=True) if is_created]
        assert len(winners) == 1
        assert store.read("contended") == winners[0]
        assert {ref for ref, _ in results} == {ObjectRef.of("contended", winners[0])}

    def test_keys_are_listed_sorted_and_by_folder(self, store: Store) -> None:
        """A folder's name ends where the folder's name ends."""
        for key in ("b/2", "b/10", "a", "b/c/d", "bc/1"):
            store.create(key, b"x")

        assert list(store.list()) == ["a", "b/10", "b/2", "b/c/d", "bc/1"]
        assert list(store.list("b")) == ["b/10", "b/2", "b/c/d"]
        assert list(store.list("b/")) == ["b/10", "b/2", "b/c/d"]
        assert list(store.list("nothing")) == []

    def test_an_object_just_created_is_listed(self, store: Store) -> None:
        """No listing is an old one."""
        before = list(store.list("names"))
        store.create("names/x", b"x")

        assert before == []
        assert list(store.list("names")) == ["names/x"]

    def test_a_missing_object_is_named(self, store: Store) -> None:
        """Reading what is not there."""
        assert not store.exists("packs/none.fvp")
        with pytest.raises(NotFoundError, match=r"packs/none\.fvp"):
            store.read("packs/none.fvp")

    def test_a_wrong_checksum_or_size_is_named(self, store: Store) -> None:
        """A checked read gives what was written, or nothing."""
        ref = store.create("packs/a.fvp", b"0123456789")

        with pytest.raises(ChecksumError, match=r"packs/a\.fvp must have CRC32C 00000001, has 280c069e"):
            store.read_checked(replace(ref, crc32c=1))
        with pytest.raises(ChecksumError, match=r"packs/a\.fvp must have 11 bytes, has 10"):
            store.read_checked(replace(ref, size_bytes=11))

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\nb", "ä"])
    def test_a_key_can_not_lead_out_of_the_store(self, store: Store, key: str) -> None:
        """Keys come from stored objects."""
        with pytest.raises(DamagedError, match="plain relative path"):
            store.read(key)
        with pytest.raises(DamagedError, match="plain relative path"):
            store.create(key, b"x")

    def test_a_store_survives_pickling(self, store: Store) -> None:
        """It is opened again by its URL."""
        store.create("x", b"1")

        again: Store = pickle.loads(pickle.dumps(store))  # noqa: S301 # what a worker is sent

        assert again.url == store.url
        assert again.read("x") == b"1"

    def test_a_removed_object_is_gone_and_its_key_is_free(self, store: Store) -> None:
        """Removing twice is no error; a new object may take the place."""
        store.create("packs/a.fvp", b"first")

        store.remove("packs/a.fvp")
        store.remove("packs/a.fvp")

        assert list(store.list()) == []
        with pytest.raises(NotFoundError, match=r"packs/a\.fvp"):
            store.size_bytes("packs/a.fvp")
        store.create("packs/a.fvp", b"second")
        assert store.size_bytes("packs/a.fvp") == len(b"second")

    def test_a_store_tells_when_objects_were_written_by_its_own_clock(self, store: Store) -> None:
        """To some seconds; a clock that stands still would remove nothing, one that runs ahead too much."""
        before = store.now_s()
        store.create("x", b"1")

        assert before - 2 <= store.modified_s("x") <= store.now_s() + 2
        assert list(store.list_leftovers()) == []
        with pytest.raises(NotFoundError, match="there is no y"):
            store.modified_s("y")

    def test_nothing_is_left_of_a_finished_write(self, store: Store) -> None:
        """Neither of a won nor of a lost one, nor of the look whether the store can be written."""
        store.check_writable()
        store.create("x", b"1")
        store.create_or_keep("x", b"2")

        assert list(store.list_leftovers()) == []
        assert list(store.list()) == ["x"]
