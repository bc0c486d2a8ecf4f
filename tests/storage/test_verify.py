"""Whatever is wrong with a vault is found and named, by looking at all of it and by reading."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from framevault.storage.detections import commit_detections
from framevault.storage.documents import JsonValue, seal
from framevault.storage.errors import DamagedError
from framevault.storage.index import MANIFEST_KEY, commit_video, latest_manifest_keys, read_manifest, write_segment
from framevault.storage.packs import PackWriter, read_pack
from framevault.storage.query import VIEWS, connect
from framevault.storage.schema import frames_table, frames_to_parquet
from framevault.storage.store import ObjectRef, Store
from framevault.storage.vault import open_vault
from framevault.storage.verify import Finding, VerifyCounts, verify_vault
from tests.storage.samples import (
    make_vault,
    pack_header,
    sample_id,
    sample_manifest,
    sample_pack,
    store_detections,
    store_video,
)

KINDS = ("vault.json", "packs", "frames", "detections", "manifests", "names", "quarantine")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with one of everything, made once: a copy needs no fsync."""
    path = tmp_path_factory.mktemp("template") / "vault"
    make_vault(str(path))
    return path


@pytest.fixture
def vault(template: Path, tmp_path: Path) -> Path:
    """The folder of a vault that a test may spoil."""
    return Path(shutil.copytree(template, tmp_path / "vault"))


@pytest.fixture
def store(vault: Path) -> Store:
    return open_vault(str(vault), create=False)


def read_everything(url: str) -> None:
    """Read all of a vault as the commands do."""
    store = open_vault(url, create=False)
    query = connect(store)
    for view in VIEWS:
        query.sql(f"SELECT * FROM {view}")
    for key in latest_manifest_keys(list(store.list("manifests"))):
        for segment in read_manifest(store, key).segments:
            read_pack(store.read_checked(segment.pack), key=segment.pack.key).check_payloads()


def errors(store: Store) -> list[Finding]:
    return [finding for finding in verify_vault(store) if finding.is_error]


def test_a_sound_vault_is_clean_and_counted(store: Store, vault: Path) -> None:
    counts = VerifyCounts()

    assert list(verify_vault(store, counts=counts)) == []

    keys = list(store.list())
    assert counts == VerifyCounts(
        num_videos=2,
        num_segments=4,
        num_frames=40,
        num_detections=30,
        num_objects=len(keys),
        num_bytes=counts.num_bytes,
    )
    parts = [key for key in keys if key.partition("/")[0] in {"packs", "frames", "detections"}]
    assert counts.num_bytes == sum(len(store.read(key)) for key in parts)


@pytest.mark.parametrize("position", [0.0, 0.13, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_in_any_object_is_found_by_verifying_and_by_reading(
    store: Store, vault: Path, kind: str, position: float
) -> None:
    keys = [kind] if kind == "vault.json" else list(store.list(kind))
    superseded = set(filter(MANIFEST_KEY.fullmatch, keys)) - set(latest_manifest_keys(keys))
    for key in keys:
        path = vault / key
        data = path.read_bytes()
        damaged = bytearray(data)
        damaged[round(position * (len(data) - 1))] ^= 0x55
        path.write_bytes(damaged)

        found = errors(store)
        with contextlib.nullcontext() if key in superseded else pytest.raises(DamagedError, match=key):
            read_everything(str(vault))

        assert key in {finding.key for finding in found}
        assert all(key in finding.problem for finding in found if finding.key == key)
        path.write_bytes(data)
    assert errors(store) == []


@pytest.mark.parametrize("kind", ["vault.json", "packs", "frames", "detections"])
def test_a_missing_object_is_found_and_named(store: Store, vault: Path, kind: str) -> None:
    keys = [kind] if kind == "vault.json" else list(store.list(kind))
    for key in keys:
        data = (vault / key).read_bytes()
        (vault / key).unlink()

        found = errors(store)

        assert [finding.key for finding in found if finding.kind == "missing"] == [key]
        (vault / key).write_bytes(data)


def test_all_that_is_wrong_is_found_in_one_go(store: Store, vault: Path) -> None:
    keys = list(store.list("packs"))
    for key in keys:
        (vault / key).write_bytes(b"x")

    found = errors(store)

    assert {finding.key for finding in found if finding.key.startswith("packs/")} == set(keys)


def test_a_segment_without_a_manifest_is_information(store: Store, vault: Path) -> None:
    record = write_segment(store, sample_pack(segment=7))
    counts = VerifyCounts()

    found = list(verify_vault(store, counts=counts))

    assert {(finding.key, finding.kind) for finding in found} == {
        (record.pack.key, "orphan"),
        (record.frames.key, "orphan"),
    }
    assert (counts.num_errors, counts.num_orphans) == (0, 2)


def test_a_damaged_segment_without_a_manifest_is_an_error_for_a_rerun_would_take_it(store: Store, vault: Path) -> None:
    record = write_segment(store, sample_pack(segment=7))
    path = vault / record.pack.key
    data = bytearray(path.read_bytes())
    data[read_pack(bytes(data)).frames[3].offset] ^= 1
    path.write_bytes(data)

    assert [finding.key for finding in errors(store) if "frame 3" in finding.problem]


def test_foreign_files_and_leftovers_are_information(store: Store, vault: Path) -> None:
    (vault / "README.txt").write_text("mine")
    (vault / ".tmp" / "1-x").write_bytes(b"half")

    found = [(finding.key, finding.kind, finding.is_error) for finding in verify_vault(store)]

    assert found == [("README.txt", "orphan", False), (".tmp/1-x", "leftover", False)]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: replace(record, num_frames=11),
        lambda record: replace(record, first_pts=0),
        lambda record: replace(record, payload_bytes=1),
        lambda record: replace(record, segment_id=sample_id("other")),
        lambda record: replace(record, video_id=sample_id("other")),
        lambda record: replace(record, frames=record.pack),
        lambda record: replace(record, pack=record.frames),
        lambda record: replace(record, pack=ObjectRef(key="vault.json", size_bytes=1, crc32c=0)),
    ],
)
def test_a_manifest_that_says_something_else_than_its_parts_is_found(change: Callable[..., object]) -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    record = change(write_segment(store, sample_pack()))
    commit_video(store, sample_manifest((record,)))  # type: ignore[arg-type] # `replace` in a lambda has no type

    assert errors(store)


@pytest.mark.parametrize(
    ("settings", "said", "problem"),
    [
        ({"slices": 2}, {"slices": 3}, "has not the 3 slices"),
        ({"slices": 2, "faces": {"slices": 3}}, {"slices": 2}, "has not the None slices of faces"),
        ({"faces": {"quality": 3}}, {"face_slices": 1}, "has not the 1 slices of faces"),
        ({"faces": 7}, {"face_slices": 1}, "has not the 1 slices of faces"),
    ],
)
def test_a_manifest_that_says_other_slices_than_its_packs_is_found(
    settings: dict[str, JsonValue], said: dict[str, int], problem: str
) -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    writer = PackWriter(replace(pack_header(), settings=settings))
    writer.add(b"stream", pts=1000, is_keyframe=True, is_independent=True)
    record = write_segment(store, writer.finish())
    commit_video(store, replace(sample_manifest((record,)), **said))  # type: ignore[arg-type]  # of all fields' types

    assert [problem in finding.problem for finding in errors(store)] == [True]


def test_a_frames_part_that_says_something_else_than_its_pack_is_found() -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    record = write_segment(store, sample_pack())
    other = store.create(
        "frames/other.parquet",
        frames_to_parquet(frames_table([1], size_bytes=[2], is_keyframe=[True], is_independent=[True])),
    )
    commit_video(store, sample_manifest((replace(record, frames=other),)))

    assert [finding.key for finding in errors(store)] == ["frames/other.parquet"]


def test_detections_that_say_something_else_than_the_video_are_found() -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    found = store_detections(store, store_video(store))
    first, second = found.parts
    commit_detections(store, replace(found, parts=(replace(first, part=second.part),)))
    commit_detections(store, replace(found, parts=(replace(first, num_detections=1),)))
    commit_detections(store, replace(found, parts=(replace(first, num_frames=99),)))
    commit_detections(store, replace(found, video_id=sample_id("unknown")))

    problems = [finding.problem for finding in errors(store)]

    assert len(problems) == 4
    assert sum("has other pts" in problem for problem in problems) == 1
    assert sum("says 1" in problem for problem in problems) == 1
    assert sum("must be about 10 frames" in problem for problem in problems) == 1
    assert sum("which has no readable manifest" in problem for problem in problems) == 1


def test_objects_of_another_version_are_errors_but_not_called_damaged(store: Store, vault: Path) -> None:
    (pack, *_), (name, *_) = store.list("packs"), store.list("names")
    data = bytearray((vault / pack).read_bytes())
    data[4] = 2
    record = write_segment(store, sample_pack(segment=7))
    orphan = bytearray((vault / record.pack.key).read_bytes())
    orphan[4] = 2
    (vault / record.pack.key).write_bytes(orphan)
    (vault / name).write_bytes(seal({}, kind="framevault name", version=9))

    found = {finding.key: finding for finding in errors(store)}

    assert found[name].kind == found[record.pack.key].kind == "unsupported"
    assert "version 9" in found[name].problem
    assert set(found) == {name, record.pack.key, record.frames.key}
    (vault / pack).write_bytes(data)
    assert [finding.kind for finding in errors(store) if finding.key == pack] == [
        "damaged"
    ]  # the manifest's CRC says so


def test_a_manifest_that_names_another_codec_version_than_its_packs_is_an_error(store: Store) -> None:
    manifest = store_video(store, "c.mp4")
    wrong = replace(manifest, bitstream_version=2, generation=1)
    store.create(wrong.key, wrong.to_document())

    found = errors(store)

    assert {finding.key for finding in found} == {segment.pack.key for segment in manifest.segments}
    assert all("is of another codec or time base" in finding.problem for finding in found)
