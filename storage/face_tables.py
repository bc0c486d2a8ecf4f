"""The Parquet part that says which faces are in a segment's streams: its columns, and how they become bytes and back.

As in `frame_tables.py`. It holds nothing that the streams do not, and can be made again from them; a query needs none
of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from framevault.storage.frame_tables import find_number_fault
from framevault.storage.schema import column_values, from_parquet, to_parquet

FACES_SCHEMA = pa.schema(
    [
        pa.field("frame_number", pa.int32(), nullable=False),
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("face_number", pa.int16(), nullable=False),
        pa.field("x_min", pa.float32(), nullable=False),
        pa.field("y_min", pa.float32(), nullable=False),
        pa.field("side", pa.float32(), nullable=False),
        pa.field("angle_degrees", pa.float32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("size_bytes", pa.int32(), nullable=False),
        pa.field("is_outside", pa.bool_(), nullable=False),
    ]
)
"""One row a face: its place in the frame's stream from 0 on, its square, how sure it is, and how it is coded.

The square is in pixels of the upright frame, and may reach beyond its border; it is turned clockwise about its middle.
"""

_FLOATS = ("x_min", "y_min", "side", "angle_degrees", "score")


class FaceRow(NamedTuple):
    """One row of `FACES_SCHEMA`, in the order of its columns."""

    frame_number: int
    """Position of the frame in its segment."""
    pts: int
    """Of that frame."""
    face_number: int
    """Position of the face in the frame's stream."""
    x_min: float
    """Left border of the square before it is turned, in pixels."""
    y_min: float
    """Its upper border."""
    side: float
    """Length of its sides."""
    angle_degrees: float
    """How far it is turned clockwise, 0 to less than 360."""
    score: float
    """How sure it is that this is a face, 0 to 1."""
    size_bytes: int
    """Length of the face's own stream."""
    is_outside: bool
    """Whether what is restored of it differs from what it was by more than it should."""


def faces_table(rows: Sequence[FaceRow]) -> pa.Table:
    """Return the faces of a segment, which must be sorted by frame and face."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in FACES_SCHEMA)
    arrays = [pa.array(list(column), type=each.type) for column, each in zip(columns, FACES_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=FACES_SCHEMA)


def faces_to_parquet(table: pa.Table) -> bytes:
    """Return a faces part."""
    return to_parquet(
        table,
        use_dictionary=False,
        column_encoding={
            **dict.fromkeys(("frame_number", "pts", "face_number", "size_bytes"), "DELTA_BINARY_PACKED"),
            **dict.fromkeys(_FLOATS, "BYTE_STREAM_SPLIT"),
            "is_outside": "RLE",
        },
    )


def read_faces(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a faces part, unchecked.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return from_parquet(key, payload, schema=FACES_SCHEMA)


def find_face_fault(table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with faces; None if nothing is."""
    if fault := find_square_fault(table, num_frames=num_frames):
        return fault
    angle, score = (column_values(table, name) for name in ("angle_degrees", "score"))
    if not ((angle >= 0) & (angle < 360)).all():
        return "angle_degrees must be 0 to less than 360"
    if not ((score >= 0) & (score <= 1)).all():
        return "scores must be 0 to 1"
    if (column_values(table, "size_bytes") < 0).any():
        return "size_bytes must not be negative"
    return None


def find_square_fault(table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with a table's faces, as far as it is which they are and where; None if nothing is."""
    frames, faces = (column_values(table, name) for name in ("frame_number", "face_number"))
    if fault := find_number_fault(frames, num_frames=num_frames):
        return fault
    expected = np.where(frames[1:] == frames[:-1], faces[:-1].astype(np.int64) + 1, 0)
    if len(faces) and (faces[0] != 0 or not np.array_equal(faces[1:], expected)):
        return "face_number must be 0, 1, 2 and so on in a frame"
    x_min, y_min, side = (column_values(table, name) for name in ("x_min", "y_min", "side"))
    if not (np.isfinite(x_min) & np.isfinite(y_min) & np.isfinite(side) & (side > 0)).all():
        return "squares must be finite, with a side above 0"
    return None
