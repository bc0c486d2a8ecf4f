"""The Parquet part of vectors to search by, where a frame has any number of faces: its columns, to bytes and back.

As in `frame_tables.py`. It is no vectors part, since readers of those may rely on one row a frame. Letters in shapes:
K faces, P values of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from framevault.storage.face_tables import FACES_SCHEMA, find_square_fault
from framevault.storage.frame_tables import vector_column, vector_length, vectors_of
from framevault.storage.schema import from_parquet, to_parquet

SQUARE_COLUMNS = ("x_min", "y_min", "side")
"""Where a face is, as in a faces part: so that a search has to read one part."""


class FacePlace(NamedTuple):
    """Which face a vector is about: all of a row but the vector, in the order of its columns."""

    frame_number: int
    """Position of the frame in its segment."""
    pts: int
    """Of that frame."""
    face_number: int
    """Position of the face in the frame's stream."""
    x_min: float
    """Left border of its square before it is turned, in pixels of the upright frame."""
    y_min: float
    """Its upper border."""
    side: float
    """Length of its sides."""


def face_vectors_schema(length: int) -> pa.Schema:
    """Return the columns of vectors of so many values: the place of the face, and the vector as in a vectors part."""
    places = [FACES_SCHEMA.field(name) for name in FacePlace._fields]
    return pa.schema([*places, pa.field("vector", pa.binary(2 * length), nullable=False)])


def face_vectors_table(places: Sequence[FacePlace], vectors_kp: NDArray[np.float16]) -> pa.Table:
    """Return the rows of a segment's faces, which must be sorted by frame and face."""
    schema = face_vectors_schema(vectors_kp.shape[1])
    values = zip(*places, strict=True) if places else ([] for _ in FacePlace._fields)
    columns = [pa.array(list(column), type=each.type) for column, each in zip(values, schema, strict=False)]
    return pa.Table.from_arrays([*columns, vector_column(vectors_kp)], schema=schema)


def face_vectors_to_parquet(table: pa.Table) -> bytes:
    """Return a part of faces' vectors."""
    return to_parquet(
        table,
        use_dictionary=False,
        column_encoding={
            **dict.fromkeys(("frame_number", "pts", "face_number"), "DELTA_BINARY_PACKED"),
            **dict.fromkeys(SQUARE_COLUMNS, "BYTE_STREAM_SPLIT"),
            "vector": "PLAIN",
        },
    )


def read_face_vectors(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a part of faces' vectors, unchecked.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return from_parquet(key, payload, schema=face_vectors_schema(vector_length(key, payload)))


def find_face_vector_fault(table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with the vectors of faces; None if nothing is."""
    if fault := find_square_fault(table, num_frames=num_frames):
        return fault
    if not np.isfinite(vectors_of(table)).all():
        return "vectors must be finite"
    return None
