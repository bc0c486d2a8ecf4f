"""SQL over a vault."""

from __future__ import annotations

import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from framevault.storage.errors import ChecksumError, QueryError
from framevault.storage.index import commit_video, write_segment
from framevault.storage.names import add_name
from framevault.storage.quarantine import write_failure
from framevault.storage.query import VaultQuery, connect, locate_frames, select_frames
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from tests.storage.samples import (
    DETECTOR_FP,
    RUN_FP,
    make_vault,
    missing_segment,
    sample_failure,
    sample_id,
    sample_manifest,
    sample_pack,
    store_video,
)

VIDEO = {"video": "VARCHAR", "names": "VARCHAR[]", "video_id": "VARCHAR"}
OBJECT = {"score": "FLOAT", "x_min": "FLOAT", "y_min": "FLOAT", "x_max": "FLOAT", "y_max": "FLOAT"}
PLACE = {
    **VIDEO,
    "run_fp": "VARCHAR",
    "segment_id": "VARCHAR",
    "frame_number": "INTEGER",
    "video_frame": "BIGINT",
    "pts": "BIGINT",
    "time_s": "DOUBLE",
}
DETECTION = {
    **PLACE,
    "detector": "VARCHAR",
    "detector_fp": "VARCHAR",
    "label": "VARCHAR",
    "label_id": "SMALLINT",
    **OBJECT,
}

COLUMNS: dict[str, dict[str, str]] = {
    "videos": {
        **VIDEO,
        "run_fp": "VARCHAR",
        "source_url": "VARCHAR",
        "container": "VARCHAR",
        "source_codec": "VARCHAR",
        "codec": "VARCHAR",
        "bitstream_version": "INTEGER",
        "quality": "INTEGER",
        "slices": "INTEGER",
        "face_slices": "INTEGER",
        "sampling": "VARCHAR",
        "width": "INTEGER",
        "height": "INTEGER",
        "fps": "DOUBLE",
        "duration_s": "DOUBLE",
        "num_frames": "BIGINT",
        "num_missing_frames": "BIGINT",
        "num_segments": "INTEGER",
        "num_missing_segments": "INTEGER",
        "stored_bytes": "BIGINT",
        "source_bytes": "BIGINT",
        "is_complete": "BOOLEAN",
        "created_at": "VARCHAR",
        "ratio": "DOUBLE",
    },
    "names": {"video": "VARCHAR", "video_id": "VARCHAR"},
    "segments": {
        **VIDEO,
        "run_fp": "VARCHAR",
        "segment_id": "VARCHAR",
        "segment_number": "INTEGER",
        "first_pts": "BIGINT",
        "last_pts": "BIGINT",
        "start_time_s": "DOUBLE",
        "num_frames": "BIGINT",
        "payload_bytes": "BIGINT",
        "pack_bytes": "BIGINT",
        "frames_bytes": "BIGINT",
    },
    "frames": {
        **PLACE,
        "size_bytes": "INTEGER",
        "is_keyframe": "BOOLEAN",
        "is_independent": "BOOLEAN",
        "is_outside": "BOOLEAN",
    },
    "detections": DETECTION,
    "all_detections": DETECTION,
    "masks": {**DETECTION, "height": "INTEGER", "width": "INTEGER", "mask_rle": "VARCHAR"},
    "labels": {
        **PLACE,
        "model": "VARCHAR",
        "model_fp": "VARCHAR",
        "rank": "SMALLINT",
        "label": "VARCHAR",
        "label_id": "SMALLINT",
        "score": "FLOAT",
    },
    "faces": {
        **PLACE,
        "face_number": "SMALLINT",
        **dict.fromkeys(("x_min", "y_min", "x_max", "y_max", "angle_degrees", "score"), "FLOAT"),
        "size_bytes": "INTEGER",
        "is_outside": "BOOLEAN",
    },
    "failures": {
        "subject_id": "VARCHAR",
        "video": "VARCHAR",
        "video_id": "VARCHAR",
        "source_url": "VARCHAR",
        "category": "VARCHAR",
        "reason": "VARCHAR",
        "attempts": "INTEGER",
        "first_pts": "BIGINT",
        "last_pts": "BIGINT",
        "num_frames": "BIGINT",
        "command": "VARCHAR",
        "created_at": "VARCHAR",
        "is_resolved": "BOOLEAN",
    },
}
"""Columns of each view and their DuckDB types: what a user's saved queries rely on."""


@pytest.fixture
def store() -> Store:
    return make_vault(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def query(store: Store) -> VaultQuery:
    return connect(store)


def rows(query: VaultQuery, text: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in query.sql(text).to_pylist()]


@pytest.mark.parametrize("view", COLUMNS)
def test_the_columns_of_a_view_are_these(query: VaultQuery, view: str) -> None:
    described = query.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {view})").to_pylist()

    assert {row["column_name"]: row["column_type"] for row in described} == COLUMNS[view]


@pytest.mark.parametrize("view", COLUMNS)
def test_an_empty_vault_has_all_views_and_no_rows(view: str) -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)

    assert connect(store).sql(f"SELECT * FROM {view}").num_rows == 0


def test_videos_are_one_row_each_with_all_their_names(query: VaultQuery) -> None:
    found = rows(query, "SELECT video, names, num_frames, num_missing_frames, num_segments, is_complete FROM videos")

    assert found == [
        ("a.mp4", ["a.mp4", "copy of a.mp4"], 20, 0, 2, True),
        ("b.mp4", ["b.mp4"], 20, 10, 2, False),
    ]


def test_sizes_and_ratio_are_those_of_the_objects(query: VaultQuery, store: Store) -> None:
    parts = [*store.list("packs"), *store.list("frames")]

    ((stored_bytes, source_bytes),) = rows(query, "SELECT sum(stored_bytes), sum(source_bytes) FROM videos")
    ((worst,),) = rows(query, "SELECT max(abs(ratio - source_bytes / stored_bytes)) FROM videos")

    assert stored_bytes == sum(len(store.read(key)) for key in parts)
    assert source_bytes == 200_000
    assert worst == 0


def test_frames_know_their_place_in_segment_video_and_time(query: VaultQuery) -> None:
    found = rows(
        query,
        "SELECT segment_id, frame_number, video_frame, pts, round(time_s, 6), is_keyframe FROM frames "
        "WHERE video = 'a.mp4' AND frame_number < 2 ORDER BY video_frame",
    )

    assert found == [
        (sample_id("a.mp4", 0), 0, 0, 1000, 0.0, True),
        (sample_id("a.mp4", 0), 1, 1, 1512, 0.04, False),
        (sample_id("a.mp4", 1), 0, 10, 6120, 0.4, True),
        (sample_id("a.mp4", 1), 1, 11, 6632, 0.44, False),
    ]


def test_a_missing_segment_leaves_a_gap_in_the_numbers() -> None:
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    last = write_segment(store, sample_pack(segment=1))
    gap = replace(missing_segment(), segment_id=sample_id("a.mp4", 0), first_pts=1000, num_frames=7)
    commit_video(store, sample_manifest((last,), missing=(gap,)))

    found = rows(connect(store), "SELECT min(video_frame), min(time_s) FROM frames")

    assert found == [(7, pytest.approx(0.4))]


def test_detections_leave_out_what_is_not_sure_and_all_detections_does_not(query: VaultQuery) -> None:
    assert rows(query, "SELECT label, count(*) FROM detections GROUP BY 1") == [("person", 20)]
    assert rows(query, "SELECT label, count(*) FROM all_detections GROUP BY 1 ORDER BY 1") == [
        ("car", 10),
        ("person", 20),
    ]


def test_a_detection_knows_its_frame_and_its_box(query: VaultQuery) -> None:
    (row,) = query.sql("SELECT * FROM all_detections WHERE label = 'car' ORDER BY time_s LIMIT 1").to_pylist()

    assert row == {
        "video": "a.mp4",
        "names": ["a.mp4", "copy of a.mp4"],
        "video_id": sample_id("a.mp4"),
        "run_fp": RUN_FP,
        "segment_id": sample_id("a.mp4", 0),
        "frame_number": 1,
        "video_frame": 1,
        "pts": 1512,
        "time_s": pytest.approx(0.04),
        "detector": "mobilenet_v2",
        "detector_fp": DETECTOR_FP,
        "label": "car",
        "label_id": 1,
        "score": pytest.approx(0.1),
        "x_min": 5.0,
        "y_min": 6.0,
        "x_max": 7.0,
        "y_max": 8.0,
    }


def test_a_failure_is_resolved_when_its_segment_is_stored(store: Store) -> None:
    write_failure(store, replace(sample_failure(), subject_id=sample_id("a.mp4", 0)))

    found = rows(connect(store), "SELECT video, category, is_resolved FROM failures ORDER BY video")

    assert found == [("a.mp4", "input", True), ("b.mp4", "input", False)]


def test_a_name_that_is_no_text_does_no_harm(store: Store) -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    add_name(store, sample_id("a.mp4"), name=name, source_url=name)

    found = rows(connect(store), "SELECT video FROM names WHERE video LIKE 'caf%'")

    assert found == [("caf\\udce9.mp4",)]


@pytest.mark.parametrize(
    ("where", "num_frames"),
    [
        (None, 40),
        ("video = 'a.mp4'", 20),
        ("video = 'copy of a.mp4'", 20),
        ("video IN ('a.mp4', 'copy of a.mp4')", 20),
        ("video LIKE '%a.mp4' AND time_s < 0.1 -- the start", 3),
        ("is_keyframe", 4),
        ("is_independent", 12),
        ("video = 'none'", 0),
    ],
)
def test_a_condition_picks_frames_by_any_name_and_each_once(store: Store, where: str | None, num_frames: int) -> None:
    picked = select_frames(store, where)

    assert picked.column_names == ["segment_id", "frame_number"]
    assert len({tuple(row.values()) for row in picked.to_pylist()}) == picked.num_rows == num_frames


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT nonsense FROM videos", "nonsense"),
        ("SELEKT 1", "SELEKT"),
        ("SELECT * FROM no_such_view", "no_such_view"),
        ("", "single statement"),
        ("CREATE TABLE x (y INTEGER); DROP TABLE x", "single statement"),
        ("SET enable_external_access = true", "locked|configuration|cannot"),
    ],
)
def test_what_can_not_be_answered_is_an_error_with_duckdbs_message(query: VaultQuery, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        query.sql(text)


def test_sql_reaches_no_file_and_no_variable(query: VaultQuery, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    some_rows = query.sql("SELECT 1 AS a")

    for text in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/x.db'",
        "INSTALL httpfs",
        "SELECT * FROM some_rows",
    ):
        with pytest.raises(QueryError):
            query.sql(text)

    assert some_rows.num_rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_only_what_a_statement_names_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = store.read

    def note(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        reads.append(key)
        return read(key, start=start, length=length)

    monkeypatch.setattr(store, "read", note)
    query = connect(store)

    query.sql("SELECT count(*) FROM Videos")
    folders = {key.partition("/")[0] for key in reads}
    query.sql("WITH f AS (SELECT * FROM main.FRAMES) SELECT count(*) FROM f")

    assert folders == {"manifests", "names"}
    assert {key.partition("/")[0] for key in reads} == {"manifests", "names", "frames"}


def test_a_segment_without_manifest_is_invisible(store: Store) -> None:
    write_segment(store, sample_pack(segment=7))

    assert rows(connect(store), "SELECT count(*) FROM frames") == [(40,)]


def test_a_connection_keeps_its_state_and_a_later_one_sees_more(store: Store) -> None:
    query = connect(store)
    before = rows(query, "SELECT count(*) FROM videos")

    store_video(store, "c.mp4")

    assert rows(query, "SELECT count(*) FROM videos") == before == [(2,)]
    assert rows(connect(store), "SELECT count(*) FROM videos") == [(3,)]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    store = make_vault(str(tmp_path / "vault"))
    key = next(store.list("frames"))
    path = tmp_path / "vault" / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(ChecksumError, match=f"{key} must have CRC32C"):
        connect(store).sql("SELECT count(*) FROM frames")
    assert connect(store).sql("SELECT * FROM videos").num_rows == 2


def test_querying_a_local_vault_loads_neither_fsspec_nor_anything_heavy(tmp_path: Path) -> None:
    make_vault(str(tmp_path / "vault"))
    code = (
        "import sys\nfrom framevault.storage.query import connect\nfrom framevault.storage.vault import open_vault\n"
        "print(connect(open_vault(sys.argv[1], create=False)).sql('SELECT count(*) AS n FROM frames')['n'][0])\n"
        "print(*sorted({'torch', 'av', 'ray', 'fsspec', 's3fs', 'botocore', 'pandas'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vault")], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "40\n\n"


def test_frames_are_located_in_the_order_of_their_video(store: Store) -> None:
    rows = locate_frames(store, "video = 'a.mp4' and time_s >= 0.2").to_pylist()

    assert [row["video_frame"] for row in rows] == list(range(5, len(rows) + 5))
    assert list(rows[0]) == ["video_id", "run_fp", "segment_id", "frame_number", "video_frame", "pts"]
    assert [row["pts"] for row in rows] == [1000 + number * 512 for number in range(5, len(rows) + 5)]


def test_a_frame_of_a_video_with_two_names_is_located_once(store: Store) -> None:
    everything = locate_frames(store)

    places = {(row["run_fp"], row["segment_id"], row["frame_number"]) for row in everything.to_pylist()}
    assert len(places) == everything.num_rows == select_frames(store).num_rows
