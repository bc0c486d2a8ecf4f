"""What no manifest names goes, after its grace period and not before, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from framevault.storage.documents import seal
from framevault.storage.errors import DamagedError, StoreUnavailableError, UnsupportedError
from framevault.storage.frame_facts import FACT_KINDS, FactKind, facts_key, load_fact_manifests
from framevault.storage.index import (
    VideoManifest,
    commit_video,
    find_manifest,
    load_manifests,
    recover_segment,
    write_segment,
)
from framevault.storage.moving import carry_findings, retire_segments
from framevault.storage.query import connect
from framevault.storage.store import Store
from framevault.storage.tombstones import claim, mark, tombstone_key
from framevault.storage.vacuum import VacuumCounts, vacuum
from framevault.storage.vault import open_vault
from framevault.storage.verify import Finding, verify_vault
from tests.storage.fact_samples import MODEL_FP, store_facts
from tests.storage.samples import RUN_FP, sample_id, sample_pack, store_detections, store_video

HOUR_S = 3600
NEW_RUN = "7" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def store(folder: Path) -> Store:
    return open_vault(str(folder), create=True)


def age(folder: Path, *, hours: float) -> None:
    """Make all files so much older."""
    for path in folder.rglob("*"):
        if path.is_file():
            seconds = path.stat().st_mtime - hours * HOUR_S
            os.utime(path, (seconds, seconds))


def keys_of(store: Store, *folders: str) -> list[str]:
    return [key for folder in folders for key in store.list(folder)]


def errors_of(store: Store) -> list[Finding]:
    return [finding for finding in verify_vault(store) if finding.is_error]


def retire_all(store: Store, manifest: VideoManifest) -> list[str]:
    segment_ids = [record.segment_id for record in manifest.segments]
    retire_segments(store, manifest.video_id, run_fp=manifest.run_fp, segment_ids=segment_ids, reason="moved")
    return segment_ids


def test_a_retired_run_is_not_shown_and_costs_no_error(store: Store) -> None:
    manifest = store_video(store)
    store_detections(store, manifest)

    retire_all(store, manifest)

    assert load_manifests(store) == []
    assert connect(store).sql("SELECT * FROM videos").num_rows == 0
    assert connect(store).sql("SELECT * FROM all_detections").num_rows == 0
    assert {finding.kind for finding in verify_vault(store)} == {"orphan"}


def test_a_run_that_keeps_a_segment_says_where_the_others_are(store: Store) -> None:
    manifest = store_video(store)
    first, second = manifest.segments

    retire_segments(store, manifest.video_id, run_fp=RUN_FP, segment_ids=[first.segment_id], reason="moved")
    retire_segments(store, manifest.video_id, run_fp=RUN_FP, segment_ids=[first.segment_id], reason="moved")

    left = find_manifest(store, manifest.video_id, RUN_FP)
    assert left is not None
    assert (left.segments, left.generation) == ((second,), 1)
    assert [(each.segment_id, each.reason) for each in left.missing] == [(first.segment_id, "moved")]
    (row,) = connect(store).sql("SELECT segment_number, start_time_s FROM segments").to_pylist()
    assert (row["segment_number"], row["start_time_s"]) == (1, pytest.approx(0.4))


def test_objects_go_when_the_grace_period_of_their_mark_is_over(store: Store, folder: Path) -> None:
    manifest, other = store_video(store, "a.mp4"), store_video(store, "b.mp4")
    age(folder, hours=100)
    retire_all(store, manifest)

    early = vacuum(store, grace_s=10 * HOUR_S)
    age(folder, hours=9)
    still = vacuum(store, grace_s=10 * HOUR_S)
    age(folder, hours=2)
    late = vacuum(store, grace_s=10 * HOUR_S)

    assert (early.num_removed, early.num_waiting, still.num_removed, still.num_waiting) == (0, 4, 0, 4)
    # Two packs, two frames parts, and the older manifest.
    assert (late.num_removed, late.num_waiting) == (5, 0)
    assert keys_of(store, "packs", "frames", "tombstones") == [
        *sorted(record.pack.key for record in other.segments),
        *sorted(record.frames.key for record in other.segments),
    ]
    assert list(verify_vault(store)) == []
    assert vacuum(store, grace_s=10 * HOUR_S) == VacuumCounts()


def test_what_was_written_just_now_stays_whatever_its_mark_says(store: Store, folder: Path) -> None:
    """A job writes packs long before their manifest."""
    segment_id = sample_id("a.mp4", 0)
    mark(store, segment_id)
    age(folder, hours=100)
    record = write_segment(store, sample_pack())  # nobody named it, so the mark is there still

    counts = vacuum(store, grace_s=HOUR_S)

    assert (counts.num_removed, counts.num_waiting) == (0, 2)
    assert store.exists(record.pack.key)


def test_what_a_killed_job_left_is_marked_and_goes_the_next_time(store: Store, folder: Path) -> None:
    write_segment(store, sample_pack())
    (folder / ".tmp" / "half").write_bytes(b"half an object")
    age(folder, hours=100)

    first = vacuum(store, grace_s=HOUR_S)
    age(folder, hours=2)
    second = vacuum(store, grace_s=HOUR_S)

    assert (first.num_removed, first.num_waiting) == (1, 2)
    assert (second.num_removed, second.num_waiting) == (2, 0)
    assert list(verify_vault(store)) == []


def test_without_grace_all_goes_at_once(store: Store) -> None:
    manifest = store_video(store)
    store_detections(store, manifest)
    retire_all(store, manifest)

    counts = vacuum(store, grace_s=0)

    assert counts.num_waiting == 0
    assert counts.removed_bytes > sum(record.pack.size_bytes for record in manifest.segments)
    assert keys_of(store, "packs", "frames", "detections", "tombstones") == []
    assert list(verify_vault(store)) == []


def test_findings_go_with_their_segment_and_the_others_stay(store: Store) -> None:
    manifest = store_video(store)
    store_detections(store, manifest)
    first, second = manifest.segments
    retire_segments(store, manifest.video_id, run_fp=RUN_FP, segment_ids=[first.segment_id], reason="moved")

    vacuum(store, grace_s=0)

    assert len(keys_of(store, "detections")) == 1
    rows = connect(store).sql("SELECT DISTINCT segment_id FROM all_detections").to_pylist()
    assert rows == [{"segment_id": second.segment_id}]
    assert list(verify_vault(store)) == []


def test_findings_that_went_with_their_frames_stay_when_the_old_packs_go(store: Store) -> None:
    manifest = store_video(store)
    found = store_detections(store, manifest)
    renamed = [write_segment(store, sample_pack("a.mp4", segment)) for segment in range(2)]
    names = {record.segment_id: sample_id("thin", record.segment_id) for record in renamed}
    moved = rename_segments(store, manifest, names)

    carry_findings(store, manifest.video_id, old_run=RUN_FP, new_run=NEW_RUN, segment_ids=names)
    carry_findings(store, manifest.video_id, old_run=RUN_FP, new_run=NEW_RUN, segment_ids=names)
    retire_all(store, manifest)
    vacuum(store, grace_s=0)

    assert len(keys_of(store, f"manifests/{manifest.video_id}/detections")) == 1
    rows = connect(store).sql("SELECT segment_id, run_fp, count(*) AS objects FROM all_detections GROUP BY ALL")
    assert {row["segment_id"]: row["objects"] for row in rows.to_pylist()} == {
        names[part.segment_id]: part.num_detections for part in found.parts
    }
    assert set(rows["run_fp"].to_pylist()) == {moved.run_fp}
    assert list(verify_vault(store)) == []


@pytest.mark.parametrize("kind", FACT_KINDS)
def test_facts_of_every_kind_go_with_their_segment_or_their_frames(store: Store, kind: FactKind) -> None:
    manifest = store_video(store)
    store_facts(store, manifest)
    renamed = manifest.segments[0]
    names = {renamed.segment_id: sample_id("thin", renamed.segment_id)}
    rename_segments(store, replace(manifest, segments=(renamed,)), names)
    carry_findings(store, manifest.video_id, old_run=RUN_FP, new_run=NEW_RUN, segment_ids=names)
    retire_all(store, manifest)

    vacuum(store, grace_s=0)

    (found,) = load_fact_manifests(store, kind)
    assert (found.run_fp, [part.segment_id for part in found.parts]) == (NEW_RUN, [names[renamed.segment_id]])
    assert keys_of(store, kind) == [facts_key(kind, MODEL_FP, renamed.segment_id)]
    assert list(verify_vault(store)) == []


def rename_segments(store: Store, manifest: VideoManifest, names: dict[str, str]) -> VideoManifest:
    """Store a video's segments again, under other ids, as another run."""
    from framevault.storage.packs import PackWriter, read_pack

    records = []
    for record in manifest.segments:
        pack = read_pack(store.read(record.pack.key))
        writer = PackWriter(replace(pack.header, segment_id=names[record.segment_id]))
        for frame in pack.frames:
            writer.add(
                pack.payload(frame.frame_number),
                pts=frame.pts,
                is_keyframe=frame.is_keyframe,
                is_independent=frame.is_independent,
            )
        records.append(write_segment(store, writer.finish()))
    moved = replace(manifest, run_fp=NEW_RUN, segments=tuple(records))
    commit_video(store, moved)
    return moved


@pytest.mark.parametrize("take", [recover_segment, lambda store, _: write_segment(store, sample_pack())])
def test_a_writer_that_takes_up_old_objects_saves_them(
    store: Store, folder: Path, take: Callable[[Store, str], object]
) -> None:
    manifest = store_video(store, num_segments=1)
    (segment_id,) = retire_all(store, manifest)
    age(folder, hours=100)

    record = take(store, segment_id)
    counts = vacuum(store, grace_s=HOUR_S)

    assert record == manifest.segments[0]
    assert counts.num_waiting == 2  # marked anew
    commit_video(store, manifest)
    age(folder, hours=100)
    vacuum(store, grace_s=HOUR_S)
    assert load_manifests(store)[0].segments == manifest.segments
    assert keys_of(store, "tombstones") == []
    assert list(verify_vault(store)) == []


@pytest.mark.parametrize("take", [recover_segment, lambda store, _: write_segment(store, sample_pack())])
def test_a_writer_can_not_take_up_what_is_being_removed(store: Store, take: Callable[[Store, str], object]) -> None:
    (segment_id,) = retire_all(store, store_video(store, num_segments=1))
    assert claim(store, segment_id)

    with pytest.raises(StoreUnavailableError, match=f"vacuum is removing segment {segment_id}; try again"):
        take(store, segment_id)


def test_a_vacuum_leaves_what_somebody_else_has_claimed(store: Store, folder: Path) -> None:
    (segment_id,) = retire_all(store, store_video(store, num_segments=1))
    age(folder, hours=100)
    assert claim(store, segment_id)

    counts = vacuum(store, grace_s=HOUR_S)

    assert counts.num_waiting == 2
    assert len(keys_of(store, "packs", "frames")) == 2


def test_a_segment_that_was_saved_between_look_and_claim_stays(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = store_video(store, num_segments=1)
    retire_all(store, manifest)
    age(folder, hours=100)

    def claim_late(store: Store, segment_id: str) -> bool:
        recover_segment(store, segment_id)
        return claim(store, segment_id)

    monkeypatch.setattr("framevault.storage.vacuum.claim", claim_late)
    vacuum(store, grace_s=HOUR_S)

    assert store.exists(manifest.segments[0].pack.key)
    assert keys_of(store, "tombstones") == []


@pytest.mark.parametrize("num_removals", range(9))
def test_a_vacuum_that_is_killed_anywhere_is_finished_by_the_next(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, num_removals: int
) -> None:
    """It removes an older manifest, findings and their manifest, frames, pack, mark and claim."""
    manifest, other = store_video(store, "a.mp4", num_segments=1), store_video(store, "b.mp4")
    store_detections(store, manifest)
    retire_all(store, manifest)
    age(folder, hours=100)
    remove = Store.remove
    removed: list[str] = []

    def remove_a_few(self: Store, key: str) -> None:
        if len(removed) == num_removals:
            raise KeyboardInterrupt
        removed.append(key)
        remove(self, key)

    monkeypatch.setattr(Store, "remove", remove_a_few)
    if num_removals < 7:
        with pytest.raises(KeyboardInterrupt):
            vacuum(store, grace_s=HOUR_S)
    else:
        vacuum(store, grace_s=HOUR_S)
    monkeypatch.undo()

    assert errors_of(store) == []
    assert load_manifests(store)[0].segments == other.segments
    age(folder, hours=100)
    vacuum(store, grace_s=HOUR_S)
    assert list(verify_vault(store)) == []
    assert len(keys_of(store, "packs", "frames", "detections", "tombstones")) == 4
    # And the segment can be stored again.
    commit_video(store, replace(manifest, segments=(write_segment(store, sample_pack("a.mp4", 0)),)))
    assert list(verify_vault(store)) == []


def test_a_segment_retired_anew_has_its_whole_grace_period(store: Store, folder: Path) -> None:
    """A mark from an earlier time, when it was named again without being taken up, does not count."""
    manifest = store_video(store, num_segments=1)
    retire_all(store, manifest)
    commit_video(store, manifest)
    age(folder, hours=100)
    retire_all(store, manifest)

    counts = vacuum(store, grace_s=HOUR_S)

    assert counts.num_waiting == 2


def test_nothing_goes_while_a_manifest_is_damaged(store: Store, folder: Path) -> None:
    (segment_id,) = retire_all(store, store_video(store, num_segments=1))
    other = store_video(store, "b.mp4")
    path = folder / other.key
    path.write_bytes(path.read_bytes()[:-5])
    before = keys_of(store, "")

    with pytest.raises(DamagedError, match=other.video_id):
        vacuum(store, grace_s=0)

    assert keys_of(store, "") == before
    assert store.exists(tombstone_key(segment_id, "mark"))


def test_nothing_goes_while_there_is_a_manifest_of_an_unknown_kind(store: Store) -> None:
    retire_all(store, store_video(store))
    store.create(f"manifests/{sample_id('a.mp4')}/faces/0.json", b"of a later version")
    before = keys_of(store, "")

    with pytest.raises(UnsupportedError, match=r"faces/0\.json is no manifest that this framevault knows"):
        vacuum(store, grace_s=0)

    assert keys_of(store, "") == before


def test_keys_that_are_not_ours_stay(store: Store) -> None:
    for key in ("notes.txt", "packs/README", "frames/x.parquet", "compacted/0.parquet"):
        store.create(key, b"mine")

    vacuum(store, grace_s=0)

    assert set(keys_of(store, "")) == {
        "vault.json", "notes.txt", "packs/README", "frames/x.parquet", "compacted/0.parquet",
    }  # fmt: skip


def test_damaged_tombstones_are_found(store: Store, folder: Path) -> None:
    segment_id = sample_id("a.mp4", 0)
    mark(store, segment_id)
    path = folder / tombstone_key(segment_id, "mark")
    other = {"segment_id": sample_id("b.mp4", 0), "created_at": "2026-01-01T00:00:00Z"}
    path.write_bytes(seal(other, kind="framevault mark", version=1))

    (finding,) = verify_vault(store)

    assert finding.kind == "damaged"
    assert sample_id("b.mp4", 0) in finding.problem


def test_a_store_that_can_not_be_written_is_said(read_only_folder: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=str(read_only_folder)):
        vacuum(Store(str(read_only_folder)), grace_s=0)


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_other_stores_tell_ages_and_remove(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = "memory:/" if kind == "memory" else request.getfixturevalue("s3_server").url
    url = f"{root}/{tmp_path.name}"
    store = open_vault(url, create=True)
    manifest = store_video(store)
    retire_all(store, manifest)

    kept = vacuum(store, grace_s=HOUR_S)
    gone = vacuum(store, grace_s=0)

    assert (kept.num_removed, kept.num_waiting) == (0, 4)
    assert gone.num_removed == 5
    assert list(verify_vault(store)) == []
