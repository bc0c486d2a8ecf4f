"""The columns of the stored tables, spelled out: once written, a column is never changed or reused."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from framevault.storage.errors import DamagedError
from framevault.storage.schema import (
    DETECTIONS_SCHEMA,
    FRAMES_SCHEMA,
    detections_table,
    detections_to_parquet,
    frames_table,
    frames_to_parquet,
    read_detections,
    read_frames,
)
from tests.storage.samples import LABELS, sample_detections

MOST_INDEX_BYTES_PER_FRAME = 12
"""The design's promise."""


def test_the_columns_of_a_frames_part_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in FRAMES_SCHEMA] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("size_bytes", "int32", False),
        ("is_keyframe", "bool", False),
        ("is_independent", "bool", False),
        ("is_outside", "bool", False),
    ]


def test_the_columns_of_a_detections_part_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in DETECTIONS_SCHEMA] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("label", "dictionary<values=string, indices=int32, ordered=0>", False),
        ("label_id", "int16", False),
        ("score", "float", False),
        ("x_min", "float", False),
        ("y_min", "float", False),
        ("x_max", "float", False),
        ("y_max", "float", False),
    ]


def test_frames_survive_being_stored() -> None:
    table = frames_table(
        [-5, 7, 2**62],
        size_bytes=[0, 100, 2**31 - 1],
        is_keyframe=[True, False, False],
        is_independent=[True, True, False],
    )

    assert read_frames("frames/x.parquet", frames_to_parquet(table)).equals(table)


def test_frames_outside_the_domain_are_a_column_only_where_there_are_some() -> None:
    without = frames_table([0, 1], size_bytes=[3, 4], is_keyframe=[True, False], is_independent=[True, True])
    with_some = without.set_column(5, "is_outside", pa.array([False, True]))

    payloads = [frames_to_parquet(table) for table in (without, with_some)]

    assert [pq.read_schema(io.BytesIO(payload)).names[5:] for payload in payloads] == [[], ["is_outside"]]
    assert [read_frames("x", payload)["is_outside"].to_pylist() for payload in payloads] == [
        [False, False],
        [False, True],
    ]


def test_detections_survive_being_stored() -> None:
    table = sample_detections(0)

    assert table.to_pylist()[2] == {
        "frame_number": 1,
        "pts": 1512,
        "label": "car",
        "label_id": 1,
        "score": np.float32(0.1),
        "x_min": 5.0,
        "y_min": 6.0,
        "x_max": 7.0,
        "y_max": 8.0,
    }
    stored = read_detections("detections/x.parquet", detections_to_parquet(table))
    assert stored.to_pylist() == table.to_pylist()
    assert stored.schema == DETECTIONS_SCHEMA


def test_a_segment_without_objects_has_an_empty_part() -> None:
    nothing = (np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    table = detections_table([(0, 5, *nothing), (1, 6, *nothing)], labels=LABELS)

    assert read_detections("x", detections_to_parquet(table)).num_rows == 0


def test_a_label_number_without_a_name_is_refused() -> None:
    row = (0, 5, np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([3]))

    with pytest.raises(IndexError, match="label numbers must be 0 to 2, got 3"):
        detections_table([row], labels=LABELS)


@pytest.mark.parametrize("num_frames", [128, 10_000])
def test_a_frames_part_takes_at_most_12_bytes_a_frame(num_frames: int) -> None:
    random = np.random.default_rng(0)
    pts = np.cumsum(random.integers(1001, 4004, num_frames))
    sizes = random.integers(100, 60_000, num_frames)

    keyframes, independent = random.random((2, num_frames)) < 0.5  # the dearest flags there are
    table = frames_table(
        pts.tolist(), size_bytes=sizes.tolist(), is_keyframe=keyframes.tolist(), is_independent=independent.tolist()
    )

    payload = frames_to_parquet(table)

    assert len(payload) <= MOST_INDEX_BYTES_PER_FRAME * num_frames


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"PAR1",
        b"x" * 1000,
        frames_to_parquet(frames_table([1], size_bytes=[2], is_keyframe=[True], is_independent=[True])),
    ],
)
def test_what_is_no_detections_part_is_named(payload: bytes) -> None:
    with pytest.raises(DamagedError, match=r"^detections/x\.parquet"):
        read_detections("detections/x.parquet", payload)


def to_parquet(table: pa.Table) -> bytes:
    """Write as other software might."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", data_page_version="1.0", row_group_size=2)
    return sink.getvalue()


def some_frames() -> pa.Table:
    flags = [True, False, False]
    return frames_table([5, 6, 8], size_bytes=[0, 1, 2], is_keyframe=flags, is_independent=flags)


def test_columns_that_nobody_knows_are_ignored_and_order_means_nothing() -> None:
    table = some_frames()
    more = table.append_column("zebra", pa.array([1.5, 2.5, 3.5])).select(
        ["zebra", "pts", "is_independent", "is_keyframe", "size_bytes", "frame_number"]
    )

    assert read_frames("x", to_parquet(more)).equals(table)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.drop_columns(["is_independent"]), "one column is_independent of type bool, has none"),
        (lambda table: table.append_column("pts", table["pts"]), "one column pts of type int64, has int64, int64"),
        (
            lambda table: table.set_column(1, "pts", table["pts"].cast(pa.int32())),
            "one column pts of type int64, has int32",
        ),
        (lambda table: table.set_column(1, "pts", pa.array([1, None, 3], pa.int64())), "no value may be missing"),
        (
            lambda table: table.set_column(5, "is_outside", table["pts"]),
            "one column is_outside of type bool, has int64",
        ),
        (lambda table: table.slice(1), "frame_number must be 0, 1, 2"),
        (lambda table: table.slice(0, 0), "frame_number must be 0, 1, 2"),
        (lambda table: table.set_column(1, "pts", pa.array([1, 1, 3], pa.int64())), "pts must rise"),
    ],
)
def test_a_frames_part_of_another_kind_is_refused_in_words(change: Callable[[pa.Table], pa.Table], reason: str) -> None:
    with pytest.raises(DamagedError, match=f"^frames/x: .*{reason}"):
        read_frames("frames/x", to_parquet(change(some_frames())))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("frame_number", [1, 0], "sorted by frame_number"),
        ("frame_number", [-1, 0], "sorted by frame_number"),
        ("score", [0.5, 1.5], "scores must be 0 to 1"),
        ("score", [0.5, float("nan")], "scores must be 0 to 1"),
        ("x_min", [0.0, 50.0], "boxes must be finite, with x_min <= x_max"),
        ("y_max", [float("inf"), 50.0], "boxes must be finite"),
        ("y_min", [float("nan"), 0.0], "boxes must be finite"),
    ],
)
def test_detections_with_impossible_values_are_refused_in_words(name: str, values: list[float], reason: str) -> None:
    table = sample_detections(0).slice(0, 2)
    number = table.schema.names.index(name)
    wrong = table.set_column(number, table.schema.field(name), pa.array(values, table.schema.field(name).type))

    with pytest.raises(DamagedError, match=f"^detections/x: .*{reason}"):
        read_detections("detections/x", detections_to_parquet(wrong))
