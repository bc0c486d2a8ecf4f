"""What golden vaults are made of: ids, frames, headers and manifests, and the notes of what went in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from framevault.codecs.spec import CodecSpec, codec_fingerprint, weights_digest
from framevault.storage.detections import DetectionManifest, commit_detections, write_detections
from framevault.storage.index import MissingSegment, SegmentRecord, VideoManifest, write_segment
from framevault.storage.packs import PackHeader, PackWriter
from framevault.storage.quarantine import Failure, write_failure
from framevault.storage.schema import detections_table
from framevault.storage.store import Store

FOLDER = Path(__file__).parent
"""Where golden vaults lie."""

DICM_WEIGHTS = FOLDER / "dicm.safetensors"
"""Checkpoint of the golden dicm vaults."""

MOTION_WEIGHTS = FOLDER / "dicm_motion.safetensors"
"""Checkpoint of the golden vaults with moved frames: the same with maps."""

HSC_WEIGHTS = FOLDER / "hsc.safetensors"
"""Checkpoint of the golden hsc vault."""

WRITTEN_AT = "2026-11-21T17:00:00Z"
"""Time in all documents."""

LABELS = ("person", "car", "Straßenlaterne")
"""Of a detector that there never was."""

TIME_BASE = (1, 12800)
"""Seconds a tick."""


@dataclass(kw_only=True)
class Content:
    """What a golden vault holds; becomes the JSON beside it."""

    videos: list[dict[str, object]] = field(default_factory=list)
    """Each with its manifest's facts and its segments with their frames."""
    detections: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Rows, by segment_id."""
    facts: dict[str, dict[str, list[dict[str, object]]]] = field(default_factory=dict)
    """Rows by kind (masks, labels, vectors) and segment_id; JSON older than this has none."""
    outside: dict[str, list[int]] = field(default_factory=dict)
    """Frames outside the codec's domain, by segment_id; JSON older than this has none."""
    faces: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Faces in streams, by segment_id; JSON older than this has none."""
    failures: dict[str, dict[str, object]] = field(default_factory=dict)
    """Members of the failure that counts, by subject_id."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file, by key."""


@dataclass(frozen=True, kw_only=True)
class GoldenFrame:
    """A frame that goes in."""

    stream: bytes
    """Its stream."""
    pts: int
    """Its time."""
    is_keyframe: bool = False
    """Of the source."""
    is_independent: bool = True
    """Of earlier streams."""
    decoded_sha256: str | None = None
    """Of what the stream decodes to: RGB bytes [H, W, 3], or int32 latents; None if no codec made it."""

    def expected(self) -> dict[str, object]:
        """Return what a reader must find."""
        return {
            "pts": self.pts,
            "size_bytes": len(self.stream),
            "is_keyframe": self.is_keyframe,
            "is_independent": self.is_independent,
            "stream_sha256": digest(self.stream),
            "decoded_sha256": self.decoded_sha256,
        }


def digest(data: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(data).hexdigest()


def golden_id(*parts: object, digits: int = 32) -> str:
    """Return hex digits that follow from some values."""
    return digest(repr(parts).encode())[:digits]


def draw_frame(number: int, *, height: int, width: int) -> NDArray[np.uint8]:
    """Draw frame `number`, RGB uint8 [height, width, 3]: slopes that drift, a block that moves, a little noise."""
    y, x = np.mgrid[:height, :width]
    frame_hwc: NDArray[np.uint8] = np.stack([3 * x + number, 2 * y + 5 * number, x + y], axis=2).astype(np.uint8)
    top, left = (3 * number) % (height - 8), (5 * number) % (width - 8)
    frame_hwc[top : top + 8, left : left + 8] = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return frame_hwc


def make_header(video: str, segment: int, *, spec: CodecSpec, height: int, width: int) -> PackHeader:
    """Return the header of a segment that was turned by 90 degrees."""
    return PackHeader(
        video_id=golden_id(video),
        segment_id=golden_id(video, segment),
        codec=spec.name,
        bitstream_version=spec.bitstream_version,
        codec_fingerprint=codec_fingerprint(spec),
        weights_digest=weights_digest(spec),
        quality=spec.quality,
        coded_height=height,
        coded_width=width,
        source_height=width,
        source_width=height,
        time_base=TIME_BASE,
        rotation_degrees=90,
        sample_aspect_ratio=(4, 3),
        colour="bt709 limited",
        sampling="all",
    )


def make_manifest(
    header: PackHeader, segments: Sequence[SegmentRecord], *, name: str, missing: Sequence[MissingSegment] = ()
) -> VideoManifest:
    """Return the manifest of a video."""
    return VideoManifest(
        video_id=header.video_id,
        run_fp=golden_id(header.codec_fingerprint, digits=16),
        name=name,
        source_url=f"/footage/{name}",
        source_bytes=123_456,
        source_version="123456-1700000000",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        source_codec="h264",
        width=header.coded_width,
        height=header.coded_height,
        time_base=header.time_base,
        fps=25,
        duration_s=0.4,
        num_source_frames=10,
        codec=header.codec,
        bitstream_version=header.bitstream_version,
        quality=header.quality,
        codec_fingerprint=header.codec_fingerprint,
        sampling=header.sampling,
        segments=tuple(segments),
        missing=tuple(missing),
        created_at=WRITTEN_AT,
    )


def make_failure(header: PackHeader, *, name: str, reason: str) -> Failure:
    """Return the failure of a segment of ten frames."""
    return Failure(
        subject_id=header.segment_id,
        video_id=header.video_id,
        name=name,
        source_url=f"/footage/{name}",
        category="killed",
        reason=reason,
        attempts=3,
        first_pts=10_000_000,
        last_pts=10_004_608,
        num_frames=10,
        command=f"framevault compress /footage/{name} /vault --retry-failed",
        created_at=WRITTEN_AT,
    )


def missing_of(failure: Failure) -> MissingSegment:
    """Return what a manifest says of a failed segment."""
    assert failure.first_pts is not None
    assert failure.last_pts is not None
    return MissingSegment(
        segment_id=failure.subject_id,
        first_pts=failure.first_pts,
        last_pts=failure.last_pts,
        num_frames=failure.num_frames,
        reason=failure.reason,
    )


def store_segment(store: Store, header: PackHeader, frames: Sequence[GoldenFrame]) -> SegmentRecord:
    """Write a segment."""
    writer = PackWriter(header)
    for frame in frames:
        writer.add(frame.stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
    return write_segment(store, writer.finish())


def note_video(content: Content, manifest: VideoManifest, *, generation: int, names: Sequence[str]) -> None:
    """Note a video; its segments follow."""
    content.videos.append(
        {
            "video_id": manifest.video_id,
            "run_fp": manifest.run_fp,
            "generation": generation,
            "codec": manifest.codec,
            "bitstream_version": manifest.bitstream_version,
            "names": sorted(names),
            "missing": [segment.segment_id for segment in manifest.missing],
            "segments": {},
        }
    )


def note_segment(content: Content, header: PackHeader, frames: Sequence[GoldenFrame]) -> None:
    """Note a segment of the latest video."""
    segments = content.videos[-1]["segments"]
    assert isinstance(segments, dict)
    segments[header.segment_id] = [frame.expected() for frame in frames]


def store_failure(store: Store, content: Content, failure: Failure) -> None:
    """Write a failure that counts from now on."""
    write_failure(store, failure)
    content.failures[failure.subject_id] = {each.name: getattr(failure, each.name) for each in fields(failure)}


def store_detections(store: Store, content: Content, manifest: VideoManifest, pts: dict[str, list[int]]) -> None:
    """Write detections: two objects in each even frame."""
    detector_fp = golden_id("detector", digits=16)
    parts = []
    for record in manifest.segments:
        rows = []
        content.detections[record.segment_id] = expected = []
        for frame_number in range(0, record.num_frames, 2):
            boxes = np.array([[0, 0.5, 10, 20.25], [30, 31, 30, 40 + frame_number]], np.float32)
            scores, labels = np.array([1, 0.125], np.float32), np.array([2, frame_number % 3])
            frame_pts = pts[record.segment_id][frame_number]
            rows.append((frame_number, frame_pts, boxes, scores, labels))
            for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
                values = (frame_number, frame_pts, LABELS[label], label, score, *box)
                names = ("frame_number", "pts", "label", "label_id", "score", "x_min", "y_min", "x_max", "y_max")
                expected.append(dict(zip(names, values, strict=True)))
        table = detections_table(rows, labels=LABELS)
        parts.append(write_detections(store, detector_fp, record.segment_id, table, num_frames=record.num_frames))
    for number in range(len(parts)):  # two runs, each over one segment more
        found = DetectionManifest(
            detector_fp=detector_fp,
            detector="golden",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            score_floor=0.05,
            parts=tuple(parts[: number + 1]),
        )
        commit_detections(store, found)
