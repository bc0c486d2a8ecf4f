"""Small packs, manifests and whole vaults for the tests of storage; all content follows from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa

from framevault.storage.detections import DetectionManifest, DetectionPart, commit_detections, write_detections
from framevault.storage.index import (
    MissingSegment,
    SegmentRecord,
    VideoManifest,
    commit_video,
    write_segment,
)
from framevault.storage.names import add_name
from framevault.storage.packs import PackHeader, PackWriter
from framevault.storage.quarantine import Failure, write_failure
from framevault.storage.schema import detections_table
from framevault.storage.store import Store
from framevault.storage.vault import open_vault

RUN_FP = "5" * 16
DETECTOR_FP = "d" * 16
CODEC_FINGERPRINT = "c" * 64
LABELS = ("person", "car", "dog")
PTS_STEP = 512
"""Ticks a frame at 25 frames/s in a time base of 1/12800."""


def sample_id(*parts: object) -> str:
    """Return 32 hex digits that follow from some values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def pack_header(video: str = "a.mp4", segment: int = 0) -> PackHeader:
    return PackHeader(
        video_id=sample_id(video),
        segment_id=sample_id(video, segment),
        codec="raw",
        bitstream_version=1,
        codec_fingerprint=CODEC_FINGERPRINT,
        weights_digest=hashlib.sha256(b"").hexdigest(),
        quality=4,
        settings={"level": 6, "nested": {"list": [1, "ä", None]}},
        coded_height=64,
        coded_width=96,
        source_height=64,
        source_width=96,
        time_base=(1, 12800),
        rotation_degrees=0,
        sample_aspect_ratio=(1, 1),
        colour="bt709 limited",
        sampling="all",
    )


def sample_pack(
    video: str = "a.mp4", segment: int = 0, *, num_frames: int = 10, seed: int = 0, sizes: tuple[int, int] = (20, 200)
) -> bytes:
    """Return the pack of a segment; another seed is another encoder's equally valid pack of the same frames."""
    random = np.random.default_rng([seed, segment])
    writer = PackWriter(pack_header(video, segment))
    for number in range(num_frames):
        payload = random.bytes(int(random.integers(*sizes)))
        writer.add(
            payload,
            pts=1000 + (segment * num_frames + number) * PTS_STEP,
            is_keyframe=number == 0,
            is_independent=number % 4 == 0,
        )
    return writer.finish()


def sample_manifest(
    segments: tuple[SegmentRecord, ...], *, video: str = "a.mp4", missing: tuple[MissingSegment, ...] = ()
) -> VideoManifest:
    return VideoManifest(
        video_id=sample_id(video),
        run_fp=RUN_FP,
        name=video,
        source_url=f"/videos/{video}",
        source_bytes=100_000,
        source_version="100000-1700000000",
        container="mov,mp4",
        source_codec="h264",
        width=96,
        height=64,
        time_base=(1, 12800),
        fps=25.0,
        duration_s=0.8,
        num_source_frames=20,
        codec="raw",
        bitstream_version=1,
        quality=4,
        codec_fingerprint=CODEC_FINGERPRINT,
        sampling="all",
        segments=segments,
        missing=missing,
    )


def sample_detections(segment: int, *, num_frames: int = 10) -> pa.Table:
    """Return a person of score 0.9 in each frame and a car of score 0.1 in each second one."""
    rows = []
    for number in range(num_frames):
        num_objects = 1 + number % 2
        rows.append(
            (
                number,
                1000 + (segment * num_frames + number) * PTS_STEP,
                np.array([[1, 2, 30, 40], [5, 6, 7, 8]], dtype=np.float32)[:num_objects],
                np.array([0.9, 0.1], dtype=np.float32)[:num_objects],
                np.array([0, 1])[:num_objects],
            )
        )
    return detections_table(rows, labels=LABELS)


def sample_failure(video: str = "a.mp4", segment: int = 2) -> Failure:
    return Failure(
        subject_id=sample_id(video, segment),
        video_id=sample_id(video),
        name=video,
        source_url=f"/videos/{video}",
        category="input",
        reason="frame 3 could not be decoded",
        attempts=1,
        first_pts=1000 + 20 * PTS_STEP,
        last_pts=1000 + 29 * PTS_STEP,
        num_frames=10,
        command=f"framevault compress /videos/{video}",
    )


def store_video(store: Store, video: str = "a.mp4", *, num_segments: int = 2, seed: int = 0) -> VideoManifest:
    """Store a video of a few segments, under its own name."""
    records = tuple(write_segment(store, sample_pack(video, segment, seed=seed)) for segment in range(num_segments))
    manifest = sample_manifest(records, video=video)
    commit_video(store, manifest)
    add_name(store, manifest.video_id, name=video, source_url=manifest.source_url)
    return manifest


def store_detections(store: Store, manifest: VideoManifest) -> DetectionManifest:
    """Store detections of all of a video's segments."""
    parts: list[DetectionPart] = []
    for segment, record in enumerate(manifest.segments):
        table = sample_detections(segment)
        parts.append(write_detections(store, DETECTOR_FP, record.segment_id, table, num_frames=record.num_frames))
    found = DetectionManifest(
        detector_fp=DETECTOR_FP,
        detector="mobilenet_v2",
        video_id=manifest.video_id,
        run_fp=manifest.run_fp,
        score_floor=0.05,
        parts=tuple(parts),
    )
    commit_detections(store, found)
    return found


def missing_segment(video: str = "a.mp4", segment: int = 2) -> MissingSegment:
    failure = sample_failure(video, segment)
    assert failure.first_pts is not None
    assert failure.last_pts is not None
    return MissingSegment(
        segment_id=failure.subject_id,
        first_pts=failure.first_pts,
        last_pts=failure.last_pts,
        num_frames=failure.num_frames,
        reason=failure.reason,
    )


def make_vault(url: str) -> Store:
    """Make a vault with one of everything: two videos, one of them with a failure, two names, and detections."""
    store = open_vault(url, create=True)
    manifest = store_video(store, "a.mp4")
    add_name(store, manifest.video_id, name="copy of a.mp4", source_url="/videos/copy of a.mp4")
    store_detections(store, manifest)
    damaged = store_video(store, "b.mp4")
    commit_video(store, replace(damaged, missing=(missing_segment("b.mp4"),)))
    write_failure(store, sample_failure("b.mp4"))
    return store
