"""Checkpoints that were fetched from vaults, in a folder of this machine.

A file is named by its SHA-256, which is checked each time before it is used: so the folder may serve many vaults and
many processes at once, whatever was killed while it wrote there, and may be removed at any time.
"""

import hashlib
from pathlib import Path

from framevault.codecs.errors import CheckpointError
from framevault.storage.checkpoints import read_checkpoint
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
    cache = Path(USUAL_CACHE if folder is None else folder).expanduser()
    path = cache / f"{digest}.safetensors"
    if not _holds(path, digest):
        payload = read_checkpoint(store, digest)
        try:
            with whole_file(path, scratch=cache) as unfinished:
                unfinished.write_bytes(payload)
        except OSError as error:
            raise CheckpointError(
                f"a checkpoint of {store.url} can't be written to {path}: {error.strerror}; name another folder with "
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
