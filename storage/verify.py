"""Looks at everything in a vault: every object, checksum, stream and row, against the manifests.

Nothing stops it: whatever is wrong becomes a finding, and the next object follows. Only a store that can't be read at
all ends it with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from framevault.storage.checkpoints import CHECKPOINT_KEY, read_checkpoint
from framevault.storage.detections import (
    DETECTIONS_MANIFEST_KEY,
    DetectionManifest,
    DetectionPart,
    has_frames_below,
    read_detection_manifest,
)
from framevault.storage.directions import DIRECTIONS_KEY, read_directions
from framevault.storage.errors import DamagedError, NotFoundError, UnsupportedError, VaultError
from framevault.storage.frame_facts import (
    FACT_KINDS,
    FACTS_MANIFEST_KEY,
    FactManifest,
    FactPart,
    read_fact_manifest,
    read_facts,
)
from framevault.storage.index import MANIFEST_KEY, SegmentRecord, VideoManifest, latest_manifest_keys, read_manifest
from framevault.storage.names import NAME_KEY, read_name
from framevault.storage.packs import Pack
from framevault.storage.quarantine import FAILURE_KEY, read_failure
from framevault.storage.rle import RleError, check_mask
from framevault.storage.schema import column_values, read_detections, read_frames, read_masked_detections
from framevault.storage.segment_parts import frames_key, frames_of_pack, pack_key, parse_stored_pack
from framevault.storage.store import ObjectRef, Store
from framevault.storage.tombstones import TOMBSTONE_KEY, check_tombstone
from framevault.storage.vault import VAULT_KEY, check_vault_document

FindingKind = Literal["damaged", "missing", "unsupported", "orphan", "leftover"]
"""What is wrong: `orphan` and `leftover` are information, the others errors. `unsupported`: another version's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a vault should not have, or should have."""

    key: str
    """The object's."""
    kind: FindingKind
    """Damaged, missing, another version's; or named by no manifest (orphan), left by a killed writer (leftover)."""
    problem: str
    """What is wrong, in words; names the key."""

    @property
    def is_error(self) -> bool:
        """Whether something is lost, rather than just superfluous."""
        return self.kind in {"damaged", "missing", "unsupported"}


@dataclass(slots=True)
class VerifyCounts:
    """What was looked at so far."""

    num_videos: int = 0
    """Videos and runs that are visible."""
    num_segments: int = 0
    """Segments that they name."""
    num_frames: int = 0
    """Frames whose stream was checked."""
    num_detections: int = 0
    """Rows of detections that were checked."""
    num_facts: int = 0
    """Rows of labels, vectors and faces that were checked."""
    num_checkpoints: int = 0
    """Checkpoints that are what their keys say."""
    num_directions: int = 0
    """Sets of directions that are what their keys say."""
    num_objects: int = 0
    """Objects that were read."""
    num_bytes: int = 0
    """Their bytes."""
    num_errors: int = 0
    """Findings that are errors."""
    num_orphans: int = 0
    """Sound objects that no manifest names: what a killed job has written, and a rerun will use."""
    num_leftovers: int = 0
    """Unfinished objects."""


def verify_vault(store: Store, *, counts: VerifyCounts | None = None) -> Iterator[Finding]:
    """Check a whole vault; give what is wrong as it is found.

    Args:
        store: The vault.
        counts: Is brought up to date while findings are given; for progress and a summary.

    Raises:
        StoreUnavailableError: The store can't be read.
    """
    verification = _Verification(store, VerifyCounts() if counts is None else counts)
    return verification.run()


_DocumentT = TypeVar("_DocumentT")


class _Verification:
    """One pass over a vault."""

    def __init__(self, store: Store, counts: VerifyCounts) -> None:
        self._store = store
        self._counts = counts
        self._unnamed: set[str] = set()
        self._findings: list[Finding] = []
        self._manifests: list[VideoManifest] = []
        self._detections: dict[tuple[str, str], list[DetectionManifest]] = {}
        self._facts: dict[tuple[str, str], list[FactManifest]] = {}

    def run(self) -> Iterator[Finding]:
        """Give all findings."""
        self._unnamed = set(self._store.list())
        self._check_documents()
        self._check_checkpoints()
        self._check_directions()
        yield from self._take_findings()
        for manifest in self._manifests:
            self._counts.num_videos += bool(manifest.segments or manifest.missing)
            pts: dict[str, NDArray[np.int64]] = {}
            for record in manifest.segments:
                self._try(record.pack.key, partial(self._check_segment, manifest, record, pts))
                yield from self._take_findings()
            segment_ids = {record.segment_id for record in manifest.segments}
            all_found = self._detections.pop((manifest.video_id, manifest.run_fp), [])
            self._check_agreement(all_found)
            for found in all_found:
                for part in found.parts:
                    # Of a segment that the manifest names no more, it means nothing.
                    if part.segment_id in segment_ids:
                        self._try(part.part.key, partial(self._check_detections, manifest, found, part, pts))
                yield from self._take_findings()
            for facts in self._facts.pop((manifest.video_id, manifest.run_fp), []):
                for fact_part in facts.parts:
                    if fact_part.segment_id in segment_ids:
                        self._try(fact_part.part.key, partial(self._check_facts, facts, fact_part, pts))
                yield from self._take_findings()
        self._check_unnamed()
        yield from self._take_findings()

    def _check_documents(self) -> None:
        """Check all documents, and keep the manifests that count."""
        keys = sorted(self._unnamed)
        if VAULT_KEY not in keys:
            self._report(VAULT_KEY, "missing", f"{VAULT_KEY} is missing")
        latest = set(latest_manifest_keys(keys))
        for key in keys:
            if MANIFEST_KEY.fullmatch(key):
                manifest = self._check_document(key, read_manifest)
                self._manifests += [manifest] if manifest is not None and key in latest else []
            elif DETECTIONS_MANIFEST_KEY.fullmatch(key):
                found = self._check_document(key, read_detection_manifest)
                if found is not None:
                    self._detections.setdefault((found.video_id, found.run_fp), []).append(found)
            elif FACTS_MANIFEST_KEY.fullmatch(key):
                facts = self._check_document(key, read_fact_manifest)
                if facts is not None:
                    self._facts.setdefault((facts.video_id, facts.run_fp), []).append(facts)
            elif NAME_KEY.fullmatch(key):
                self._check_document(key, read_name)
            elif FAILURE_KEY.fullmatch(key):
                self._check_document(key, read_failure)
            elif TOMBSTONE_KEY.fullmatch(key):
                self._check_document(key, check_tombstone)
            elif key == VAULT_KEY:
                self._check_document(key, _read_vault_document)

    def _check_checkpoints(self) -> None:
        """Check that each checkpoint is what its key says."""
        for match in filter(None, map(CHECKPOINT_KEY.fullmatch, sorted(self._unnamed))):
            self._try(match[0], partial(self._check_checkpoint, match[0], match[1]))

    def _check_checkpoint(self, key: str, digest: str) -> None:
        self._unnamed.discard(key)
        self._counts.num_objects += 1
        self._counts.num_bytes += len(read_checkpoint(self._store, digest))
        self._counts.num_checkpoints += 1

    def _check_directions(self) -> None:
        """Check that each set of directions is what its key says."""
        for key in filter(DIRECTIONS_KEY.fullmatch, sorted(self._unnamed)):
            self._try(key, partial(self._check_set_of_directions, key))

    def _check_set_of_directions(self, key: str) -> None:
        self._unnamed.discard(key)
        self._counts.num_objects += 1
        self._counts.num_bytes += len(read_directions(self._store, key))
        self._counts.num_directions += 1

    def _check_document(self, key: str, read: Callable[[Store, str], _DocumentT]) -> _DocumentT | None:
        self._unnamed.discard(key)
        self._counts.num_objects += 1
        return self._try(key, partial(read, self._store, key))

    def _check_segment(self, manifest: VideoManifest, record: SegmentRecord, pts: dict[str, NDArray[np.int64]]) -> None:
        """Check pack and frames part, against each other and the manifest; note the frames' pts."""
        self._counts.num_segments += 1
        rows = self._try(record.frames.key, partial(self._read_frames, record.frames))
        pack = parse_stored_pack(self._store, record.pack.key, self._read(record.pack))
        self._counts.num_frames += len(pack.frames)
        pts[record.segment_id] = np.array([frame.pts for frame in pack.frames], dtype=np.int64)
        stored = SegmentRecord.of_pack(pack, pack_ref=record.pack, frames_ref=record.frames)
        if stored != record:
            raise DamagedError(f"{record.pack.key} holds {stored}, {manifest.key} says {record}")
        header = pack.header
        said = (manifest.codec, manifest.bitstream_version, manifest.codec_fingerprint, manifest.time_base)
        if (header.codec, header.bitstream_version, header.codec_fingerprint, header.time_base) != said:
            raise DamagedError(f"{record.pack.key} is of another codec or time base than {manifest.key} says")
        if header.settings.get("slices") != manifest.slices:
            raise DamagedError(f"{record.pack.key} has not the {manifest.slices} slices that {manifest.key} says")
        faces = header.settings.get("faces")
        if (faces.get("slices") if isinstance(faces, dict) else None) != manifest.face_slices:
            raise DamagedError(
                f"{record.pack.key} has not the {manifest.face_slices} slices of faces that {manifest.key} says"
            )
        if rows is not None:
            self._try(record.frames.key, partial(_check_frames, record.frames.key, rows, pack))

    def _read_frames(self, ref: ObjectRef) -> pa.Table:
        return read_frames(ref.key, self._read(ref))

    def _check_detections(
        self, video: VideoManifest, manifest: DetectionManifest, part: DetectionPart, pts: dict[str, NDArray[np.int64]]
    ) -> None:
        read = read_masked_detections if manifest.has_masks else read_detections
        rows = read(part.part.key, self._read(part.part))
        self._counts.num_detections += rows.num_rows
        if rows.num_rows != part.num_detections:
            raise DamagedError(f"{part.part.key} has {rows.num_rows} rows, {manifest.key} says {part.num_detections}")
        _check_frames_of(part, rows, pts.get(part.segment_id))
        if manifest.has_masks:
            _check_masks(part.part.key, rows, height=video.height, width=video.width)

    def _check_agreement(self, manifests: list[DetectionManifest]) -> None:
        """Check that those of one detector, which count together, say the same about masks."""
        first_of: dict[str, DetectionManifest] = {}
        for manifest in manifests:
            first = first_of.setdefault(manifest.detector_fp, manifest)
            if manifest.has_masks != first.has_masks:
                problem = f"{manifest.key} and {first.key} must agree whether there are masks"
                self._report(manifest.key, "damaged", problem)

    def _check_facts(self, manifest: FactManifest, part: FactPart, pts: dict[str, NDArray[np.int64]]) -> None:
        rows = read_facts(manifest.kind, part.part.key, self._read(part.part), num_frames=part.num_frames)
        self._counts.num_facts += rows.num_rows
        if rows.num_rows != part.num_rows:
            raise DamagedError(f"{part.part.key} has {rows.num_rows} rows, {manifest.key} says {part.num_rows}")
        _check_frames_of(part, rows, pts.get(part.segment_id))

    def _check_unnamed(self) -> None:
        """Check what no manifest names. A rerun takes such parts as they are, so damage in them is an error too."""
        unseen: dict[tuple[str, str], list[DetectionManifest | FactManifest]] = {}
        for of_kind in (self._detections, self._facts):
            for run, manifests in of_kind.items():
                unseen.setdefault(run, []).extend(manifests)
        for (video_id, run_fp), lost in unseen.items():
            for manifest in lost:
                problem = f"{manifest.key} is about run {run_fp} of video {video_id}, which has no readable manifest"
                self._report(manifest.key, "missing", problem)
                self._unnamed -= {part.part.key for part in manifest.parts}
        for key in sorted(self._unnamed):
            if self._try(key, partial(self._check_orphan, key)):
                self._report(key, "orphan", f"no manifest names {key}")
        for key in self._store.list_leftovers():
            self._report(key, "leftover", f"{key} is unfinished: its writer is at work, or was killed")

    def _check_orphan(self, key: str) -> bool:
        """Read a part that no manifest names; True if it is sound, or no part at all."""
        self._counts.num_objects += 1
        payload = self._store.read(key)
        self._counts.num_bytes += len(payload)
        folder = key.partition("/")[0]
        if folder == "packs":
            parse_stored_pack(self._store, key, payload)
        elif folder == "frames":
            self._check_orphan_frames(key, read_frames(key, payload))
        elif folder == "detections":
            read_detections(key, payload)
        for kind in FACT_KINDS:
            if folder == kind:
                read_facts(kind, key, payload)
        return True

    def _check_orphan_frames(self, key: str, rows: pa.Table) -> None:
        segment_pack = pack_key(key.removeprefix("frames/").removesuffix(".parquet"))
        if not self._store.exists(segment_pack):
            return
        pack = parse_stored_pack(self._store, segment_pack, self._store.read(segment_pack))
        _check_frames(key, rows, pack)

    def _read(self, ref: ObjectRef) -> bytes:
        self._unnamed.discard(ref.key)
        payload = self._store.read_checked(ref)
        self._counts.num_objects += 1
        self._counts.num_bytes += len(payload)
        return payload

    def _try(self, key: str, check: Callable[[], _DocumentT]) -> _DocumentT | None:
        """Run a check; what it raises about stored objects becomes a finding, and None is returned."""
        try:
            return check()
        except NotFoundError as error:
            self._report(key, "missing", str(error))
        except UnsupportedError as error:
            self._report(key, "unsupported", str(error))
        except (DamagedError, VaultError) as error:
            self._report(key, "damaged", str(error))
        return None

    def _report(self, key: str, kind: FindingKind, problem: str) -> None:
        self._findings.append(Finding(key=key, kind=kind, problem=problem))

    def _take_findings(self) -> Iterator[Finding]:
        findings, self._findings = self._findings, []
        for finding in findings:
            self._counts.num_errors += finding.is_error
            self._counts.num_orphans += finding.kind == "orphan"
            self._counts.num_leftovers += finding.kind == "leftover"
            yield finding


def _check_frames(key: str, rows: pa.Table, pack: Pack) -> None:
    segment_id = pack.header.segment_id
    if key != frames_key(segment_id) or not rows.equals(frames_of_pack(pack)):
        raise DamagedError(f"{key} has other rows than the table of {pack_key(segment_id)}")


def _check_frames_of(part: DetectionPart | FactPart, rows: pa.Table, pts: NDArray[np.int64] | None) -> None:
    """Check that rows are about the frames of their segment's pack."""
    if pts is None:
        raise DamagedError(f"{part.part.key} is of segment {part.segment_id}, which can't be read or is not visible")
    if part.num_frames != len(pts) or not has_frames_below(rows, part.num_frames):
        raise DamagedError(f"{part.part.key} must be about {len(pts)} frames")
    if not np.array_equal(column_values(rows, "pts"), pts[column_values(rows, "frame_number")]):
        raise DamagedError(f"{part.part.key} has other pts than {pack_key(part.segment_id)}")


def _check_masks(key: str, rows: pa.Table, *, height: int, width: int) -> None:
    """Check that masks are as large as the video's frames."""
    for number, counts in enumerate(rows["mask_rle"].to_pylist()):
        try:
            check_mask(counts, height=height, width=width)
        except RleError as error:
            raise DamagedError(f"{key}: mask of row {number}: {error}") from error


def _read_vault_document(store: Store, key: str) -> None:
    check_vault_document(f"{store.url}: {key}", store.read(key))
