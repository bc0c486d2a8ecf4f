"""Files that a vault keeps beside its packs, under keys that say their SHA-256: checkpoints, and directions.

No manifest names them: who knows the key can tell whether the right bytes came.
"""

from __future__ import annotations

import hashlib

from framevault.storage.errors import ChecksumError, DamagedError
from framevault.storage.store import Store


def check_kept_size(store: Store, key: str, *, size_bytes: int) -> None:
    """Check what lies already under the key of something that shall be kept.

    Raises:
        NotFoundError: Nothing does.
        DamagedError: It has another size.
        StoreUnavailableError: The store can't be read.
    """
    if (found := store.size_bytes(key)) != size_bytes:
        raise DamagedError(
            f"{store.url}: {key} must have {size_bytes} bytes, has {found}: remove this object, and the same command "
            "puts the right one there"
        )


def read_kept(store: Store, key: str, digest: str, *, most_bytes: int) -> bytes:
    """Return the bytes under a key that says their SHA-256, in hex.

    Raises:
        NotFoundError: The vault has none.
        DamagedError: There are more than `most_bytes`.
        ChecksumError: They have another SHA-256.
        StoreUnavailableError: The store can't be read.
    """
    size_bytes = store.size_bytes(key)
    if size_bytes > most_bytes:
        raise DamagedError(f"{store.url}: {key} must have at most {most_bytes} bytes, has {size_bytes}")
    payload = store.read(key, length=size_bytes)
    if (found := hashlib.sha256(payload).hexdigest()) != digest:
        raise ChecksumError(f"{store.url}: {key} must have SHA-256 {digest}, has {found} ({len(payload)} bytes)")
    return payload
