"""The Parquet parts: their columns, and how they become bytes and back.

A column once written is never changed or reused; `tests/storage/test_schema.py` spells them out. Parts are written
without statistics, page checksums and Arrow's own schema: a part is read whole, its checksum stands in the manifest,
and each of these costs more than the rows of a small segment.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from framevault.storage.errors import DamagedError

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("frame_number", pa.int32(), nullable=False),
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int32(), nullable=False),
        pa.field("is_keyframe", pa.bool_(), nullable=False),
    ]
)
"""One row a frame: position in the segment, pts in ticks of the source's time base, size of its stream, keyframe."""

DETECTIONS_SCHEMA = pa.schema(
    [
        pa.field("frame_number", pa.int32(), nullable=False),
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("label_id", pa.int16(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("x_min", pa.float32(), nullable=False),
        pa.field("y_min", pa.float32(), nullable=False),
        pa.field("x_max", pa.float32(), nullable=False),
        pa.field("y_max", pa.float32(), nullable=False),
    ]
)
"""One row an object: its frame, label (by name, and by number in the detector's list), score 0..1 and box.

Boxes are in pixels of the source's upright frame; y points down.
"""

BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
"""Columns of a box, in the order of an `xyxy` array."""

FrameDetections = tuple[int, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Of one frame: frame number, pts, boxes [K, 4] as xyxy, scores [K], label numbers [K]."""


def frames_table(pts: Sequence[int], *, size_bytes: Sequence[int], is_keyframe: Sequence[bool]) -> pa.Table:
    """Return the rows of a segment's frames, which are numbered from 0."""
    columns = [np.arange(len(pts), dtype=np.int32), pts, size_bytes, is_keyframe]
    return pa.Table.from_arrays(
        [pa.array(column, type=field.type) for column, field in zip(columns, FRAMES_SCHEMA, strict=True)],
        schema=FRAMES_SCHEMA,
    )


def detections_table(rows: Iterable[FrameDetections], *, labels: Sequence[str]) -> pa.Table:
    """Return the rows of a segment's detections.

    Args:
        rows: Each frame's number, pts, boxes [K, 4] as xyxy, scores [K] and label numbers [K]; K may be 0.
        labels: Names of the label numbers.

    Raises:
        IndexError: A label number has no name.
    """
    numbers: list[NDArray[Any]] = [np.empty(0, dtype=np.int32)]
    pts: list[NDArray[Any]] = [np.empty(0, dtype=np.int64)]
    boxes: list[NDArray[Any]] = [np.empty((0, 4), dtype=np.float32)]
    scores: list[NDArray[Any]] = [np.empty(0, dtype=np.float32)]
    label_ids: list[NDArray[Any]] = [np.empty(0, dtype=np.int16)]
    for frame_number, frame_pts, frame_boxes, frame_scores, frame_labels in rows:
        num_objects = len(frame_scores)
        numbers.append(np.full(num_objects, frame_number, dtype=np.int32))
        pts.append(np.full(num_objects, frame_pts, dtype=np.int64))
        boxes.append(np.asarray(frame_boxes, dtype=np.float32).reshape(num_objects, 4))
        scores.append(np.asarray(frame_scores, dtype=np.float32))
        label_ids.append(np.asarray(frame_labels, dtype=np.int16))
    found = np.concatenate(label_ids)
    if len(found) and not 0 <= found.min() <= found.max() < len(labels):
        raise IndexError(f"label numbers must be 0 to {len(labels) - 1}, got {found.min()} to {found.max()}")
    all_boxes = np.concatenate(boxes)
    columns = [
        pa.array(np.concatenate(numbers)),
        pa.array(np.concatenate(pts)),
        pa.DictionaryArray.from_arrays(pa.array(found.astype(np.int32)), pa.array(list(labels), type=pa.string())),
        pa.array(found),
        pa.array(np.concatenate(scores)),
        *(pa.array(np.ascontiguousarray(all_boxes[:, side])) for side in range(4)),
    ]
    return pa.Table.from_arrays(columns, schema=DETECTIONS_SCHEMA)


def frames_to_parquet(table: pa.Table) -> bytes:
    """Return a frames part; about 2 bytes a frame and 750 for the file."""
    return _to_parquet(
        table,
        use_dictionary=False,
        column_encoding={
            "frame_number": "DELTA_BINARY_PACKED",
            "pts": "DELTA_BINARY_PACKED",
            "size_bytes": "DELTA_BINARY_PACKED",
            "is_keyframe": "RLE",
        },
    )


def detections_to_parquet(table: pa.Table) -> bytes:
    """Return a detections part."""
    return _to_parquet(
        table,
        use_dictionary=["label"],
        column_encoding={
            "frame_number": "DELTA_BINARY_PACKED",
            "pts": "DELTA_BINARY_PACKED",
            "label_id": "DELTA_BINARY_PACKED",
            **dict.fromkeys(("score", *BOX_COLUMNS), "BYTE_STREAM_SPLIT"),
        },
    )


def read_frames(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a frames part.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return _from_parquet(key, payload, schema=FRAMES_SCHEMA)


def read_detections(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a detections part.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return _from_parquet(key, payload, schema=DETECTIONS_SCHEMA)


def _to_parquet(table: pa.Table, *, use_dictionary: bool | list[str], column_encoding: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=use_dictionary,
        column_encoding=column_encoding,
        data_page_version="2.0",
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue()


def _from_parquet(key: str, payload: bytes, *, schema: pa.Schema) -> pa.Table:
    try:
        # Not `pq.read_table`: that one imports pandas, which takes longer than most queries.
        table = pq.ParquetFile(io.BytesIO(payload)).read()
        if table.schema.names != schema.names:
            raise DamagedError(f"{key}: columns must be {schema.names}, are {table.schema.names}")
        if any(column.null_count for column in table.columns):
            raise DamagedError(f"{key}: no value may be missing")
        return table.cast(schema)
    except DamagedError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"{key}: must be Parquet with the columns {schema.names}: {error}") from error
