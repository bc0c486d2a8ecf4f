"""Directions for edits of faces, kept in a vault beside the checkpoints: so edits work for as long as the faces do.

::

    directions/<generator>/<number>-<SHA-256>.safetensors

They belong to a generator, named by its fingerprint, and are bytes of their own digest here: what is in them is the
codec's affair. Of one generator the highest number counts, and of that the highest key. As checkpoints, they stay for
ever.
"""

from __future__ import annotations

import hashlib
import re

from framevault.storage.errors import AlreadyExistsError, StoreError, VaultError
from framevault.storage.kept_files import check_kept_size, read_kept
from framevault.storage.store import Store

DIRECTIONS_KEY = re.compile(r"directions/([0-9a-f]{64})/(\d{4}|[1-9]\d{4,8})-([0-9a-f]{64})\.safetensors", re.ASCII)
"""Key of directions: fingerprint of the generator, number, SHA-256 of the bytes."""

LARGEST_DIRECTIONS = 1 << 28
"""Bytes: what is said to be larger is not read."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def keep_directions(store: Store, payload: bytes, *, generator: str) -> str:
    """Keep directions in a vault as the newest of their generator, if they are not there yet.

    Any number of writers may do so at once: of two with different ones, either may come to count.

    Args:
        store: The vault.
        payload: A file of directions.
        generator: Fingerprint of their generator, 64 hex digits.

    Returns:
        Their key.

    Raises:
        VaultError: They are too large to be kept.
        DamagedError: What lies under their key has another size.
        StoreUnavailableError: The store can't be read or written.
    """
    if _FINGERPRINT.fullmatch(generator) is None:
        raise VaultError(f"a generator's fingerprint must be 64 hex digits, got {generator!r:.80}")
    if len(payload) > LARGEST_DIRECTIONS:
        raise VaultError(f"directions must have at most {LARGEST_DIRECTIONS} bytes to be kept, got {len(payload)}")
    digest = hashlib.sha256(payload).hexdigest()
    kept = _kept(store, generator)
    for key, match in kept:
        if match[3] == digest:
            check_kept_size(store, key, size_bytes=len(payload))
            return key
    number = int(kept[-1][1][2]) + 1 if kept else 0
    key = f"directions/{generator}/{number:04d}-{digest}.safetensors"
    if DIRECTIONS_KEY.fullmatch(key) is None:
        raise StoreError(f"{store.url}: {kept[-1][0]} has the highest number that there is: no others can be kept")
    try:
        store.create(key, payload)
    except AlreadyExistsError:
        check_kept_size(store, key, size_bytes=len(payload))
    return key


def find_directions(store: Store, generator: str) -> str | None:
    """Return the key of the directions that count for a generator; None if the vault has none.

    Raises:
        StoreUnavailableError: The store can't be listed.
    """
    kept = _kept(store, generator)
    return kept[-1][0] if kept else None


def read_directions(store: Store, key: str) -> bytes:
    """Return the directions under a key of `DIRECTIONS_KEY`.

    Raises:
        NotFoundError: The vault has none.
        DamagedError: They are larger than any may be.
        ChecksumError: They have another SHA-256.
        StoreUnavailableError: The store can't be read.
    """
    return read_kept(store, key, digest_in(key), most_bytes=LARGEST_DIRECTIONS)


def digest_in(key: str) -> str:
    """Return the SHA-256, in hex, that a key of `DIRECTIONS_KEY` says."""
    match = DIRECTIONS_KEY.fullmatch(key)
    assert match is not None
    return match[3]


def _kept(store: Store, generator: str) -> list[tuple[str, re.Match[str]]]:
    """Return the keys of a generator's directions, those that count most last."""
    found = [(key, DIRECTIONS_KEY.fullmatch(key)) for key in store.list(f"directions/{generator}")]
    kept = [(key, match) for key, match in found if match is not None]
    return sorted(kept, key=lambda each: (int(each[1][2]), each[0]))
