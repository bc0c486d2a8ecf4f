"""The codecs' checkpoints that a vault's streams were written with: kept beside them, each under its own SHA-256.

A key made from the content needs no manifest that names it: who knows what a stream needs (its pack's header says so)
knows the key, and can tell whether the right bytes came. They stay for ever, since every stream is lost without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re

from framevault.storage.errors import AlreadyExistsError, ChecksumError, DamagedError, NotFoundError, VaultError
from framevault.storage.store import Store

CHECKPOINT_KEY = re.compile(r"checkpoints/([0-9a-f]{64})\.safetensors")
"""Key of a checkpoint: the SHA-256 of its bytes."""

LARGEST_CHECKPOINT = 1 << 31
"""Bytes: what is said to be larger is not read."""


def checkpoint_key(digest: str) -> str:
    """Return the key of the checkpoint with a SHA-256 in hex."""
    return f"checkpoints/{digest}.safetensors"


def keep_checkpoint(store: Store, payload: bytes) -> str:
    """Keep a checkpoint in a vault, if it is not there yet; any number of writers may do so at once.

    Returns:
        Its key.

    Raises:
        VaultError: It is too large to be kept.
        DamagedError: What lies under its key has another size.
        StoreUnavailableError: The store can't be read or written.
    """
    if len(payload) > LARGEST_CHECKPOINT:
        raise VaultError(f"a checkpoint must have at most {LARGEST_CHECKPOINT} bytes to be kept, got {len(payload)}")
    key = checkpoint_key(hashlib.sha256(payload).hexdigest())
    try:
        size_bytes = store.size_bytes(key)
    except NotFoundError:
        with contextlib.suppress(AlreadyExistsError):
            store.create(key, payload)
        return key
    if size_bytes != len(payload):
        raise DamagedError(
            f"{store.url}: {key} must have {len(payload)} bytes, has {size_bytes}: remove this object, and the same "
            "command puts the right one there"
        )
    return key


def read_checkpoint(store: Store, digest: str) -> bytes:
    """Return the checkpoint with a SHA-256 in hex.

    Raises:
        NotFoundError: The vault has none.
        DamagedError: It is larger than any may be.
        ChecksumError: It has another SHA-256.
        StoreUnavailableError: The store can't be read.
    """
    key = checkpoint_key(digest)
    size_bytes = store.size_bytes(key)
    if size_bytes > LARGEST_CHECKPOINT:
        raise DamagedError(f"{store.url}: {key} must have at most {LARGEST_CHECKPOINT} bytes, has {size_bytes}")
    payload = store.read(key, length=size_bytes)
    if (found := hashlib.sha256(payload).hexdigest()) != digest:
        raise ChecksumError(f"{store.url}: {key} must have SHA-256 {digest}, has {found} ({len(payload)} bytes)")
    return payload
