"""What is to be removed from a vault, and how a writer still saves it.

A segment that no manifest names gets a mark; `vacuum.py` removes its objects when the mark is old enough. A writer that
comes across them (a job that was killed goes on; what was thinned is compressed again) takes the mark away before it
relies on them. Who removes and who saves can't both win: each must first create the claim, which only one can.

::

    tombstones/<segment_id>/mark.json     no manifest has named the segment since this was written
    tombstones/<segment_id>/claim.json    somebody is removing the segment's objects, or the mark
"""

from __future__ import annotations

import contextlib
import re
from typing import Literal

from framevault.storage.documents import seal, unseal, utc_now
from framevault.storage.errors import AlreadyExistsError, DamagedError, NotFoundError, StoreUnavailableError
from framevault.storage.store import Store

TOMBSTONES_FOLDER = "tombstones"
"""Where they lie."""

TOMBSTONE_KEY = re.compile(r"tombstones/([0-9a-f]{32})/(mark|claim)\.json")
"""Key of a tombstone: segment_id, kind."""

TOMBSTONE_VERSION = 1
"""Of both kinds."""

TombstoneKind = Literal["mark", "claim"]
"""Since when a segment is unnamed, or that somebody is at work on it."""


def tombstone_key(segment_id: str, kind: TombstoneKind) -> str:
    """Return the key of a segment's mark or claim."""
    return f"{TOMBSTONES_FOLDER}/{segment_id}/{kind}.json"


def mark(store: Store, segment_id: str) -> None:
    """Say that no manifest names a segment any more; a mark that is there stays.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    with contextlib.suppress(AlreadyExistsError):
        store.create(tombstone_key(segment_id, "mark"), _document(segment_id, "mark"))


def unmark(store: Store, segment_id: str) -> None:
    """Remove a mark; for whoever has just taken a segment out of a manifest.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    store.remove(tombstone_key(segment_id, "mark"))


def claim(store: Store, segment_id: str) -> bool:
    """Take a segment's objects and mark for oneself; False if somebody else has them.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    try:
        store.create(tombstone_key(segment_id, "claim"), _document(segment_id, "claim"))
    except AlreadyExistsError:
        return False
    return True


def bury(store: Store, segment_id: str) -> None:
    """Remove mark and claim, the claim last; for whoever has claimed.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    unmark(store, segment_id)
    store.remove(tombstone_key(segment_id, "claim"))


def rescue(store: Store, segment_id: str) -> None:
    """Keep a segment's objects from being removed, before relying on those that are there. Look again afterwards.

    Raises:
        StoreUnavailableError: They are being removed right now, or the store can't be read or written.
    """
    if not list(store.list(f"{TOMBSTONES_FOLDER}/{segment_id}")):
        return
    if not claim(store, segment_id):
        raise StoreUnavailableError(
            f"{store.url}: framevault vacuum is removing segment {segment_id}; try again when it has ended (one "
            "that was killed is finished by the next one, once its grace period is over)"
        )
    bury(store, segment_id)


def check_tombstone(store: Store, key: str) -> None:
    """Check one mark or claim.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        StoreUnavailableError: The store can't be read.
    """
    match = TOMBSTONE_KEY.fullmatch(key)
    assert match is not None
    try:
        payload = store.read(key)
    except NotFoundError:
        return  # a vacuum at work
    members = unseal(f"{store.url}: {key}", payload)
    members.check_kind(f"framevault {match[2]}", version=TOMBSTONE_VERSION)
    members.time("created_at")
    if (found := members.hexadecimal("segment_id", length=32)) != match[1]:
        raise DamagedError(f"{members.key}: is about segment {found}")


def _document(segment_id: str, kind: TombstoneKind) -> bytes:
    body = {"segment_id": segment_id, "created_at": utc_now()}
    return seal(body, kind=f"framevault {kind}", version=TOMBSTONE_VERSION)
