"""The columns of faces, spelled out: once written, a column is never changed or reused."""

from __future__ import annotations

import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from framevault.storage.errors import DamagedError
from framevault.storage.face_tables import (
    FACES_SCHEMA,
    FaceRow,
    faces_table,
    faces_to_parquet,
    find_face_fault,
    read_faces,
)
from framevault.storage.frame_facts import read_facts
from tests.storage.fact_samples import sample_faces

ROW = FaceRow(
    frame_number=3,
    pts=-7,
    face_number=0,
    x_min=-2.25,
    y_min=1e6,
    side=0.25,
    angle_degrees=358.59375,
    score=1.0,
    size_bytes=0,
    is_outside=True,
)


def test_the_columns_of_a_faces_part_are_these() -> None:
    assert [(field.name, str(field.type), field.nullable) for field in FACES_SCHEMA] == [
        ("frame_number", "int32", False),
        ("pts", "int64", False),
        ("face_number", "int16", False),
        ("x_min", "float", False),
        ("y_min", "float", False),
        ("side", "float", False),
        ("angle_degrees", "float", False),
        ("score", "float", False),
        ("size_bytes", "int32", False),
        ("is_outside", "bool", False),
    ]


def test_a_row_has_the_columns_of_the_schema() -> None:
    assert list(FaceRow._fields) == FACES_SCHEMA.names


def test_a_part_is_of_the_physical_types_that_the_format_names() -> None:
    file = pq.ParquetFile(io.BytesIO(faces_to_parquet(faces_table([ROW]))))
    columns = map(file.schema.column, range(len(FACES_SCHEMA)))

    assert {each.name: (each.physical_type, str(each.logical_type), each.max_definition_level) for each in columns} == {
        "frame_number": ("INT32", "None", 0),
        "pts": ("INT64", "None", 0),
        "face_number": ("INT32", "Int(bitWidth=16, isSigned=true)", 0),
        **dict.fromkeys(("x_min", "y_min", "side", "angle_degrees", "score"), ("FLOAT", "None", 0)),
        "size_bytes": ("INT32", "None", 0),
        "is_outside": ("BOOLEAN", "None", 0),
    }


@pytest.mark.parametrize("rows", [[], [ROW], [ROW, ROW._replace(face_number=1), ROW._replace(frame_number=9)]])
def test_faces_survive_being_stored(rows: list[FaceRow]) -> None:
    stored = read_facts("faces", "x", faces_to_parquet(faces_table(rows)), num_frames=10)

    assert stored.schema == FACES_SCHEMA
    assert [FaceRow(**row) for row in stored.to_pylist()] == rows


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"frame_number": 10}, "frame numbers must be 0 to 9"),
        ({"frame_number": -1}, "sorted by frame_number"),
        ({"face_number": 1}, "face_number must be 0, 1, 2"),
        ({"x_min": math.nan}, "squares must be finite"),
        ({"y_min": math.inf}, "squares must be finite"),
        ({"side": 0.0}, "with a side above 0"),
        ({"side": math.inf}, "squares must be finite"),
        ({"angle_degrees": 360.0}, "angle_degrees must be 0 to less than 360"),
        ({"angle_degrees": math.nan}, "angle_degrees must be 0 to less than 360"),
        ({"score": 1.5}, "scores must be 0 to 1"),
        ({"score": math.nan}, "scores must be 0 to 1"),
        ({"size_bytes": -1}, "size_bytes must not be negative"),
    ],
)
def test_impossible_faces_are_found(changed: dict[str, float], fault: str) -> None:
    table = faces_table([FaceRow(**{**ROW._asdict(), **changed})])

    found = find_face_fault(table, num_frames=10)

    assert found is not None
    assert fault in found
    with pytest.raises(DamagedError, match=f"part: .*{fault}"):
        read_facts("faces", "part", faces_to_parquet(table), num_frames=10)


@pytest.mark.parametrize("numbers", [[(0, 0), (0, 0)], [(0, 0), (0, 2)], [(0, 1)], [(1, 0), (2, 1)], [(2, 0), (1, 0)]])
def test_faces_of_a_frame_are_numbered_from_0_without_gaps(numbers: list[tuple[int, int]]) -> None:
    rows = [ROW._replace(frame_number=frame, face_number=face) for frame, face in numbers]

    assert find_face_fault(faces_table(rows), num_frames=10) is not None


def test_another_part_is_not_taken_for_faces() -> None:
    with pytest.raises(DamagedError, match="x: must have one column face_number"):
        read_faces("x", faces_to_parquet_without(sample_faces(0), "face_number"))
    with pytest.raises(DamagedError, match="x: must be Parquet"):
        read_faces("x", b"PAR1")


def faces_to_parquet_without(table: pa.Table, name: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.drop_columns([name]), sink, store_schema=False)
    return sink.getvalue()
