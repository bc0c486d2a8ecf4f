"""A vault's checkpoint is fetched once a machine; a file that is not what its name says is never used."""

import hashlib
from pathlib import Path

import pytest

from framevault.codecs.errors import CheckpointError
from framevault.storage.checkpoints import keep_checkpoint, read_checkpoint
from framevault.storage.errors import NotFoundError
from framevault.storage.store import Store, open_store
from framevault.workers import checkpoint_cache
from framevault.workers.checkpoint_cache import fetch_checkpoint

PAYLOAD = b"in the place of a checkpoint"

DIGEST = hashlib.sha256(PAYLOAD).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "vault"))


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read from the vault so far."""
    digests: list[str] = []

    def read(store: Store, digest: str) -> bytes:
        digests.append(digest)
        return read_checkpoint(store, digest)

    monkeypatch.setattr(checkpoint_cache, "read_checkpoint", read)
    return digests


def test_a_good_file_is_taken_and_a_damaged_one_replaced(store: Store, tmp_path: Path, fetched: list[str]) -> None:
    keep_checkpoint(store, PAYLOAD)
    folder = tmp_path / "cache"

    paths = {fetch_checkpoint(store, DIGEST, folder=str(folder)) for _ in range(2)}

    (path,) = paths
    assert path == folder / f"{DIGEST}.safetensors"
    assert (path.read_bytes(), fetched) == (PAYLOAD, [DIGEST])
    path.write_bytes(PAYLOAD[:-1])
    assert fetch_checkpoint(store, DIGEST, folder=str(folder)).read_bytes() == PAYLOAD
    assert fetched == [DIGEST] * 2
    assert list(folder.iterdir()) == [path]


def test_a_folder_serves_vaults_that_lost_theirs(store: Store, tmp_path: Path) -> None:
    keep_checkpoint(store, PAYLOAD)
    other, folder = open_store(str(tmp_path / "other")), str(tmp_path / "cache")

    with pytest.raises(NotFoundError, match=DIGEST):
        fetch_checkpoint(other, DIGEST, folder=folder)
    fetch_checkpoint(store, DIGEST, folder=folder)

    assert fetch_checkpoint(other, DIGEST, folder=folder).read_bytes() == PAYLOAD


def test_the_usual_folder_is_in_ones_home(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_checkpoint(store, PAYLOAD)

    path = fetch_checkpoint(store, DIGEST)

    assert path == tmp_path / ".cache" / "framevault" / "checkpoints" / f"{DIGEST}.safetensors"


def test_a_folder_that_cant_be_written_is_named(store: Store, tmp_path: Path) -> None:
    keep_checkpoint(store, PAYLOAD)
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(CheckpointError, match=r"can't be written to .*/file/.*--checkpoint-cache"):
        fetch_checkpoint(store, DIGEST, folder=str(tmp_path / "file"))
