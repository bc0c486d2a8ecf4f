"""Labels, vectors, faces and masks for the tests of storage; all content follows from the segment's number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from framevault.storage.detections import DetectionManifest, commit_detections, write_detections
from framevault.storage.face_tables import FaceRow, faces_table
from framevault.storage.face_vectors import FacePlace, face_vectors_table
from framevault.storage.frame_facts import FACT_KINDS, FactKind, FactManifest, commit_facts, write_facts
from framevault.storage.frame_tables import labels_table, vectors_table
from framevault.storage.index import VideoManifest
from framevault.storage.rle import encode_mask
from framevault.storage.schema import with_masks
from framevault.storage.store import Store
from tests.storage.samples import PTS_STEP, sample_detections

MODEL_FP = "e" * 16
MASK_FP = "f" * 16
NAMES = ("cat", "dog", "horse", "zebra")
LENGTH = 6
"""Values of a vector."""


def sample_pts(segment: int, *, num_frames: int = 10) -> list[int]:
    return [1000 + (segment * num_frames + number) * PTS_STEP for number in range(num_frames)]


def sample_labels(segment: int) -> pa.Table:
    """Return two labels a frame: of frame n, numbers n % 4 and (n + 1) % 4, of scores 0.75 and 0.25."""
    ids_n = np.arange(10)
    return labels_table(
        sample_pts(segment),
        label_ids_nk=np.stack([ids_n % 4, (ids_n + 1) % 4], axis=1),
        scores_nk=np.tile(np.array([0.75, 0.25], np.float32), (10, 1)),
        labels=NAMES,
    )


def sample_vectors(segment: int) -> NDArray[np.float16]:
    """Return vectors that turn from one direction to another over the video's 20 frames."""
    angles_n = (segment * 10 + np.arange(10)) / 20 * np.pi / 2
    vectors_np = np.zeros((10, LENGTH), np.float16)
    vectors_np[:, 0], vectors_np[:, 1] = np.cos(angles_n), np.sin(angles_n)
    return vectors_np


def sample_faces(segment: int) -> pa.Table:
    """Return the faces of a segment: one in frame 2, two in frame 5, none in the others."""
    pts = sample_pts(segment)
    return faces_table(
        [
            FaceRow(
                frame_number=frame_number,
                pts=pts[frame_number],
                face_number=face_number,
                x_min=-1.5 + 20 * face_number,
                y_min=4.25,
                side=16.0,
                angle_degrees=90.0 * face_number,
                score=0.75,
                size_bytes=120 + face_number,
                is_outside=face_number == 1,
            )
            for frame_number, face_number in ((2, 0), (5, 0), (5, 1))
        ]
    )


def sample_face_vectors(segment: int) -> pa.Table:
    """Return vectors of the faces of `sample_faces`."""
    names = list(FacePlace._fields)
    places = [FacePlace(**row) for row in sample_faces(segment).select(names).to_pylist()]
    return face_vectors_table(places, np.arange(3 * LENGTH, dtype=np.float16).reshape(3, LENGTH))


def sample_facts(kind: FactKind, segment: int) -> pa.Table:
    """Return the rows of a kind."""
    match kind:
        case "labels":
            return sample_labels(segment)
        case "vectors":
            return vectors_table(sample_pts(segment), sample_vectors(segment))
        case "faces":
            return sample_faces(segment)
        case "face_vectors":
            return sample_face_vectors(segment)


def store_facts(store: Store, manifest: VideoManifest) -> dict[FactKind, FactManifest]:
    """Store facts of every kind about all of a video's segments."""
    stored: dict[FactKind, FactManifest] = {}
    for kind in FACT_KINDS:
        parts = []
        for segment, record in enumerate(manifest.segments):
            table = sample_facts(kind, segment)
            parts.append(write_facts(store, kind, MODEL_FP, record.segment_id, table, num_frames=10))
        stored[kind] = FactManifest(
            kind=kind,
            model_fp=MODEL_FP,
            model="toy",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            parts=tuple(parts),
        )
        commit_facts(store, stored[kind])
    return stored


def sample_mask(number: int) -> NDArray[np.bool_]:
    """Return the mask of a row of `sample_detections`, as large as the samples' frames."""
    mask_hw = np.zeros((64, 96), np.bool_)
    mask_hw[number : number + 20, 2 * number : 2 * number + 30] = True
    return mask_hw


def masked_detections(segment: int) -> pa.Table:
    table = sample_detections(segment)
    masks = [encode_mask(sample_mask(number), height=64, width=96) for number in range(table.num_rows)]
    return with_masks(table, masks)


def store_masks(store: Store, manifest: VideoManifest) -> DetectionManifest:
    """Store detections with masks of all of a video's segments."""
    parts = [
        write_detections(store, MASK_FP, record.segment_id, masked_detections(segment), num_frames=10)
        for segment, record in enumerate(manifest.segments)
    ]
    found = DetectionManifest(
        detector_fp=MASK_FP,
        detector="maskrcnn_resnet50_fpn",
        video_id=manifest.video_id,
        run_fp=manifest.run_fp,
        score_floor=0.05,
        parts=tuple(parts),
        has_masks=True,
    )
    commit_detections(store, found)
    return found
