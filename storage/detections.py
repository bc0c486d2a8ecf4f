"""Objects found in stored segments: one part a segment and detector, and manifests that make them visible.

A detection run commits one manifest a video. Runs over parts of a video leave several; they count together.

Where some frames of a segment can't be decoded, there is a *partial* part about the others. It lies under a key made
from its content, and in a manifest of its own, so that a reader who knows of none sees a segment that was not looked
through. Once the pack is repaired, the next run leaves a whole part, which takes its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from framevault.storage.documents import LARGEST_COUNT, Fields, ref_members, seal, unseal
from framevault.storage.errors import AlreadyExistsError, DamagedError, NotFoundError
from framevault.storage.pack_table import MOST_FRAMES
from framevault.storage.partial import PARTIAL_FOLDER, partial_key, unite_parts
from framevault.storage.schema import (
    DETECTIONS_SCHEMA,
    MASKED_DETECTIONS_SCHEMA,
    detections_to_parquet,
    find_fault,
    read_detections,
    read_masked_detections,
)
from framevault.storage.store import ObjectRef, Store

DETECTIONS_FORMAT = "framevault detections"
"""What a detection manifest says about itself."""

DETECTIONS_VERSION = 1
"""Of detection manifests."""

DETECTIONS_MANIFEST_KEY = re.compile(
    r"manifests/([0-9a-f]{32})/detections/([0-9a-f]{16})/(?:partial/)?([0-9a-f]{16})\.json"
)
"""Key of a detection manifest: video_id, detector_fp, digest of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionPart:
    """What one detector found in one segment."""

    segment_id: str
    """The segment that was looked through."""
    part: ObjectRef
    """Its detections part."""
    num_frames: int
    """Frames of the segment."""
    num_detections: int
    """Rows of the part."""
    num_lost: int = 0
    """Frames of the segment that could not be decoded, and that nothing is known of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionManifest:
    """What one detector found in a video."""

    detector_fp: str
    """Over the detector and the codec whose features it read, 16 hex digits."""
    detector: str
    """Name of the detector."""
    video_id: str
    """32 hex digits."""
    run_fp: str
    """Of the compression that was looked through, 16 hex digits."""
    score_floor: float
    """Objects with a lower score were not stored."""
    parts: tuple[DetectionPart, ...]
    """One a segment; by segment id once committed."""
    has_masks: bool = False
    """Whether the parts have masks beside boxes."""

    @property
    def is_partial(self) -> bool:
        """Whether some frames of its segments were not looked through."""
        return any(part.num_lost for part in self.parts)

    @property
    def key(self) -> str:
        """Its key in the store."""
        return self._key_of(self.to_document())

    def to_document(self) -> bytes:
        """Return it as it is stored."""
        parts = sorted(self.parts, key=lambda part: part.segment_id)
        body = {
            "detector_fp": self.detector_fp,
            "detector": self.detector,
            "video_id": self.video_id,
            "run_fp": self.run_fp,
            "score_floor": self.score_floor,
            "parts": [_part_members(part) for part in parts],
            **({"has_masks": True} if self.has_masks else {}),
        }
        return seal(body, kind=DETECTIONS_FORMAT, version=DETECTIONS_VERSION)

    def check_key(self, key: str, payload: bytes) -> None:
        """Check that a document lies where it must; it may hold more members than this class.

        Raises:
            DamagedError: It does not.
        """
        if self._key_of(payload) != key:
            raise DamagedError(f"{key}: holds the manifest of {self._key_of(payload)}")

    def _key_of(self, document: bytes) -> str:
        digest = hashlib.sha256(document).hexdigest()[:16]
        folder = f"manifests/{self.video_id}/detections/{self.detector_fp}"
        return f"{folder}/{PARTIAL_FOLDER if self.is_partial else ''}{digest}.json"


def detections_key(detector_fp: str, segment_id: str) -> str:
    """Return the key of a detections part."""
    return f"detections/{detector_fp}/{segment_id}.parquet"


def write_detections(
    store: Store, detector_fp: str, segment_id: str, table: pa.Table, *, num_frames: int, num_lost: int = 0
) -> DetectionPart:
    """Store what was found in a segment, or take what another run found with the same detector as it is.

    Args:
        store: The vault.
        detector_fp: Over the detector and the codec.
        segment_id: The segment that was looked through.
        table: Rows of `DETECTIONS_SCHEMA`, or of `MASKED_DETECTIONS_SCHEMA`.
        num_frames: Frames of the segment.
        num_lost: Frames of it that could not be decoded.

    Raises:
        ValueError: The table has another schema, impossible values, or rows of frames that the segment has not.
        DamagedError: What lies under the key is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    if table.schema not in (DETECTIONS_SCHEMA, MASKED_DETECTIONS_SCHEMA):
        raise ValueError(f"detections must have the schema\n{DETECTIONS_SCHEMA}\ngot\n{table.schema}")
    if fault := find_fault(table):
        raise ValueError(f"detections of segment {segment_id}: {fault}")
    if not has_frames_below(table, num_frames):
        raise ValueError(f"frame numbers of segment {segment_id} must be 0 to {num_frames - 1}")
    key, payload = detections_key(detector_fp, segment_id), detections_to_parquet(table)
    if num_lost:
        key = partial_key(key, payload)
    try:
        ref = store.create(key, payload)
    except AlreadyExistsError:
        read = read_detections if table.schema == DETECTIONS_SCHEMA else read_masked_detections
        stored = _read_part(store, key, segment_id=segment_id, num_frames=num_frames, read=read)
        return replace(stored, num_lost=num_lost)
    return DetectionPart(
        segment_id=segment_id, part=ref, num_frames=num_frames, num_detections=table.num_rows, num_lost=num_lost
    )


def recover_detections(store: Store, detector_fp: str, segment_id: str, *, num_frames: int) -> DetectionPart | None:
    """Return what is stored of a segment's detections, whether or not a manifest names it; None if nothing is.

    Raises:
        DamagedError: What lies under the key is damaged; names the key.
        StoreUnavailableError: The store can't be read.
    """
    try:
        key = detections_key(detector_fp, segment_id)
        return _read_part(store, key, segment_id=segment_id, num_frames=num_frames, read=read_detections)
    except NotFoundError:
        return None


def commit_detections(store: Store, manifest: DetectionManifest) -> str:
    """Make detections visible, together with those that are visible already; the same manifest again changes nothing.

    Returns:
        The key of the manifest.

    Raises:
        StoreUnavailableError: The store can't be written.
    """
    try:
        return store.create(manifest.key, manifest.to_document()).key
    except AlreadyExistsError:
        return manifest.key


def load_detection_manifests(store: Store) -> list[DetectionManifest]:
    """Return all detections that are visible: one manifest a detector, video and run, with the parts of all of theirs.

    Raises:
        DamagedError: A manifest is damaged, or says other than another one whether there are masks; names the key.
        StoreUnavailableError: The store can't be read.
    """
    keys = [key for key in store.list("manifests") if DETECTIONS_MANIFEST_KEY.fullmatch(key)]
    merged: dict[tuple[str, str, str], DetectionManifest] = {}
    for manifest in store.map(lambda key: read_detection_manifest(store, key), keys):
        group = (manifest.detector_fp, manifest.video_id, manifest.run_fp)
        merged[group] = _merge(merged[group], manifest) if group in merged else manifest
    return list(merged.values())


def read_detection_manifest(store: Store, key: str) -> DetectionManifest:
    """Read one manifest.

    Raises:
        DamagedError: It is damaged, or not what its key says.
        StoreUnavailableError: The store can't be read.
    """
    payload = store.read(key)
    members = unseal(f"{store.url}: {key}", payload)
    members.check_kind(DETECTIONS_FORMAT, version=DETECTIONS_VERSION)
    manifest = DetectionManifest(
        detector_fp=members.hexadecimal("detector_fp", length=16),
        detector=members.text("detector"),
        video_id=members.hexadecimal("video_id", length=32),
        run_fp=members.hexadecimal("run_fp", length=16),
        score_floor=members.number("score_floor"),
        parts=tuple(_read_part_members(item) for item in members.items("parts")),
        has_masks=members.flag("has_masks"),
    )
    manifest.check_key(key, payload)
    _check_parts(members.key, manifest.parts)
    return manifest


def has_frames_below(table: pa.Table, num_frames: int) -> bool:
    """Say whether all rows are of frames of a segment with so many."""
    if table.num_rows == 0:
        return True
    extremes = pc.min_max(table["frame_number"]).as_py()
    return bool(0 <= extremes["min"] <= extremes["max"] < num_frames)


def _merge(first: DetectionManifest, second: DetectionManifest) -> DetectionManifest:
    if first.has_masks != second.has_masks:
        group = f"detector {second.detector_fp}, run {second.run_fp}"
        raise DamagedError(f"{second.key}: all manifests of {group} must agree whether there are masks")
    parts = unite_parts(first.parts, second.parts)
    return DetectionManifest(
        detector_fp=first.detector_fp,
        detector=first.detector,
        video_id=first.video_id,
        run_fp=first.run_fp,
        score_floor=max(first.score_floor, second.score_floor),
        parts=parts,
        has_masks=first.has_masks,
    )


def _read_part(
    store: Store, key: str, *, segment_id: str, num_frames: int, read: Callable[[str, bytes], pa.Table]
) -> DetectionPart:
    payload = store.read(key)
    table = read(f"{store.url}: {key}", payload)
    if not has_frames_below(table, num_frames):
        raise DamagedError(f"{store.url}: {key} has rows of frames that segment {segment_id} has not")
    return DetectionPart(
        segment_id=segment_id, part=ObjectRef.of(key, payload), num_frames=num_frames, num_detections=table.num_rows
    )


def _check_parts(key: str, parts: Sequence[DetectionPart]) -> None:
    names = [part.segment_id for part in parts]
    if names != sorted(set(names)):
        raise DamagedError(f"{key}: parts must be sorted by segment_id, and one a segment")


def _part_members(part: DetectionPart) -> dict[str, object]:
    return {
        "segment_id": part.segment_id,
        "part": ref_members(part.part),
        "num_frames": part.num_frames,
        "num_detections": part.num_detections,
        **({"num_lost": part.num_lost} if part.num_lost else {}),
    }


def _read_part_members(members: Fields) -> DetectionPart:
    return DetectionPart(
        segment_id=members.hexadecimal("segment_id", length=32),
        part=members.object_ref("part"),
        num_frames=members.integer("num_frames", minimum=1, maximum=MOST_FRAMES),
        num_detections=members.integer("num_detections", maximum=LARGEST_COUNT),
        num_lost=members.integer_or_none("num_lost") or 0,
    )
