"""Stored detections: parts, and the manifests that make them visible."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace

import pyarrow as pa
import pytest
from google_crc32c import value as crc32c

from framevault.storage.detections import (
    commit_detections,
    load_detection_manifests,
    recover_detections,
    write_detections,
)
from framevault.storage.documents import seal
from framevault.storage.errors import DamagedError
from framevault.storage.schema import read_detections
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from tests.storage.samples import DETECTOR_FP, sample_detections, sample_id, store_detections, store_video


@pytest.fixture
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


SEGMENT = sample_id("a.mp4", 0)


def test_a_part_is_stored_once(store: Store) -> None:
    table = sample_detections(0)

    part = write_detections(store, DETECTOR_FP, SEGMENT, table, num_frames=10)
    again = write_detections(store, DETECTOR_FP, SEGMENT, table.slice(0, 3), num_frames=10)

    assert part == again
    assert part.part.key == f"detections/{DETECTOR_FP}/{SEGMENT}.parquet"
    assert (part.num_frames, part.num_detections) == (10, 15)
    assert read_detections("x", store.read_checked(part.part)).to_pylist() == table.to_pylist()


def test_a_part_is_found_again_without_a_manifest(store: Store) -> None:
    assert recover_detections(store, DETECTOR_FP, SEGMENT, num_frames=10) is None

    part = write_detections(store, DETECTOR_FP, SEGMENT, sample_detections(0), num_frames=10)

    assert recover_detections(store, DETECTOR_FP, SEGMENT, num_frames=10) == part


def test_rows_of_frames_that_the_segment_has_not_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="must be 0 to 8"):
        write_detections(store, DETECTOR_FP, SEGMENT, sample_detections(0), num_frames=9)

    write_detections(store, DETECTOR_FP, SEGMENT, sample_detections(0), num_frames=10)

    with pytest.raises(DamagedError, match="has rows of frames that segment"):
        recover_detections(store, DETECTOR_FP, SEGMENT, num_frames=9)


def test_another_schema_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="must have the schema"):
        write_detections(store, DETECTOR_FP, SEGMENT, sample_detections(0).drop_columns(["score"]), num_frames=10)


def test_a_manifest_survives_being_stored_and_committing_it_again_changes_nothing(store: Store) -> None:
    found = store_detections(store, store_video(store))
    before = list(store.list())

    key = commit_detections(store, replace(found, parts=found.parts[::-1]))

    assert key in before
    assert list(store.list()) == before
    (loaded,) = load_detection_manifests(store)
    assert sorted(loaded.parts, key=lambda part: part.segment_id) == list(loaded.parts)
    assert set(loaded.parts) == set(found.parts)
    assert replace(loaded, parts=()) == replace(found, parts=())


def test_runs_over_parts_of_a_video_count_together(store: Store) -> None:
    found = store_detections(store, store_video(store, num_segments=3))
    store_before = len(list(store.list("manifests")))

    commit_detections(store, replace(found, parts=found.parts[:1]))
    commit_detections(store, replace(found, parts=found.parts[1:]))

    assert len(list(store.list("manifests"))) == store_before + 2
    (loaded,) = load_detection_manifests(store)
    assert set(loaded.parts) == set(found.parts)


def test_impossible_values_are_never_written(store: Store) -> None:
    table = sample_detections(0)
    scores = pa.array([2.0] * table.num_rows, pa.float32())

    with pytest.raises(ValueError, match=f"detections of segment {SEGMENT}: scores must be 0 to 1"):
        write_detections(
            store, DETECTOR_FP, SEGMENT, table.set_column(4, table.schema.field("score"), scores), num_frames=10
        )


def test_members_that_nobody_knows_are_ignored(store: Store) -> None:
    found = store_detections(store, store_video(store))
    rest = found.to_document()[20:].replace(b'"version":1', b'"version":1,"zebra":[1]')
    document = b'{"crc32c":"%08x"' % crc32c(rest) + rest
    digest = hashlib.sha256(document).hexdigest()[:16]
    store.create(f"{found.key.rpartition('/')[0]}/{digest}.json", document)

    (loaded,) = load_detection_manifests(store)

    assert set(loaded.parts) == set(found.parts)


@pytest.mark.parametrize("order", [slice(None, None, -1), [0, 0]])
def test_parts_that_are_not_sorted_or_of_one_segment_are_an_error(store: Store, order: object) -> None:
    found = store_detections(store, store_video(store))
    members = json.loads(found.to_document())
    parts = members["parts"]
    members["parts"] = parts[order] if isinstance(order, slice) else [parts[0], parts[0]]
    del members["crc32c"]
    document = seal(members, kind="framevault detections", version=1)
    key = f"{found.key.rpartition('/')[0]}/{hashlib.sha256(document).hexdigest()[:16]}.json"
    store.create(key, document)

    with pytest.raises(DamagedError, match="parts must be sorted by segment_id, and one a segment"):
        load_detection_manifests(store)
