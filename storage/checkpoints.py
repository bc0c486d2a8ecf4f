"""The codecs' checkpoints that a vault's streams were written with: kept beside them, each under its own SHA-256.

A key made from the content needs no manifest that names it: who knows what a stream needs (its pack's header says so)
knows the key, and can tell whether the right bytes came. They stay for ever, since every stream is lost without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re

from framevault.storage.errors import AlreadyExistsError, NotFoundError, VaultError
from framevault.storage.kept_files import check_kept_size, read_kept
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
        check_kept_size(store, key, size_bytes=len(payload))
    except NotFoundError:
        with contextlib.suppress(AlreadyExistsError):
            store.create(key, payload)
    return key


def read_checkpoint(store: Store, digest: str) -> bytes:
    """Return the checkpoint with a SHA-256 in hex.

    Raises:
        NotFoundError: The vault has none.
        DamagedError: It is larger than any may be.
        ChecksumError: It has another SHA-256.
        StoreUnavailableError: The store can't be read.
    """
    return read_kept(store, checkpoint_key(digest), digest, most_bytes=LARGEST_CHECKPOINT)
