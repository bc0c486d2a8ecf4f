"""Checkpoints, and directions for edits, that were fetched from vaults, in a folder of this machine.

A file is named by its SHA-256, which is checked each time before it is used: so the folder may serve many vaults and
many processes at once, whatever was killed while it wrote there, and may be removed at any time.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from framevault.codecs.errors import CheckpointError
from framevault.storage.checkpoints import read_checkpoint
from framevault.storage.directions import digest_in, find_directions, read_directions
from framevault.storage.store import Store
from framevault.workers.output_folder import whole_file

USUAL_CACHE = "~/.cache/framevault/checkpoints"
"""Where they are unless told otherwise: in the home of whoever runs the process."""


def fetch_checkpoint(store: Store, digest: str, *, folder: str | None = None) -> Path:
    """Return where a vault's checkpoint is on this machine; fetches it if it is not in the folder.

    Args:
        store: The vault.
        digest: Its SHA-256, in hex.
        folder: Where fetched ones are kept; None for the usual place.

    Raises:
        NotFoundError: It is neither in the folder nor in the vault.
        DamagedError: It is not what its key says; names the key, what was expected and what came.
        CheckpointError: The folder can't be written.
        StoreUnavailableError: The vault can't be read.
    """
    return _fetch(store, digest, lambda: read_checkpoint(store, digest), folder=folder)


def fetch_directions(store: Store, generator: str, *, folder: str | None = None) -> Path | None:
    """Return where a vault's directions of a generator are on this machine; None if the vault has none.

    Args:
        store: The vault.
        generator: Its fingerprint, in hex.
        folder: Where fetched ones are kept; None for the usual place.

    Raises:
        DamagedError: They are not what their key says; names the key, what was expected and what came.
        CheckpointError: The folder can't be written.
        StoreUnavailableError: The vault can't be read.
    """
    key = find_directions(store, generator)
    if key is None:
        return None
    return _fetch(store, digest_in(key), lambda: read_directions(store, key), folder=folder)


def _fetch(store: Store, digest: str, read: Callable[[], bytes], *, folder: str | None) -> Path:
    """Return where the bytes of a SHA-256 are on this machine; reads them if they are not in the folder."""
    cache = Path(USUAL_CACHE if folder is None else folder).expanduser()
    path = cache / f"{digest}.safetensors"
    if not _holds(path, digest):
        payload = read()
        try:
            with whole_file(path, scratch=cache) as unfinished:
                unfinished.write_bytes(payload)
        except OSError as error:
            raise CheckpointError(
                f"what {store.url} keeps can't be written to {path}: {error.strerror}; name another folder with "
                "--checkpoint-cache"
            ) from error
    return path


def _holds(path: Path, digest: str) -> bool:
    """Whether a file is there, and whole."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False
