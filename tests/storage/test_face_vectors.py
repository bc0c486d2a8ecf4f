"""The columns of faces' vectors, spelled out: once written, a column is never changed or reused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from framevault.storage.errors import DamagedError
from framevault.storage.face_vectors import face_vectors_schema, face_vectors_table, face_vectors_to_parquet
from framevault.storage.frame_facts import read_facts
from framevault.storage.frame_tables import vectors_of, vectors_table, vectors_to_parquet
from tests.storage.fact_samples import LENGTH, sample_face_vectors, sample_pts, sample_vectors


def test_the_columns_of_a_part_of_faces_vectors_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in face_vectors_schema(48)] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("face_number", "int16", False),
        ("x_min", "float", False),
        ("y_min", "float", False),
        ("side", "float", False),
        ("vector", "fixed_size_binary[96]", False),
    ]


def test_vectors_of_faces_survive_being_stored() -> None:
    table = sample_face_vectors(0)

    stored = read_facts("face_vectors", "x", face_vectors_to_parquet(table), num_frames=10)

    assert stored.to_pylist() == table.to_pylist()
    assert stored.drop_columns(["vector"]).to_pylist()[2] == {
        "frame_number": 5,
        "pts": sample_pts(0)[5],
        "face_number": 1,
        "x_min": 18.5,
        "y_min": 4.25,
        "side": 16.0,
    }
    assert vectors_of(stored)[2].tolist() == [12, 13, 14, 15, 16, 17]


def test_a_segment_without_faces_has_a_part_without_rows() -> None:
    payload = face_vectors_to_parquet(face_vectors_table([], np.empty((0, LENGTH), np.float16)))

    stored = read_facts("face_vectors", "x", payload, num_frames=10)

    assert vectors_of(stored).shape == (0, LENGTH)


def test_vectors_of_frames_are_no_vectors_of_faces() -> None:
    payload = vectors_to_parquet(vectors_table(sample_pts(0), sample_vectors(0)))

    with pytest.raises(DamagedError, match="face_vectors/x: must have one column face_number"):
        read_facts("face_vectors", "face_vectors/x", payload)


def test_vectors_of_faces_are_damage_to_who_reads_them_as_vectors_of_frames() -> None:
    """So they are a kind of their own, which older readers ignore."""
    with pytest.raises(DamagedError, match="a frame must have one vector"):
        read_facts("vectors", "x", face_vectors_to_parquet(sample_face_vectors(0)))


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    position = table.schema.get_field_index(name)
    field = table.schema.field(position)
    return table.set_column(position, field, pa.array(values, field.type))


def infinite(table: pa.Table) -> pa.Table:
    vectors_kp = vectors_of(table).copy()
    vectors_kp[1, 2] = np.inf
    return with_column(table, "vector", [vector_p.tobytes() for vector_p in vectors_kp])


FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "not sorted": (lambda table: table.take(pa.array([2, 1, 0])), "sorted by frame_number"),
    "beyond the segment": (lambda table: with_column(table, "frame_number", [2, 10, 10]), "must be 0 to 9"),
    "twice the same face": (lambda table: with_column(table, "face_number", [0, 0, 0]), "0, 1, 2 and so on"),
    "beginning at 1": (lambda table: with_column(table, "face_number", [1, 0, 1]), "0, 1, 2 and so on"),
    "a square of no size": (lambda table: with_column(table, "side", [16, 0, 16]), "a side above 0"),
    "nowhere": (lambda table: with_column(table, "x_min", [16, float("nan"), 16]), "squares must be finite"),
    "not finite": (infinite, "vectors must be finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_impossible_vectors_of_faces_are_damage(fault: str) -> None:
    change, message = FAULTS[fault]

    with pytest.raises(DamagedError, match=f"face_vectors/x: .*{message}"):
        read_facts(
            "face_vectors", "face_vectors/x", face_vectors_to_parquet(change(sample_face_vectors(0))), num_frames=10
        )
