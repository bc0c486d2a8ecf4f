"""A vault's content as Arrow tables, which the views of `query.py` join.

Each function reads what it needs, checked, and returns one table. Videos are numbered (`video_number`) as in the list
of manifests, so that joins are cheap.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json

from framevault.storage.detections import DetectionManifest, DetectionPart, load_detection_manifests
from framevault.storage.errors import DamagedError
from framevault.storage.frame_facts import FACT_KINDS, load_fact_manifests
from framevault.storage.index import MissingSegment, SegmentRecord, VideoManifest, load_manifests
from framevault.storage.names import load_names
from framevault.storage.quarantine import Failure, load_failures, look_id
from framevault.storage.schema import DETECTIONS_SCHEMA, FRAMES_SCHEMA, read_detections, read_frames
from framevault.storage.store import ObjectRef, Store

VIDEOS_SCHEMA = pa.schema(
    [
        ("video_number", pa.int32()),
        ("video", pa.string()),
        ("names", pa.list_(pa.string())),
        ("video_id", pa.string()),
        ("run_fp", pa.string()),
        ("source_url", pa.string()),
        ("container", pa.string()),
        ("source_codec", pa.string()),
        ("codec", pa.string()),
        ("bitstream_version", pa.int32()),
        ("quality", pa.int32()),
        ("slices", pa.int32()),
        ("face_slices", pa.int32()),
        ("sampling", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("duration_s", pa.float64()),
        ("num_frames", pa.int64()),
        ("num_missing_frames", pa.int64()),
        ("num_segments", pa.int32()),
        ("num_missing_segments", pa.int32()),
        ("stored_bytes", pa.int64()),
        ("source_bytes", pa.int64()),
        ("is_complete", pa.bool_()),
        ("created_at", pa.string()),
        ("start_pts", pa.int64()),
        ("time_base_numerator", pa.int64()),
        ("time_base_denominator", pa.int64()),
    ]
)
"""One row a manifest."""

NAMES_SCHEMA = pa.schema([("video", pa.string()), ("video_id", pa.string())])
"""One row a name."""

SEGMENTS_SCHEMA = pa.schema(
    [
        ("video_number", pa.int32()),
        ("segment_id", pa.string()),
        ("segment_number", pa.int32()),
        ("first_frame", pa.int64()),
        ("first_pts", pa.int64()),
        ("last_pts", pa.int64()),
        ("num_frames", pa.int64()),
        ("payload_bytes", pa.int64()),
        ("pack_bytes", pa.int64()),
        ("frames_bytes", pa.int64()),
    ]
)
"""One row a stored segment; missing ones are counted in `segment_number` and `first_frame`."""

DETECTION_ROWS_SCHEMA = pa.schema(
    [
        ("video_number", pa.int32()),
        ("segment_number", pa.int32()),
        ("detector_number", pa.int32()),
        *DETECTIONS_SCHEMA.set(2, pa.field("label", pa.string())),
    ]
)
"""One row a stored object."""

DETECTORS_SCHEMA = pa.schema([("detector_number", pa.int32()), ("detector", pa.string()), ("detector_fp", pa.string())])
"""One row a detector."""

FRAME_ROWS_SCHEMA = pa.schema([("video_number", pa.int32()), ("segment_number", pa.int32()), *FRAMES_SCHEMA])
"""One row a stored frame."""

FAILURES_SCHEMA = pa.schema(
    [
        ("subject_id", pa.string()),
        ("video", pa.string()),
        ("video_id", pa.string()),
        ("source_url", pa.string()),
        ("category", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
        ("first_pts", pa.int64()),
        ("last_pts", pa.int64()),
        ("num_frames", pa.int64()),
        ("command", pa.string()),
        ("created_at", pa.string()),
        ("is_resolved", pa.bool_()),
    ]
)
"""One row a subject in quarantine: its latest failure, and whether it was stored, or looked through, after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSegment:
    """A stored segment and its place in its video."""

    video_number: int
    """Position of the manifest."""
    segment_number: int
    """Position among the video's segments, stored and missing."""
    first_frame: int
    """Position of its first frame among the video's frames, stored and missing."""
    record: SegmentRecord
    """The segment."""


@dataclass
class VaultTables:
    """One state of a vault: manifests are read once, at the first table that needs them."""

    store: Store
    """The vault."""

    @cached_property
    def manifests(self) -> list[VideoManifest]:
        """All that is visible."""
        return load_manifests(self.store)

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """All names of every visible video, its manifests' own included."""
        stored = load_names(self.store)
        names = {manifest.video_id: set(stored.get(manifest.video_id, ())) for manifest in self.manifests}
        for manifest in self.manifests:
            names[manifest.video_id].add(manifest.name)
        return {video_id: tuple(sorted(map(_shown, found))) for video_id, found in names.items()}

    @cached_property
    def placed(self) -> list[PlacedSegment]:
        """All stored segments."""
        return [place for number, manifest in enumerate(self.manifests) for place in _places(number, manifest)]

    @cached_property
    def detections(self) -> list[DetectionManifest]:
        """All detections that are visible."""
        return sorted(load_detection_manifests(self.store), key=_detector_of)

    @cached_property
    def detectors(self) -> list[tuple[str, str]]:
        """Fingerprint and name of all detectors."""
        return sorted({_detector_of(manifest) for manifest in self.detections})

    def video_rows(self) -> pa.Table:
        """Return the rows of `VIDEOS_SCHEMA`."""
        rows = [
            _video_row(number, manifest, names=self.names[manifest.video_id])
            for number, manifest in enumerate(self.manifests)
        ]
        return from_rows(rows, VIDEOS_SCHEMA)

    def name_rows(self) -> pa.Table:
        """Return the rows of `NAMES_SCHEMA`."""
        rows = [{"video": name, "video_id": video_id} for video_id, names in self.names.items() for name in names]
        return from_rows(rows, NAMES_SCHEMA)

    def segment_rows(self) -> pa.Table:
        """Return the rows of `SEGMENTS_SCHEMA`."""
        rows = [
            {
                "video_number": place.video_number,
                "segment_id": place.record.segment_id,
                "segment_number": place.segment_number,
                "first_frame": place.first_frame,
                "first_pts": place.record.first_pts,
                "last_pts": place.record.last_pts,
                "num_frames": place.record.num_frames,
                "payload_bytes": place.record.payload_bytes,
                "pack_bytes": place.record.pack.size_bytes,
                "frames_bytes": place.record.frames.size_bytes,
            }
            for place in self.placed
        ]
        return from_rows(rows, SEGMENTS_SCHEMA)

    def frame_rows(self) -> pa.Table:
        """Read all frames parts and return the rows of `FRAME_ROWS_SCHEMA`."""
        refs = [place.record.frames for place in self.placed]
        parts = []
        for place, part in zip(self.placed, self.read_parts(refs, read_frames), strict=True):
            if part.num_rows != place.record.num_frames:
                raise DamagedError(
                    f"{place.record.frames.key} must have {place.record.num_frames} rows, has {part.num_rows}"
                )
            parts.append(with_numbers(part, FRAME_ROWS_SCHEMA, [place.video_number, place.segment_number]))
        return concatenate(parts, FRAME_ROWS_SCHEMA)

    def detection_rows(self) -> pa.Table:
        """Read all detections parts and return the rows of `DETECTION_ROWS_SCHEMA`."""
        found = list(self.visible_detections())
        refs = [part.part for _, _, part in found]
        parts = []
        for (place, manifest, _), part in zip(found, self.read_parts(refs, read_detections), strict=True):
            numbers = [place.video_number, place.segment_number, self.detectors.index(_detector_of(manifest))]
            parts.append(with_numbers(part, DETECTION_ROWS_SCHEMA, numbers))
        return concatenate(parts, DETECTION_ROWS_SCHEMA)

    def detector_rows(self) -> pa.Table:
        """Return the rows of `DETECTORS_SCHEMA`."""
        rows = [
            {"detector_number": number, "detector": name, "detector_fp": fingerprint}
            for number, (fingerprint, name) in enumerate(self.detectors)
        ]
        return from_rows(rows, DETECTORS_SCHEMA)

    def failure_rows(self) -> pa.Table:
        """Return the rows of `FAILURES_SCHEMA`."""
        failures = load_failures(self.store)
        stored = {place.record.segment_id for place in self.placed} | set(self.names)
        if not stored.issuperset(failure.subject_id for failure in failures):
            stored |= self._whole_looks()
        return from_rows([_failure_row(failure, stored=stored) for failure in failures], FAILURES_SCHEMA)

    def _whole_looks(self) -> set[str]:
        """Return the subjects of all looks through segments that lack no frame."""
        looks = {
            look_id("detections", manifest.detector_fp, part.segment_id)
            for manifest in self.detections
            for part in manifest.parts
            if not part.num_lost
        }
        for kind in FACT_KINDS:
            for facts in load_fact_manifests(self.store, kind):
                looks |= {look_id(kind, facts.model_fp, each.segment_id) for each in facts.parts if not each.num_lost}
        return looks

    def visible_detections(self) -> Iterator[tuple[PlacedSegment, DetectionManifest, DetectionPart]]:
        """Give the detections of segments that are visible themselves, in the order of videos and frames."""
        parts: dict[tuple[str, str, str], list[tuple[DetectionManifest, DetectionPart]]] = {}
        for manifest in self.detections:
            for part in manifest.parts:
                parts.setdefault((manifest.video_id, manifest.run_fp, part.segment_id), []).append((manifest, part))
        for place in self.placed:
            video = self.manifests[place.video_number]
            for manifest, part in parts.get((video.video_id, video.run_fp, place.record.segment_id), ()):
                yield place, manifest, part

    def read_parts(self, refs: Sequence[ObjectRef], parse: Callable[[str, bytes], pa.Table]) -> Iterator[pa.Table]:
        """Read parts, checked, several at a time; in order."""
        return self.store.map(lambda ref: parse(ref.key, self.store.read_checked(ref)), refs)


def _all_segments(manifest: VideoManifest) -> list[SegmentRecord | MissingSegment]:
    """Return stored and missing segments in the order of their frames."""
    segments: list[SegmentRecord | MissingSegment] = [*manifest.segments, *manifest.missing]
    return sorted(segments, key=lambda segment: (segment.first_pts, segment.segment_id))


def _places(video_number: int, manifest: VideoManifest) -> Iterator[PlacedSegment]:
    first_frame = 0
    for number, segment in enumerate(_all_segments(manifest)):
        if isinstance(segment, SegmentRecord):
            yield PlacedSegment(
                video_number=video_number, segment_number=number, first_frame=first_frame, record=segment
            )
        first_frame += segment.num_frames


def _video_row(number: int, manifest: VideoManifest, *, names: Sequence[str]) -> dict[str, object]:
    computed = {
        "video_number": number,
        "video": _shown(manifest.name),
        "source_url": _shown(manifest.source_url),
        "names": list(names),
        "num_missing_frames": sum(segment.num_frames for segment in manifest.missing),
        "num_segments": len(manifest.segments),
        "num_missing_segments": len(manifest.missing),
        "start_pts": min((segment.first_pts for segment in _all_segments(manifest)), default=0),
        "time_base_numerator": manifest.time_base[0],
        "time_base_denominator": manifest.time_base[1],
    }
    return {name: computed[name] if name in computed else getattr(manifest, name) for name in VIDEOS_SCHEMA.names}


def _failure_row(failure: Failure, *, stored: set[str]) -> dict[str, object]:
    computed = {
        "video": _shown(failure.name),
        "source_url": _shown(failure.source_url),
        "reason": _shown(failure.reason),
        "command": _shown(failure.command),
        "is_resolved": failure.subject_id in stored,
    }
    return {name: computed[name] if name in computed else getattr(failure, name) for name in FAILURES_SCHEMA.names}


def _shown(text: str) -> str:
    """Return a name as text that Arrow can hold; bytes of a file name that are no UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _detector_of(manifest: DetectionManifest) -> tuple[str, str]:
    return manifest.detector_fp, manifest.detector


def from_rows(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Make a table. By way of JSON: `pyarrow.array` would import pandas, which takes longer than most queries."""
    if not rows:
        return schema.empty_table()
    lines = "\n".join(map(json.dumps, rows)).encode("ascii")
    return read_json(
        io.BytesIO(lines),
        read_options=ReadOptions(block_size=len(lines)),
        parse_options=ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )


def with_numbers(part: pa.Table, schema: pa.Schema, numbers: Sequence[int]) -> pa.Table:
    """Put columns of one int32 each before a part's own; from buffers, for the same reason as above."""
    columns = []
    for number in numbers:
        values = np.full(part.num_rows, number, dtype=np.int32)
        columns.append(pa.Array.from_buffers(pa.int32(), part.num_rows, [None, pa.py_buffer(values)]))
    own = [part[name].cast(schema.field(name).type) for name in schema.names[len(numbers) :]]
    return pa.Table.from_arrays([*columns, *own], schema=schema)


def concatenate(parts: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of all parts."""
    return pa.concat_tables(parts) if parts else schema.empty_table()
