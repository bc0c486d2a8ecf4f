"""The two stored parts of a segment: its pack, and the frames part that is made from the stored pack's table."""

from __future__ import annotations

import pyarrow as pa

from framevault.storage.errors import (
    AlreadyExistsError,
    DamagedError,
    NotFoundError,
    PackError,
    UnsupportedError,
    UnsupportedPackError,
)
from framevault.storage.packs import Pack, read_pack
from framevault.storage.schema import frames_table, frames_to_parquet, read_frames
from framevault.storage.store import ObjectRef, Store
from framevault.storage.tombstones import rescue


def pack_key(segment_id: str) -> str:
    """Return the key of a segment's pack."""
    return f"packs/{segment_id[:2]}/{segment_id}.fvp"


def frames_key(segment_id: str) -> str:
    """Return the key of a segment's frames part."""
    return f"frames/{segment_id}.parquet"


def frames_of_pack(pack: Pack) -> pa.Table:
    """Return the rows that the frames part of a pack must have."""
    return frames_table(
        [frame.pts for frame in pack.frames],
        size_bytes=[frame.length for frame in pack.frames],
        is_keyframe=[frame.is_keyframe for frame in pack.frames],
        is_independent=[frame.is_independent for frame in pack.frames],
        is_outside=[frame.is_outside for frame in pack.frames],
    )


def parse_stored_pack(store: Store, key: str, payload: bytes) -> Pack:
    """Parse and check what lies under a pack's key, down to every stream.

    Raises:
        DamagedError: It is not the pack of the segment that the key names.
        UnsupportedError: It is a pack of another version.
    """
    try:
        pack = read_pack(payload, key=f"{store.url}: {key}")
        pack.check_payloads()
    except UnsupportedPackError as error:
        raise UnsupportedError(str(error)) from error
    except PackError as error:
        raise DamagedError(str(error)) from error
    if pack_key(pack.header.segment_id) != key:
        raise DamagedError(f"{store.url}: {key} holds the pack of segment {pack.header.segment_id}")
    return pack


def read_rescued(store: Store, segment_id: str) -> bytes | None:
    """Return a segment's pack, unchecked, which no vacuum removes from now on; None if there is none.

    Raises:
        StoreUnavailableError: It is being removed right now, or the store can't be read or written.
    """
    key = pack_key(segment_id)
    try:
        payload = store.read(key)
        rescue(store, segment_id)
    except NotFoundError:
        return None
    return payload if store.exists(key) else None


def write_pack(store: Store, given: Pack) -> tuple[ObjectRef, Pack]:
    """Store a pack, or take the one that is there as it is.

    Raises:
        DamagedError: What is there is damaged, or holds other frames than the same segment encoded again.
        StoreUnavailableError: The store can't be read or written.
    """
    segment_id = given.header.segment_id
    key = pack_key(segment_id)
    payload: bytes | None = None
    while payload is None:
        try:
            return store.create(key, given.data), given
        except AlreadyExistsError:
            payload = read_rescued(store, segment_id)
    stored = parse_stored_pack(store, key, payload)
    if _identity(stored) != _identity(given):
        raise DamagedError(f"{store.url}: {key} holds other frames than the same segment encoded again")
    return ObjectRef.of(key, payload), stored


def write_frames(store: Store, pack: Pack) -> ObjectRef:
    """Store the frames part of a stored pack, or take the one that is there if it has the same rows.

    Raises:
        DamagedError: The one that is there has other rows, or is no frames part.
        StoreUnavailableError: The store can't be read or written.
    """
    key = frames_key(pack.header.segment_id)
    rows = frames_of_pack(pack)
    payload = frames_to_parquet(rows)
    try:
        return store.create(key, payload)
    except AlreadyExistsError:
        stored = store.read(key)
    # Another pyarrow writes other bytes for the same rows.
    if stored != payload and not read_frames(f"{store.url}: {key}", stored).equals(rows):
        raise DamagedError(f"{store.url}: {key} has other rows than the table of {pack_key(pack.header.segment_id)}")
    return ObjectRef.of(key, stored)


def _identity(pack: Pack) -> tuple[object, ...]:
    """Return what must be the same whenever a segment is encoded."""
    header = pack.header
    return (
        header.video_id,
        header.segment_id,
        header.codec_fingerprint,
        header.coded_height,
        header.coded_width,
        [frame.pts for frame in pack.frames],
    )
