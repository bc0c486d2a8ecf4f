"""What is known of frames besides their streams: labels with scores, vectors to search by, and faces in the streams.

All are kept as detections are: one immutable Parquet part a segment and model, and manifests that make them visible.
Their kinds are rows of a table::

    labels/<model_fp>/<segment_id>.parquet      manifests/<video_id>/labels/<model_fp>/<digest>.json
    vectors/<model_fp>/<segment_id>.parquet     manifests/<video_id>/vectors/<model_fp>/<digest>.json
    faces/<model_fp>/<segment_id>.parquet       manifests/<video_id>/faces/<model_fp>/<digest>.json
    face_vectors/...                            manifests/<video_id>/face_vectors/...: vectors of those faces

`partial.py` says what there is where some frames of a segment can't be decoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from framevault.storage.documents import LARGEST_COUNT, Fields, ref_members, seal, unseal
from framevault.storage.errors import AlreadyExistsError, DamagedError
from framevault.storage.face_tables import faces_to_parquet, find_face_fault, read_faces
from framevault.storage.face_vectors import face_vectors_to_parquet, find_face_vector_fault, read_face_vectors
from framevault.storage.frame_tables import (
    find_label_fault,
    find_vector_fault,
    labels_to_parquet,
    read_labels,
    read_vectors,
    vectors_to_parquet,
)
from framevault.storage.pack_table import MOST_FRAMES
from framevault.storage.partial import PARTIAL_FOLDER, partial_key, unite_parts
from framevault.storage.store import ObjectRef, Store

FactKind = Literal["labels", "vectors", "faces", "face_vectors"]
"""What is said about frames."""

FACT_KINDS: tuple[FactKind, ...] = ("labels", "vectors", "faces", "face_vectors")
"""All kinds."""

FACTS_VERSION = 1
"""Of these manifests."""

FACTS_MANIFEST_KEY = re.compile(
    r"manifests/([0-9a-f]{32})/(labels|vectors|faces|face_vectors)/([0-9a-f]{16})/(?:partial/)?([0-9a-f]{16})\.json"
)
"""Key of a manifest: video_id, kind, model_fp, digest of its content."""


class _ReadsPart(Protocol):
    def __call__(self, key: str, payload: bytes) -> pa.Table: ...


class _WritesPart(Protocol):
    def __call__(self, table: pa.Table) -> bytes: ...


class _FindsFault(Protocol):
    def __call__(self, table: pa.Table, *, num_frames: int | None) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _PartFormat:
    """What the parts of a kind are."""

    read: _ReadsPart
    write: _WritesPart
    find_fault: _FindsFault


_FORMATS: dict[FactKind, _PartFormat] = {
    "labels": _PartFormat(read_labels, labels_to_parquet, find_label_fault),
    "vectors": _PartFormat(read_vectors, vectors_to_parquet, find_vector_fault),
    "faces": _PartFormat(read_faces, faces_to_parquet, find_face_fault),
    "face_vectors": _PartFormat(read_face_vectors, face_vectors_to_parquet, find_face_vector_fault),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FactPart:
    """What one model said about one segment."""

    segment_id: str
    """The segment that was looked through."""
    part: ObjectRef
    """Its rows."""
    num_frames: int
    """Frames of the segment."""
    num_rows: int
    """Rows of the part."""
    num_lost: int = 0
    """Frames of the segment that could not be decoded, and that nothing is known of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactManifest:
    """What one model said about a video."""

    kind: FactKind
    """What it is about."""
    model_fp: str
    """Over the model and the codec whose features it read, 16 hex digits; of faces, over what coded them."""
    model: str
    """Name of the model; of faces, of the codec."""
    video_id: str
    """32 hex digits."""
    run_fp: str
    """Of the compression that was looked through, 16 hex digits."""
    parts: tuple[FactPart, ...]
    """One a segment; by segment id once committed."""

    @property
    def is_partial(self) -> bool:
        """Whether some frames of its segments were not looked through."""
        return any(part.num_lost for part in self.parts)

    @property
    def key(self) -> str:
        """Its key in the store."""
        return self.key_of(self.to_document())

    def key_of(self, document: bytes) -> str:
        """Return the key of a document that says what this does, and maybe more."""
        digest = hashlib.sha256(document).hexdigest()[:16]
        folder = f"manifests/{self.video_id}/{self.kind}/{self.model_fp}"
        return f"{folder}/{PARTIAL_FOLDER if self.is_partial else ''}{digest}.json"

    def to_document(self) -> bytes:
        """Return it as it is stored."""
        parts = sorted(self.parts, key=lambda part: part.segment_id)
        body = {
            "model_fp": self.model_fp,
            "model": self.model,
            "video_id": self.video_id,
            "run_fp": self.run_fp,
            "parts": [_part_members(part) for part in parts],
        }
        return seal(body, kind=f"framevault {self.kind}", version=FACTS_VERSION)


def facts_key(kind: FactKind, model_fp: str, segment_id: str) -> str:
    """Return the key of a part."""
    return f"{kind}/{model_fp}/{segment_id}.parquet"


def write_facts(
    store: Store,
    kind: FactKind,
    model_fp: str,
    segment_id: str,
    table: pa.Table,
    *,
    num_frames: int,
    num_lost: int = 0,
) -> FactPart:
    """Store what was said about a segment, or take what another run of the same model stored as it is.

    Args:
        store: The vault.
        kind: What it is about.
        model_fp: Over the model and the codec.
        segment_id: The segment that was looked through.
        table: Of `labels_table`, `vectors_table`, `faces_table` or `face_vectors_table`.
        num_frames: Frames of the segment.
        num_lost: Frames of it that could not be decoded.

    Raises:
        ValueError: The table has impossible values, or rows of frames that the segment has not.
        DamagedError: What lies under the key is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    if fault := find_fault(kind, table, num_frames=num_frames):
        raise ValueError(f"{kind} of segment {segment_id}: {fault}")
    key = facts_key(kind, model_fp, segment_id)
    payload = _FORMATS[kind].write(table)
    if num_lost:
        key = partial_key(key, payload)
    try:
        ref = store.create(key, payload)
    except AlreadyExistsError:
        payload = store.read(key)
        table = read_facts(kind, f"{store.url}: {key}", payload, num_frames=num_frames)
        ref = ObjectRef.of(key, payload)
    return FactPart(segment_id=segment_id, part=ref, num_frames=num_frames, num_rows=table.num_rows, num_lost=num_lost)


def read_facts(kind: FactKind, key: str, payload: bytes, *, num_frames: int | None = None) -> pa.Table:
    """Return the rows of a part.

    Raises:
        DamagedError: It is not one, or not about so many frames; names the key.
    """
    table = _FORMATS[kind].read(key, payload)
    if fault := find_fault(kind, table, num_frames=num_frames):
        raise DamagedError(f"{key}: {fault}")
    return table


def load_facts(store: Store, kind: FactKind, part: FactPart) -> pa.Table:
    """Return the rows of a stored part that a manifest names.

    Raises:
        DamagedError: It is not the one that the manifest means, or no such part; names the key.
        StoreUnavailableError: The store can't be read.
    """
    return read_facts(kind, part.part.key, store.read_checked(part.part), num_frames=part.num_frames)


def find_fault(kind: FactKind, table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with the values of a part; None if nothing is."""
    return _FORMATS[kind].find_fault(table, num_frames=num_frames)


def commit_facts(store: Store, manifest: FactManifest) -> str:
    """Make parts visible, together with those that are visible already; the same manifest again changes nothing.

    Returns:
        The key of the manifest.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    try:
        return store.create(manifest.key, manifest.to_document()).key
    except AlreadyExistsError:
        return manifest.key


def load_fact_manifests(store: Store, kind: FactKind, *, video_id: str | None = None) -> list[FactManifest]:
    """Return all of a kind that is visible: one manifest a model, video and run, with the parts of all of theirs.

    Args:
        store: The vault.
        kind: What they are about.
        video_id: The video that they are about; None for all.

    Raises:
        DamagedError: A manifest is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    folder = "manifests" if video_id is None else f"manifests/{video_id}"
    matches = map(FACTS_MANIFEST_KEY.fullmatch, store.list(folder))
    keys = [match[0] for match in matches if match is not None and match[2] == kind]
    merged: dict[tuple[str, str, str], FactManifest] = {}
    for manifest in store.map(lambda key: read_fact_manifest(store, key), keys):
        group = (manifest.model_fp, manifest.video_id, manifest.run_fp)
        merged[group] = _merge(merged[group], manifest) if group in merged else manifest
    return list(merged.values())


def read_fact_manifest(store: Store, key: str) -> FactManifest:
    """Read one manifest.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        StoreUnavailableError: The store can't be read.
    """
    payload = store.read(key)
    kind = _kind_of(key)
    members = unseal(f"{store.url}: {key}", payload)
    members.check_kind(f"framevault {kind}", version=FACTS_VERSION)
    manifest = FactManifest(
        kind=kind,
        model_fp=members.hexadecimal("model_fp", length=16),
        model=members.text("model"),
        video_id=members.hexadecimal("video_id", length=32),
        run_fp=members.hexadecimal("run_fp", length=16),
        parts=tuple(_read_part_members(item) for item in members.items("parts")),
    )
    if manifest.key_of(payload) != key:
        raise DamagedError(f"{key}: holds the manifest of {manifest.key_of(payload)}")
    names = [part.segment_id for part in manifest.parts]
    if names != sorted(set(names)):
        raise DamagedError(f"{key}: parts must be sorted by segment_id, and one a segment")
    return manifest


def _kind_of(key: str) -> FactKind:
    match = FACTS_MANIFEST_KEY.fullmatch(key)
    assert match is not None
    return next(kind for kind in FACT_KINDS if kind == match[2])


def _merge(first: FactManifest, second: FactManifest) -> FactManifest:
    return FactManifest(
        kind=first.kind,
        model_fp=first.model_fp,
        model=first.model,
        video_id=first.video_id,
        run_fp=first.run_fp,
        parts=unite_parts(first.parts, second.parts),
    )


def _part_members(part: FactPart) -> Mapping[str, object]:
    return {
        "segment_id": part.segment_id,
        "part": ref_members(part.part),
        "num_frames": part.num_frames,
        "num_rows": part.num_rows,
        **({"num_lost": part.num_lost} if part.num_lost else {}),
    }


def _read_part_members(members: Fields) -> FactPart:
    return FactPart(
        segment_id=members.hexadecimal("segment_id", length=32),
        part=members.object_ref("part"),
        num_frames=members.integer("num_frames", minimum=1, maximum=MOST_FRAMES),
        num_rows=members.integer("num_rows", maximum=LARGEST_COUNT),
        num_lost=members.integer_or_none("num_lost") or 0,
    )
