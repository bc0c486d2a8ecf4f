"""Stored detections: parts, and the manifests that make them visible."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from framevault.storage.detections import (
    commit_detections,
    load_detection_manifests,
    recover_detections,
    write_detections,
)
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
