"""Checkpoints in a vault: put there once, found under their SHA-256, and never read when they can't be right."""

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framevault.storage import checkpoints
from framevault.storage.checkpoints import checkpoint_key, keep_checkpoint, read_checkpoint
from framevault.storage.errors import ChecksumError, DamagedError, NotFoundError, VaultError
from framevault.storage.store import Store, open_store
from framevault.storage.vacuum import vacuum
from framevault.storage.vault import open_vault
from framevault.storage.verify import VerifyCounts, verify_vault
from tests.storage.samples import make_vault

PAYLOAD = b"in the place of a checkpoint"

DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_checkpoint_lies_under_its_digest(tmp_path: Path, kind: str) -> None:
    store = open_store(str(tmp_path) if kind == "folder" else f"memory://{uuid.uuid4().hex}")

    key = keep_checkpoint(store, PAYLOAD)

    assert key == checkpoint_key(DIGEST) == f"checkpoints/{DIGEST}.safetensors"
    assert read_checkpoint(store, DIGEST) == PAYLOAD


def test_many_writers_at_once_leave_one_object(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: keep_checkpoint(store, PAYLOAD), range(8)))

    assert list(store.list()) == [*keys] == [checkpoint_key(DIGEST)]


def test_one_that_is_there_is_not_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_checkpoint(store, PAYLOAD)
    monkeypatch.setattr(Store, "create", lambda *_: pytest.fail("wrote it twice"))

    assert keep_checkpoint(store, PAYLOAD) == checkpoint_key(DIGEST)


def test_damage_is_named_with_what_was_expected_and_what_came(store: Store) -> None:
    other = PAYLOAD[:-1] + b"T"
    store.create(checkpoint_key(DIGEST), other)

    found = hashlib.sha256(other).hexdigest()
    with pytest.raises(ChecksumError, match=rf"{checkpoint_key(DIGEST)} must have SHA-256 {DIGEST}, has {found}"):
        read_checkpoint(store, DIGEST)


def test_one_that_was_cut_off_is_noticed_by_who_would_keep_it(store: Store) -> None:
    store.create(checkpoint_key(DIGEST), PAYLOAD[:5])

    with pytest.raises(DamagedError, match=f"{DIGEST}.*must have {len(PAYLOAD)} bytes, has 5: remove this object"):
        keep_checkpoint(store, PAYLOAD)


def test_one_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match=checkpoint_key(DIGEST)):
        read_checkpoint(store, DIGEST)


def test_what_is_too_large_is_neither_written_nor_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(checkpoint_key(DIGEST), PAYLOAD)
    monkeypatch.setattr(checkpoints, "LARGEST_CHECKPOINT", 10)
    monkeypatch.setattr(Store, "read", lambda *_, **__: pytest.fail("read it"))

    with pytest.raises(VaultError, match=f"at most 10 bytes to be kept, got {len(PAYLOAD)}"):
        keep_checkpoint(store, PAYLOAD)
    with pytest.raises(DamagedError, match=f"{DIGEST}.*at most 10 bytes, has {len(PAYLOAD)}"):
        read_checkpoint(store, DIGEST)


def test_verify_counts_sound_ones_and_reports_the_others(tmp_path: Path) -> None:
    make_vault(str(tmp_path / "vault"))
    store = open_vault(str(tmp_path / "vault"), create=False)
    before = VerifyCounts()
    list(verify_vault(store, counts=before))
    keep_checkpoint(store, PAYLOAD)
    damaged, strange = checkpoint_key("0" * 64), "checkpoints/model.safetensors"
    counts = VerifyCounts()

    assert list(verify_vault(store, counts=counts)) == []
    assert (counts.num_checkpoints, counts.num_objects) == (1, before.num_objects + 1)
    assert counts.num_bytes == before.num_bytes + len(PAYLOAD)

    store.create(damaged, PAYLOAD)
    store.create(strange, PAYLOAD)
    assert {(each.key, each.kind) for each in verify_vault(store)} == {(damaged, "damaged"), (strange, "orphan")}


def test_vacuum_keeps_them_for_ever(tmp_path: Path) -> None:
    store = open_vault(str(tmp_path), create=True)
    key = keep_checkpoint(store, PAYLOAD)

    counts = [vacuum(store, grace_s=0) for _ in range(2)]

    assert [(each.num_removed, each.num_waiting) for each in counts] == [(0, 0), (0, 0)]
    assert store.exists(key)
