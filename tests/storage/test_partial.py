"""Partial parts: kept beside the whole ones, and replaced by them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

import pyarrow.compute as pc
import pytest

from framevault.storage.detections import (
    DetectionManifest,
    DetectionPart,
    commit_detections,
    load_detection_manifests,
    recover_detections,
    write_detections,
)
from framevault.storage.documents import unseal
from framevault.storage.frame_facts import (
    FactKind,
    FactManifest,
    FactPart,
    commit_facts,
    load_fact_manifests,
    write_facts,
)
from framevault.storage.frame_tables import vectors_table
from framevault.storage.index import VideoManifest
from framevault.storage.quarantine import Failure, look_id, write_failure
from framevault.storage.query import connect
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.storage.verify import verify_vault
from tests.storage.fact_samples import MODEL_FP, sample_labels, sample_pts, sample_vectors, store_facts
from tests.storage.samples import DETECTOR_FP, sample_detections, store_detections, store_video

LOST = 4
"""Frames of the first segment, its last ones, that can't be decoded."""


@pytest.fixture
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


@pytest.fixture
def video(store: Store) -> VideoManifest:
    return store_video(store)


def store_partial_detections(store: Store, video: VideoManifest, *, num_lost: int = LOST) -> DetectionPart:
    """Store what was found in the first frames of the first segment, and make it visible."""
    table = sample_detections(0)
    seen = table.filter(pc.less(table["frame_number"], 10 - num_lost))
    segment_id = video.segments[0].segment_id
    part = write_detections(store, DETECTOR_FP, segment_id, seen, num_frames=10, num_lost=num_lost)
    commit_detections(store, detections_of(video, part))
    return part


def detections_of(video: VideoManifest, part: DetectionPart) -> DetectionManifest:
    return DetectionManifest(
        detector_fp=DETECTOR_FP,
        detector="mobilenet_v2",
        video_id=video.video_id,
        run_fp=video.run_fp,
        score_floor=0.05,
        parts=(part,),
    )


def store_partial_facts(store: Store, video: VideoManifest, kind: FactKind) -> FactPart:
    """The same of labels or vectors."""
    seen = 10 - LOST
    labels = sample_labels(0).slice(0, 2 * seen)
    vectors = vectors_table(sample_pts(0)[:seen], sample_vectors(0)[:seen], frame_numbers=range(seen))
    segment_id = video.segments[0].segment_id
    table = labels if kind == "labels" else vectors
    part = write_facts(store, kind, MODEL_FP, segment_id, table, num_frames=10, num_lost=LOST)
    manifest = FactManifest(
        kind=kind, model_fp=MODEL_FP, model="toy", video_id=video.video_id, run_fp=video.run_fp, parts=(part,)
    )
    commit_facts(store, manifest)
    return part


def count(store: Store, sql: str) -> object:
    return connect(store).sql(f"select count(distinct frame_number) as n from ({sql})")["n"][0].as_py()


def test_a_partial_part_lies_where_no_whole_one_is_looked_for(store: Store, video: VideoManifest) -> None:
    part = store_partial_detections(store, video)

    assert part.part.key.startswith(f"detections/{DETECTOR_FP}/partial/{part.segment_id}-")
    assert recover_detections(store, DETECTOR_FP, part.segment_id, num_frames=10) is None
    (key,) = [key for key in store.list("manifests") if "/detections/" in key]
    assert f"/detections/{DETECTOR_FP}/partial/" in key
    (stored,) = unseal(key, store.read(key)).items("parts")
    assert stored.integer("num_lost") == LOST


def test_whole_parts_are_stored_as_if_there_were_no_partial_ones(store: Store, video: VideoManifest) -> None:
    found = store_detections(store, video)

    assert f"/{DETECTOR_FP}/partial/" not in found.key
    assert b"num_lost" not in found.to_document()


def test_the_same_partial_part_again_changes_nothing(store: Store, video: VideoManifest) -> None:
    first = store_partial_detections(store, video)
    before = list(store.list())

    assert store_partial_detections(store, video) == first
    assert list(store.list()) == before


@pytest.mark.parametrize("is_whole_first", [True, False])
def test_a_whole_part_takes_the_place_of_a_partial_one(
    store: Store, video: VideoManifest, is_whole_first: bool
) -> None:
    steps: list[Callable[[], object]] = [
        lambda: store_partial_detections(store, video),
        lambda: store_detections(store, video),
    ]
    for step in reversed(steps) if is_whole_first else steps:
        step()

    (loaded,) = load_detection_manifests(store)

    assert [part.num_lost for part in loaded.parts] == [0] * len(video.segments)
    assert list(verify_vault(store)) == []


def test_of_two_partial_parts_the_one_that_lacks_less_counts(store: Store, video: VideoManifest) -> None:
    less = store_partial_detections(store, video, num_lost=2)
    store_partial_detections(store, video, num_lost=5)

    (loaded,) = load_detection_manifests(store)

    assert loaded.parts == (less,)


@pytest.mark.parametrize("kind", ["labels", "vectors"])
def test_labels_and_vectors_have_partial_parts_too(store: Store, video: VideoManifest, kind: FactKind) -> None:
    part = store_partial_facts(store, video, kind)

    (partial,) = load_fact_manifests(store, kind)
    assert partial.parts == (part,)
    assert f"/{kind}/{MODEL_FP}/partial/" in partial.key
    assert list(verify_vault(store)) == []

    store_facts(store, video)
    (whole,) = load_fact_manifests(store, kind)
    assert [each.num_lost for each in whole.parts] == [0] * len(video.segments)


def test_queries_see_the_frames_that_were_looked_at(store: Store, video: VideoManifest) -> None:
    store_partial_detections(store, video)
    store_partial_facts(store, video, "labels")
    seen = set(sample_detections(0)["frame_number"].to_pylist()) & set(range(10 - LOST))

    assert count(store, "from all_detections") == len(seen)
    assert count(store, "from labels") == 10 - LOST


def test_damage_in_a_partial_part_is_found(store: Store, video: VideoManifest) -> None:
    part = store_partial_detections(store, video)
    wrong = replace(part, num_detections=part.num_detections + 1)
    commit_detections(store, detections_of(video, wrong))

    (finding,) = verify_vault(store)

    assert part.part.key in finding.problem


@pytest.mark.parametrize("kind", ["detections", "labels", "vectors"])
def test_a_failure_to_look_is_over_when_the_whole_segment_was_looked_at(
    store: Store, video: VideoManifest, kind: str
) -> None:
    segment = video.segments[0]
    fingerprint = DETECTOR_FP if kind == "detections" else MODEL_FP
    failure = Failure(
        subject_id=look_id(kind, fingerprint, segment.segment_id),
        video_id=video.video_id,
        name=video.name,
        source_url=video.source_url,
        category="environment",
        reason="frame 6 is damaged",
        attempts=1,
        first_pts=segment.first_pts,
        last_pts=segment.last_pts,
        num_frames=LOST,
        command="framevault detect vault",
    )
    write_failure(store, failure)

    def is_resolved() -> list[object]:
        column: list[object] = connect(store).sql("select is_resolved from failures")["is_resolved"].to_pylist()
        return column

    assert is_resolved() == [False]
    store_partial_detections(store, video)
    store_partial_facts(store, video, "labels")
    store_partial_facts(store, video, "vectors")
    assert is_resolved() == [False]
    if kind == "detections":
        store_detections(store, video)
    else:
        store_facts(store, video)
    assert is_resolved() == [True]
