"""Segments and manifests: written last, merged, and taken as they are when they are there already."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from framevault.storage.documents import seal
from framevault.storage.errors import ChecksumError, DamagedError, PackError, UnsupportedError
from framevault.storage.index import (
    commit_video,
    find_manifest,
    load_manifests,
    recover_segment,
    write_segment,
)
from framevault.storage.names import add_name, load_names
from framevault.storage.packs import read_pack
from framevault.storage.schema import frames_table, frames_to_parquet, read_frames
from framevault.storage.store import ObjectRef, Store
from framevault.storage.vault import open_vault
from tests.storage.samples import (
    RUN_FP,
    missing_segment,
    sample_id,
    sample_manifest,
    sample_pack,
    store_video,
)


@pytest.fixture
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


def test_a_segment_is_a_pack_and_a_frames_part(store: Store) -> None:
    data = sample_pack()
    segment_id = sample_id("a.mp4", 0)

    record = write_segment(store, data)

    assert record.segment_id == segment_id
    assert record.pack == ObjectRef.of(f"packs/{segment_id[:2]}/{segment_id}.fvp", data)
    assert store.read_checked(record.pack) == data
    frames = read_frames("x", store.read_checked(record.frames))
    pack = read_pack(data)
    assert record.frames.key == f"frames/{segment_id}.parquet"
    assert frames["pts"].to_pylist() == [frame.pts for frame in pack.frames]
    assert frames["size_bytes"].to_pylist() == [frame.length for frame in pack.frames]
    assert frames["is_keyframe"].to_pylist() == [True] + [False] * 9
    assert frames["is_independent"].to_pylist() == [number % 4 == 0 for number in range(10)]
    assert (record.first_pts, record.last_pts, record.num_frames) == (1000, 1000 + 9 * 512, 10)
    assert record.payload_bytes == sum(frame.length for frame in pack.frames)
    assert pickle.loads(pickle.dumps(record)) == record


def test_who_finds_the_pack_there_takes_it_as_it_is(store: Store) -> None:
    first = write_segment(store, sample_pack(seed=1))

    second = write_segment(store, sample_pack(seed=2))

    assert second == first
    assert store.read(first.pack.key) == sample_pack(seed=1)


def test_the_frames_part_is_made_from_the_stored_pack(store: Store) -> None:
    stored = sample_pack(seed=1)
    key = f"packs/{sample_id('a.mp4', 0)[:2]}/{sample_id('a.mp4', 0)}.fvp"
    store.create(key, stored)  # its writer was killed before the frames part

    record = write_segment(store, sample_pack(seed=2))

    sizes = read_frames("x", store.read_checked(record.frames))["size_bytes"].to_pylist()
    assert sizes == [frame.length for frame in read_pack(stored).frames]
    assert record.pack == ObjectRef.of(key, stored)


def test_a_damaged_pack_that_is_there_is_an_error_that_names_it(store: Store) -> None:
    data = bytearray(sample_pack(seed=1))
    data[read_pack(bytes(data)).frames[3].offset] ^= 1
    key = f"packs/{sample_id('a.mp4', 0)[:2]}/{sample_id('a.mp4', 0)}.fvp"
    store.create(key, bytes(data))

    with pytest.raises(DamagedError, match=f"{key}: frame 3 must have CRC32C"):
        write_segment(store, sample_pack(seed=2))
    with pytest.raises(DamagedError, match=f"{key}: frame 3 must have CRC32C"):
        recover_segment(store, sample_id("a.mp4", 0))


def test_a_pack_of_other_frames_under_the_same_key_is_an_error(store: Store) -> None:
    write_segment(store, sample_pack(num_frames=9))

    with pytest.raises(DamagedError, match="holds other frames than the same segment encoded again"):
        write_segment(store, sample_pack(num_frames=10))


def test_a_pack_under_another_segments_key_is_an_error(store: Store) -> None:
    segment_id = sample_id("a.mp4", 1)
    store.create(f"packs/{segment_id[:2]}/{segment_id}.fvp", sample_pack(segment=0))

    with pytest.raises(DamagedError, match=f"holds the pack of segment {sample_id('a.mp4', 0)}"):
        recover_segment(store, segment_id)


def test_a_frames_part_with_other_rows_is_an_error_that_names_it(store: Store) -> None:
    key = f"frames/{sample_id('a.mp4', 0)}.parquet"
    store.create(key, frames_to_parquet(frames_table([1], size_bytes=[2], is_keyframe=[True], is_independent=[True])))

    with pytest.raises(DamagedError, match=f"{key} has other rows than the table of packs/"):
        write_segment(store, sample_pack())


def test_a_damaged_pack_is_never_written(store: Store) -> None:
    data = bytearray(sample_pack())
    data[read_pack(bytes(data)).frames[3].offset] ^= 1

    with pytest.raises(PackError, match="the given pack: frame 3"):
        write_segment(store, bytes(data))

    assert list(store.list()) == ["vault.json"]


def test_a_stored_segment_is_found_again_without_a_manifest(store: Store) -> None:
    record = write_segment(store, sample_pack())

    assert recover_segment(store, record.segment_id) == record
    assert recover_segment(store, sample_id("never stored")) is None


def test_a_manifest_survives_being_stored(store: Store) -> None:
    records = (write_segment(store, sample_pack()),)
    manifest = sample_manifest(records, missing=(missing_segment(),))

    key = commit_video(store, manifest)

    assert key == f"manifests/{manifest.video_id}/{RUN_FP}-0000.json"
    found = find_manifest(store, manifest.video_id, RUN_FP)
    assert found == manifest
    assert found is not None
    assert found.created_at == manifest.created_at
    assert not found.is_complete
    assert load_manifests(store) == [manifest]


def test_a_video_is_invisible_before_its_manifest(store: Store) -> None:
    write_segment(store, sample_pack())

    assert load_manifests(store) == []
    assert find_manifest(store, sample_id("a.mp4"), RUN_FP) is None


def test_committing_the_same_again_changes_nothing_whatever_the_time_and_the_place(store: Store) -> None:
    manifest = store_video(store)
    before = list(store.list())

    later = replace(manifest, created_at="2033-01-01T00:00:00Z", source_url="/moved/a.mp4", source_version="x")
    key = commit_video(store, later)

    assert key.endswith("-0000.json")
    assert list(store.list()) == before


def test_a_later_run_adds_segments_and_fills_gaps(store: Store) -> None:
    records = [write_segment(store, sample_pack(segment=segment)) for segment in range(4)]
    gap = replace(missing_segment(), segment_id=records[2].segment_id)

    commit_video(store, sample_manifest((records[0],), missing=(gap,)))
    commit_video(store, sample_manifest((records[3], records[1]), missing=(gap,)))
    partly = find_manifest(store, sample_id("a.mp4"), RUN_FP)
    key = commit_video(store, sample_manifest((records[2],)))
    complete = find_manifest(store, sample_id("a.mp4"), RUN_FP)

    assert partly is not None
    assert (partly.segments, partly.missing) == ((records[0], records[1], records[3]), (gap,))
    assert complete is not None
    assert (complete.segments, complete.missing, complete.is_complete) == (tuple(records), (), True)
    assert key.endswith("-0002.json")
    assert complete.generation == 2


def test_a_stored_segment_is_never_missing_again(store: Store) -> None:
    manifest = store_video(store)
    gap = replace(missing_segment(), segment_id=manifest.segments[0].segment_id)

    commit_video(store, replace(manifest, segments=(manifest.segments[1],), missing=(gap,)))

    assert find_manifest(store, manifest.video_id, RUN_FP) == manifest


def test_writers_at_once_end_with_the_segments_of_all(store: Store) -> None:
    records = [write_segment(store, sample_pack(segment=segment)) for segment in range(12)]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda record: commit_video(store, sample_manifest((record,))), records))

    found = find_manifest(store, sample_id("a.mp4"), RUN_FP)
    assert found is not None
    assert found.segments == tuple(records)
    assert found.generation == 11


def test_generations_are_numbers_not_words(store: Store) -> None:
    manifest = store_video(store)
    beyond = replace(manifest, segments=(), generation=12_345)
    store.create(beyond.key, beyond.to_document())

    found = find_manifest(store, manifest.video_id, RUN_FP)

    assert found is not None
    assert found.generation == 12_345


def test_a_manifest_under_another_key_is_an_error(store: Store) -> None:
    manifest = store_video(store)
    store.create(f"manifests/{'0' * 32}/{RUN_FP}-0000.json", manifest.to_document())

    with pytest.raises(DamagedError, match=f"holds the manifest of {manifest.key}"):
        load_manifests(store)


def test_a_damaged_manifest_is_named(store: Store) -> None:
    manifest = store_video(store)
    key = replace(manifest, generation=1).key
    store.create(key, replace(manifest, generation=1).to_document().replace(b"h264", b"h265"))

    with pytest.raises(ChecksumError, match=key):
        find_manifest(store, manifest.video_id, RUN_FP)


def test_a_source_under_two_names_is_found_under_both(store: Store) -> None:
    manifest = store_video(store, "a.mp4")

    for _ in range(2):
        add_name(store, manifest.video_id, name="other/Ä b.mp4", source_url="/other/Ä b.mp4")

    assert load_names(store) == {manifest.video_id: ("a.mp4", "other/Ä b.mp4")}
    assert len(list(store.list("names"))) == 2
    assert len(list(store.list("packs"))) == 2


def stored_with(store: Store, change: Callable[[dict[str, Any]], object]) -> str:
    """Store a manifest whose members were changed, with a right checksum; return its key."""
    manifest = replace(store_video(store), missing=(missing_segment(),), generation=1)
    members = json.loads(manifest.to_document())
    del members["crc32c"]
    change(members)
    return store.create(manifest.key, seal(members, kind="framevault manifest", version=1)).key


def test_members_of_a_manifest_that_nobody_knows_are_ignored(store: Store) -> None:
    def add(members: dict[str, Any]) -> None:
        members["zebra"] = {"crc32c": [1]}
        members["segments"][0]["zebra"] = None

    key = stored_with(store, add)

    found = find_manifest(store, sample_id("a.mp4"), RUN_FP)
    assert found is not None
    assert found.key == key
    assert len(found.segments) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda members: members["segments"].reverse(), "segments must be sorted by first_pts"),
        (lambda members: members["missing"][0].update(segment_id=sample_id("a.mp4", 0)), "stands in it twice"),
        (lambda members: members["missing"][0].update(last_pts=0), "ends before it begins"),
        (lambda members: members["segments"][0].update(video_id="0" * 32), "of another video"),
        (lambda members: members["segments"][0].update(num_frames=2**24 + 1), "num_frames must be an integer from 1"),
        (lambda members: members.update(bitstream_version=0), "bitstream_version must be an integer from 1 to 65535"),
        (lambda members: members.update(width=2**31), "width must be an integer from 1 to 1048576"),
        (lambda members: members.update(created_at="today"), "created_at must be a time"),
        (lambda members: members.update(codec="RAW"), "codec must be a name"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_the_limits_is_an_error_that_names_it(
    store: Store, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    key = stored_with(store, change)

    with pytest.raises(DamagedError, match=f"{key}.*{reason}"):
        find_manifest(store, sample_id("a.mp4"), RUN_FP)


def test_a_pack_that_this_version_does_not_know_is_left_alone_and_named(store: Store) -> None:
    data = bytearray(sample_pack())
    data[4] = 2
    key = f"packs/{sample_id('a.mp4', 0)[:2]}/{sample_id('a.mp4', 0)}.fvp"
    store.create(key, bytes(data))

    with pytest.raises(UnsupportedError, match=f"{key}: is a pack of version 2, this framevault reads version 1"):
        write_segment(store, sample_pack())
