"""The Parquet parts: their columns, and how they become bytes and back.

A column once written is never changed or reused; `tests/storage/test_schema.py` spells them out. A reader ignores
columns that it does not know. Parts are written without statistics, page checksums and Arrow's own schema: a part is
read whole, its checksum stands in the manifest, and each of these costs more than the rows of a small segment.
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
        pa.field("is_independent", pa.bool_(), nullable=False),
        pa.field("is_outside", pa.bool_(), nullable=False),
    ]
)
"""One row a frame: position in the segment, pts in ticks of the source's time base, size of its stream, three flags.

A stored part has the last column only if a frame is outside the codec's domain.
"""

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

MASK_FIELD = pa.field("mask_rle", pa.string(), nullable=False)
"""The column of detections that have masks: COCO's compressed counts of a mask as large as the source's upright frame.

Parts of detectors that give boxes only have no such column.
"""

MASKED_DETECTIONS_SCHEMA = DETECTIONS_SCHEMA.append(MASK_FIELD)
"""One row an object, with its mask."""

BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
"""Columns of a box, in the order of an `xyxy` array."""

FrameDetections = tuple[int, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Of one frame: frame number, pts, boxes [K, 4] as xyxy, scores [K], label numbers [K]."""


def frames_table(
    pts: Sequence[int],
    *,
    size_bytes: Sequence[int],
    is_keyframe: Sequence[bool],
    is_independent: Sequence[bool],
    is_outside: Sequence[bool] | None = None,
) -> pa.Table:
    """Return the rows of a segment's frames, which are numbered from 0; unless it is said, none is outside."""
    outside = [False] * len(pts) if is_outside is None else is_outside
    columns = [np.arange(len(pts), dtype=np.int32), pts, size_bytes, is_keyframe, is_independent, outside]
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
    encodings = {
        "frame_number": "DELTA_BINARY_PACKED",
        "pts": "DELTA_BINARY_PACKED",
        "size_bytes": "DELTA_BINARY_PACKED",
        "is_keyframe": "RLE",
        "is_independent": "RLE",
    }
    if any(table["is_outside"].to_pylist()):
        return to_parquet(table, use_dictionary=False, column_encoding={**encodings, "is_outside": "RLE"})
    return to_parquet(table.drop_columns(["is_outside"]), use_dictionary=False, column_encoding=encodings)


def detections_to_parquet(table: pa.Table) -> bytes:
    """Return a detections part, with masks if the table has them."""
    return to_parquet(
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
    table = from_parquet(key, payload, schema=FRAMES_SCHEMA, may_lack="is_outside")
    numbers, pts = column_values(table, "frame_number"), column_values(table, "pts")
    if not len(numbers) or not np.array_equal(numbers, np.arange(len(numbers))):
        raise DamagedError(f"{key}: frame_number must be 0, 1, 2 and so on")
    if not (pts[1:] > pts[:-1]).all():
        raise DamagedError(f"{key}: pts must rise")
    return table


def read_detections(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a detections part.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return _read_objects(key, payload, schema=DETECTIONS_SCHEMA)


def read_masked_detections(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a detections part with masks, which are not looked into.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return _read_objects(key, payload, schema=MASKED_DETECTIONS_SCHEMA)


def _read_objects(key: str, payload: bytes, *, schema: pa.Schema) -> pa.Table:
    table = from_parquet(key, payload, schema=schema)
    if fault := find_fault(table):
        raise DamagedError(f"{key}: {fault}")
    return table


def with_masks(detections: pa.Table, masks: Sequence[str]) -> pa.Table:
    """Return detections with a mask each, in the order of the rows."""
    if len(masks) != detections.num_rows:
        raise ValueError(f"{detections.num_rows} detections must have as many masks, got {len(masks)}")
    return detections.append_column(MASK_FIELD, pa.array(list(masks), pa.string()))


def find_fault(detections: pa.Table) -> str | None:
    """Say what is wrong with the values of detections; None if nothing is."""
    numbers, scores = column_values(detections, "frame_number"), column_values(detections, "score")
    if (numbers < 0).any() or not (numbers[1:] >= numbers[:-1]).all():
        return "rows must be sorted by frame_number, which begins at 0"
    if not ((scores >= 0) & (scores <= 1)).all():
        return "scores must be 0 to 1"
    x_min, y_min, x_max, y_max = (column_values(detections, name) for name in BOX_COLUMNS)
    with np.errstate(invalid="ignore"):
        # The comparisons are false for NaN, and the differences NaN between infinities.
        if (
            not ((x_max - x_min >= 0) & (y_max - y_min >= 0)).all()
            or not np.isfinite(x_max - x_min + y_max - y_min).all()
        ):
            return "boxes must be finite, with x_min <= x_max and y_min <= y_max"
    return None


def to_parquet(table: pa.Table, *, use_dictionary: bool | list[str], column_encoding: dict[str, str]) -> bytes:
    """Return a table as a part."""
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


def from_parquet(key: str, payload: bytes, *, schema: pa.Schema, may_lack: str | None = None) -> pa.Table:
    """Return the columns of a schema that a part must have; others are ignored.

    Args:
        key: For messages.
        payload: The part.
        schema: Columns.
        may_lack: The last of them, if a part may be without it: then it is false everywhere.

    Raises:
        DamagedError: It is no Parquet, or a column is missing or of another type; names the key.
    """
    try:
        # Not `pq.read_table`: that one imports pandas, which takes longer than most queries.
        file = pq.ParquetFile(io.BytesIO(payload))
        is_lacking = may_lack is not None and may_lack not in file.schema_arrow.names
        needed = schema.remove(len(schema) - 1) if is_lacking else schema
        _check_columns(key, file.schema_arrow, schema=needed)
        table = file.read(columns=needed.names).select(needed.names)
        if any(column.null_count for column in table.columns):
            raise DamagedError(f"{key}: no value may be missing")
        if is_lacking:
            table = table.append_column(schema.field(may_lack), _all_false(table.num_rows))
        return table.cast(schema)
    except DamagedError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"{key}: must be Parquet with the columns {schema.names}: {error}") from error


def _all_false(length: int) -> pa.Array:
    """Return a column of booleans. Not `pa.array`: that one imports pandas, too."""
    return pa.Array.from_buffers(pa.bool_(), length, [None, pa.py_buffer(bytes((length + 7) // 8))])


def _check_columns(key: str, found: pa.Schema, *, schema: pa.Schema) -> None:
    for field in schema:
        # A dictionary is how a column is encoded, not what it holds.
        expected = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        types = [each.type for each in found if each.name == field.name]
        if types != [expected]:
            there = ", ".join(map(str, types)) or "none"
            raise DamagedError(f"{key}: must have one column {field.name} of type {expected}, has {there}")


def column_values(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column of numbers as an array."""
    # Not `to_numpy`: that one imports pandas, too.
    values: NDArray[Any] = np.from_dlpack(table[name].combine_chunks())
    return values
