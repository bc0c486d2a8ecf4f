"""Stored labels, vectors, faces and masks: parts, manifests, views, verification."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from framevault.storage.detections import (
    DetectionManifest,
    commit_detections,
    load_detection_manifests,
    write_detections,
)
from framevault.storage.errors import DamagedError
from framevault.storage.frame_facts import (
    FACT_KINDS,
    FactKind,
    FactManifest,
    commit_facts,
    load_fact_manifests,
    read_fact_manifest,
    read_facts,
    write_facts,
)
from framevault.storage.frame_tables import vectors_table
from framevault.storage.query import connect
from framevault.storage.rle import decode_mask, encode_mask
from framevault.storage.schema import with_masks
from framevault.storage.similarity import find_similar
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.storage.verify import Finding, VerifyCounts, verify_vault
from tests.storage.fact_samples import (
    MASK_FP,
    MODEL_FP,
    masked_detections,
    sample_labels,
    sample_mask,
    sample_pts,
    sample_vectors,
    store_facts,
    store_masks,
)
from tests.storage.samples import make_vault, sample_detections, sample_id, store_detections, store_video

SEGMENT = sample_id("a.mp4", 0)


@pytest.fixture
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault with one of everything, labels, vectors and masks among it."""
    store = make_vault(str(tmp_path / "vault"))
    manifest = store_video(store, "a.mp4")
    store_facts(store, manifest)
    store_masks(store, manifest)
    return tmp_path / "vault"


def findings(vault: Path) -> list[Finding]:
    return list(verify_vault(open_vault(str(vault), create=False)))


def test_a_part_is_stored_once(store: Store) -> None:
    part = write_facts(store, "labels", MODEL_FP, SEGMENT, sample_labels(0), num_frames=10)
    again = write_facts(store, "labels", MODEL_FP, SEGMENT, sample_labels(0).slice(0, 4), num_frames=10)

    assert part == again
    assert part.part.key == f"labels/{MODEL_FP}/{SEGMENT}.parquet"
    assert (part.num_frames, part.num_rows) == (10, 20)


def test_rows_of_frames_that_the_segment_has_not_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="frame numbers must be 0 to 8"):
        write_facts(store, "labels", MODEL_FP, SEGMENT, sample_labels(0), num_frames=9)

    write_facts(store, "labels", MODEL_FP, SEGMENT, sample_labels(0), num_frames=10)
    with pytest.raises(DamagedError, match="frame numbers must be 0 to 8"):
        write_facts(store, "labels", MODEL_FP, SEGMENT, sample_labels(0).slice(0, 2), num_frames=9)


@pytest.mark.parametrize("kind", FACT_KINDS)
def test_manifests_of_one_model_and_video_count_together(store: Store, kind: FactKind) -> None:
    manifest = store_video(store)
    whole = store_facts(store, manifest)[kind]
    fresh = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    for part in whole.parts:
        fresh.create(part.part.key, store.read(part.part.key))
        single = FactManifest(
            kind=kind, model_fp=MODEL_FP, model="toy", video_id=whole.video_id, run_fp=whole.run_fp, parts=(part,)
        )
        assert commit_facts(fresh, single) == commit_facts(fresh, single) == single.key

    (loaded,) = load_fact_manifests(fresh, kind)

    assert set(loaded.parts) == set(whole.parts)
    assert [part.segment_id for part in loaded.parts] == sorted(part.segment_id for part in whole.parts)


def test_kinds_are_kept_apart(store: Store) -> None:
    store_facts(store, store_video(store))

    for kind in FACT_KINDS:
        (manifest,) = load_fact_manifests(store, kind)
        assert manifest.kind == kind
        assert all(part.part.key.startswith(f"{kind}/") for part in manifest.parts)


def test_a_manifest_under_another_key_is_damage(store: Store) -> None:
    manifest = store_facts(store, store_video(store))["labels"]
    moved = manifest.key.replace(MODEL_FP, "0" * 16)
    store.create(moved, store.read(manifest.key))

    with pytest.raises(DamagedError, match="holds the manifest of"):
        load_fact_manifests(store, "labels")


def test_a_label_knows_its_frame(vault: Path) -> None:
    query = connect(open_vault(str(vault), create=False))

    rows = query.sql("SELECT * FROM labels WHERE video_frame = 11 ORDER BY rank").to_pylist()

    assert [(row["rank"], row["label"], row["label_id"], row["score"]) for row in rows] == [
        (1, "dog", 1, 0.75),
        (2, "horse", 2, 0.25),
    ]
    assert {(row["video"], row["frame_number"], row["model"], row["model_fp"]) for row in rows} == {
        ("a.mp4", 1, "toy", MODEL_FP)
    }
    assert rows[0]["time_s"] == pytest.approx(11 * 512 / 12800)


def test_a_face_knows_its_frame_and_its_square(vault: Path) -> None:
    query = connect(open_vault(str(vault), create=False))

    rows = query.sql("SELECT * FROM faces WHERE video_frame >= 10 ORDER BY video_frame, face_number").to_pylist()

    assert [(row["video_frame"], row["frame_number"], row["face_number"]) for row in rows] == [
        (12, 2, 0),
        (15, 5, 0),
        (15, 5, 1),
    ]
    last = rows[-1]
    assert [last[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [18.5, 4.25, 34.5, 20.25]
    assert (last["angle_degrees"], last["score"], last["size_bytes"], last["is_outside"]) == (90, 0.75, 121, True)
    assert [row["is_outside"] for row in rows] == [False, False, True]
    assert last["time_s"] == pytest.approx(15 * 512 / 12800)


def test_faces_are_joined_with_what_was_detected_around_them(vault: Path) -> None:
    query = connect(open_vault(str(vault), create=False))

    (row,) = query.sql(
        """SELECT count(*) AS n, count(DISTINCT f.video_frame) AS frames
        FROM faces f JOIN detections d USING (video_id, run_fp, segment_id, frame_number)
        WHERE d.detector = 'mobilenet_v2' AND f.face_number = 0"""
    ).to_pylist()

    assert row["frames"] == 4
    assert row["n"] >= 4


def test_faces_of_one_video_are_read_without_the_others(store: Store) -> None:
    first, second = (store_facts(store, store_video(store, name))["faces"] for name in ("a.mp4", "b.mp4"))
    store.remove(second.key)
    store.create(second.key, b"damaged")

    (found,) = load_fact_manifests(store, "faces", video_id=first.video_id)
    assert found.key == first.key
    with pytest.raises(DamagedError):
        load_fact_manifests(store, "faces")


def test_a_mask_stands_beside_its_box_and_detections_without_are_left_out(vault: Path) -> None:
    query = connect(open_vault(str(vault), create=False))

    rows = query.sql("SELECT * FROM masks ORDER BY video_frame, score DESC").to_pylist()
    (counts,) = query.sql("SELECT count(*) AS n FROM all_detections").to_pylist()

    assert len(rows) == 30
    assert counts["n"] == 60
    assert {row["detector"] for row in rows} == {"maskrcnn_resnet50_fpn"}
    first, second = (row for row in rows if row["video_frame"] == 1)
    assert (first["label"], first["x_max"], second["label"], second["x_max"]) == ("person", 30, "car", 7)
    for row, number in ((first, 1), (second, 2)):
        mask_hw = decode_mask(row["mask_rle"], height=row["height"], width=row["width"])
        assert np.array_equal(mask_hw, sample_mask(number))


def test_only_manifests_with_masks_say_so(store: Store) -> None:
    manifest = store_video(store)
    plain = store_detections(store, manifest)
    store_masks(store, manifest)

    loaded = {found.detector: found.has_masks for found in load_detection_manifests(store)}

    assert loaded == {"mobilenet_v2": False, "maskrcnn_resnet50_fpn": True}
    assert b"has_masks" not in plain.to_document()


def test_every_detection_must_have_a_mask() -> None:
    with pytest.raises(ValueError, match="15 detections must have as many masks, got 1"):
        with_masks(sample_detections(0), ["0"])


def test_a_sound_vault_is_clean_and_counted(vault: Path) -> None:
    counts = VerifyCounts()

    assert list(verify_vault(open_vault(str(vault), create=False), counts=counts)) == []

    # 20 frames: two labels and a vector each; 6 faces, each with a vector; 30 detections without masks, and 30 with.
    assert (counts.num_facts, counts.num_detections) == (72, 60)


@pytest.mark.parametrize("folder", [*FACT_KINDS, "manifests"])
@pytest.mark.parametrize("position", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_a_flipped_byte_is_found_and_named(vault: Path, folder: str, position: float) -> None:
    keys = [path for path in (vault / folder).rglob("*") if path.is_file()]
    keys = [path for path in keys if folder != "manifests" or path.parts[-3] in FACT_KINDS]
    assert keys
    for path in keys:
        data = path.read_bytes()
        damaged = bytearray(data)
        damaged[round(position * (len(data) - 1))] ^= 0x55
        path.write_bytes(damaged)

        found = [finding for finding in findings(vault) if finding.is_error]

        assert path.relative_to(vault).as_posix() in {finding.key for finding in found}
        path.write_bytes(data)


@pytest.mark.parametrize("kind", FACT_KINDS)
def test_a_missing_part_is_found_and_named(vault: Path, kind: FactKind) -> None:
    path = next((vault / kind).rglob("*.parquet"))
    path.unlink()

    found = [finding for finding in findings(vault) if finding.is_error]

    assert [(finding.kind, finding.key) for finding in found] == [("missing", path.relative_to(vault).as_posix())]


def test_what_no_manifest_names_is_checked_and_told(vault: Path) -> None:
    for path in [path for path in (vault / "manifests").rglob("*.json") if path.parts[-3] in FACT_KINDS]:
        path.unlink()

    found = findings(vault)

    assert {finding.kind for finding in found} == {"orphan"}
    assert len(found) == 2 * len(FACT_KINDS)
    part = next((vault / "labels").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-10])
    assert [finding.kind for finding in findings(vault) if finding.is_error] == ["damaged"]


def test_a_mask_of_another_size_than_the_frame_is_damage(store: Store) -> None:
    manifest = store_video(store)
    small = encode_mask(np.ones((8, 8), np.bool_), height=8, width=8)
    table = with_masks(sample_detections(0), [small] * 15)
    part = write_detections(store, MASK_FP, manifest.segments[0].segment_id, table, num_frames=10)
    commit_detections(
        store,
        DetectionManifest(
            detector_fp=MASK_FP,
            detector="toy",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            score_floor=0.05,
            parts=(part,),
            has_masks=True,
        ),
    )

    (finding,) = list(verify_vault(store))

    assert finding.kind == "damaged"
    assert "mask of row 0: runs must sum up to 64 x 96 = 6144 pixels, are 64" in finding.problem


def test_facts_of_a_run_without_manifest_are_missing_it(store: Store) -> None:
    manifest = store_video(store)
    facts = store_facts(store, manifest)["labels"]
    lost = FactManifest(
        kind="labels", model_fp=MODEL_FP, model="toy", video_id=facts.video_id, run_fp="0" * 16, parts=facts.parts
    )
    commit_facts(store, lost)

    found = list(verify_vault(store))

    assert [(finding.kind, finding.key) for finding in found] == [("missing", lost.key)]


def test_a_manifest_of_more_frames_than_a_pack_can_have_is_damaged(store: Store) -> None:
    facts = store_facts(store, store_video(store))["labels"]
    largest, beyond = (replace(facts, parts=(replace(facts.parts[0], num_frames=n),)) for n in (2**24, 2**24 + 1))
    for manifest in (largest, beyond):
        commit_facts(store, manifest)

    assert read_fact_manifest(store, largest.key) == largest
    with pytest.raises(DamagedError, match="num_frames must be an integer from 1 to 16777216"):
        read_fact_manifest(store, beyond.key)


def test_a_part_without_masks_is_not_taken_for_one_with(store: Store) -> None:
    segment_id = store_video(store).segments[0].segment_id
    write_detections(store, MASK_FP, segment_id, sample_detections(0), num_frames=10)

    with pytest.raises(DamagedError, match="must have one column mask_rle"):
        write_detections(store, MASK_FP, segment_id, masked_detections(0), num_frames=10)


def test_rows_of_frames_beyond_the_manifest_are_damage_to_whoever_reads_them(store: Store) -> None:
    stored = store_facts(store, store_video(store))
    for facts in stored.values():
        parts = tuple(replace(part, num_frames=9) for part in facts.parts)
        commit_facts(store, replace(facts, model_fp="9" * 16, parts=parts))
    query = connect(store)
    everything = query.sql("SELECT segment_id, frame_number FROM frames")
    vector_p = sample_vectors(0)[0].astype(np.float32)

    with pytest.raises(DamagedError, match="frame numbers must be 0 to 8"):
        query.sql("SELECT * FROM labels")
    with pytest.raises(DamagedError, match="frame numbers must be 0 to 8"):
        find_similar(store, vector_p, model_fp="9" * 16, frames=everything, top=1, apart_s=0)


def test_facts_of_other_frames_are_damage(store: Store) -> None:
    manifest = store_video(store)
    segment_id = manifest.segments[0].segment_id
    table = vectors_table([pts + 1 for pts in sample_pts(0)], sample_vectors(0))
    part = write_facts(store, "vectors", MODEL_FP, segment_id, table, num_frames=10)
    commit_facts(
        store,
        FactManifest(
            kind="vectors",
            model_fp=MODEL_FP,
            model="toy",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            parts=(part,),
        ),
    )

    (finding,) = list(verify_vault(store))

    assert finding.kind == "damaged"
    assert "has other pts than packs/" in finding.problem
    assert read_facts("vectors", "x", store.read(part.part.key)).num_rows == 10
