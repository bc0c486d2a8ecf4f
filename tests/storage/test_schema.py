"""The columns of the stored tables, spelled out: once written, a column is never changed or reused."""

from __future__ import annotations

import numpy as np
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
    table = frames_table([-5, 7, 2**62], size_bytes=[0, 100, 2**31 - 1], is_keyframe=[True, False, False])

    assert read_frames("frames/x.parquet", frames_to_parquet(table)).equals(table)


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

    payload = frames_to_parquet(frames_table(pts.tolist(), size_bytes=sizes.tolist(), is_keyframe=[False] * num_frames))

    assert len(payload) <= MOST_INDEX_BYTES_PER_FRAME * num_frames


@pytest.mark.parametrize(
    "payload", [b"", b"PAR1", b"x" * 1000, frames_to_parquet(frames_table([1], size_bytes=[2], is_keyframe=[True]))]
)
def test_what_is_no_detections_part_is_named(payload: bytes) -> None:
    with pytest.raises(DamagedError, match=r"^detections/x\.parquet"):
        read_detections("detections/x.parquet", payload)
