"""The Parquet parts that say something about whole frames: their columns, and how they become bytes and back.

As in `schema.py`: a column once written is never changed or reused, and a reader ignores columns that it does not know.
Letters in shapes: N frames, K labels a frame, P values of a vector.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from framevault.storage.errors import DamagedError
from framevault.storage.schema import column_values, from_parquet, to_parquet

LABELS_SCHEMA = pa.schema(
    [
        pa.field("frame_number", pa.int32(), nullable=False),
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("rank", pa.int16(), nullable=False),
        pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("label_id", pa.int16(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
"""One row a label of a frame: its place from 1 on, its name, its number in the model's list, and its score 0..1."""

LONGEST_VECTOR = 1 << 16
"""Values of a vector, at most."""


def vectors_schema(length: int) -> pa.Schema:
    """Return the columns of vectors of so many values: little-endian float16, one behind the other.

    Bytes, and no list: a flat column is read in one piece, and by every Parquet reader.
    """
    return pa.schema(
        [
            pa.field("frame_number", pa.int32(), nullable=False),
            pa.field("pts", pa.int64(), nullable=False),
            pa.field("vector", pa.binary(2 * length), nullable=False),
        ]
    )


def labels_table(
    pts: Sequence[int],
    *,
    label_ids_nk: NDArray[np.int64],
    scores_nk: NDArray[np.float32],
    labels: Sequence[str],
    frame_numbers: Sequence[int] | None = None,
) -> pa.Table:
    """Return the rows of a segment's labels.

    Args:
        pts: Of each frame.
        label_ids_nk: Numbers of each frame's labels, best first.
        scores_nk: Their scores, falling.
        labels: Names of the label numbers.
        frame_numbers: Of each frame; from 0 if not given.

    Raises:
        IndexError: A label number has no name.
    """
    num_frames, num_labels = label_ids_nk.shape
    ids = label_ids_nk.ravel()
    if len(ids) and not 0 <= ids.min() <= ids.max() < len(labels):
        raise IndexError(f"label numbers must be 0 to {len(labels) - 1}, got {ids.min()} to {ids.max()}")
    # The names that occur: all thousand of ImageNet's would outweigh a small segment's rows.
    used, positions = np.unique(ids, return_inverse=True)
    names = pa.array([labels[number] for number in used], type=pa.string())
    columns = [
        pa.array(np.repeat(_numbers(num_frames, frame_numbers), num_labels)),
        pa.array(np.repeat(np.asarray(pts, dtype=np.int64), num_labels)),
        pa.array(np.tile(np.arange(1, num_labels + 1, dtype=np.int16), num_frames)),
        pa.DictionaryArray.from_arrays(pa.array(positions.astype(np.int32)), names),
        pa.array(ids.astype(np.int16)),
        pa.array(scores_nk.astype(np.float32).ravel()),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS_SCHEMA)


def vectors_table(
    pts: Sequence[int], vectors_np: NDArray[np.float16], *, frame_numbers: Sequence[int] | None = None
) -> pa.Table:
    """Return the rows of a segment's vectors; arguments as `labels_table`."""
    num_frames, length = vectors_np.shape
    columns = [
        pa.array(_numbers(num_frames, frame_numbers)),
        pa.array(np.asarray(pts, dtype=np.int64)),
        vector_column(vectors_np),
    ]
    return pa.Table.from_arrays(columns, schema=vectors_schema(length))


def vector_column(vectors_np: NDArray[np.float16]) -> pa.Array:
    """Return vectors as they are stored."""
    content = pa.py_buffer(np.ascontiguousarray(vectors_np, dtype="<f2").tobytes())
    return pa.Array.from_buffers(pa.binary(2 * vectors_np.shape[1]), len(vectors_np), [None, content])


def _numbers(num_frames: int, frame_numbers: Sequence[int] | None) -> NDArray[np.int32]:
    return np.arange(num_frames, dtype=np.int32) if frame_numbers is None else np.asarray(frame_numbers, dtype=np.int32)


def vectors_of(table: pa.Table) -> NDArray[np.float16]:
    """Return the vectors of a part, [N, P]."""
    width = table.schema.field("vector").type.byte_width
    column = table["vector"].combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    values = np.frombuffer(
        chunk.buffers()[1] or b"", dtype="<f2", offset=chunk.offset * width, count=len(chunk) * width // 2
    )
    vectors_np: NDArray[np.float16] = values.reshape(len(chunk), width // 2)
    return vectors_np


def labels_to_parquet(table: pa.Table) -> bytes:
    """Return a labels part."""
    return to_parquet(
        table,
        use_dictionary=["label"],
        column_encoding={
            **dict.fromkeys(("frame_number", "pts", "rank", "label_id"), "DELTA_BINARY_PACKED"),
            "score": "BYTE_STREAM_SPLIT",
        },
    )


def vectors_to_parquet(table: pa.Table) -> bytes:
    """Return a vectors part."""
    encodings = {"frame_number": "DELTA_BINARY_PACKED", "pts": "DELTA_BINARY_PACKED", "vector": "PLAIN"}
    return to_parquet(table, use_dictionary=False, column_encoding=encodings)


def read_labels(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a labels part, unchecked.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return from_parquet(key, payload, schema=LABELS_SCHEMA)


def read_vectors(key: str, payload: bytes) -> pa.Table:
    """Return the rows of a vectors part, unchecked.

    Raises:
        DamagedError: It is not one; names the key.
    """
    return from_parquet(key, payload, schema=vectors_schema(vector_length(key, payload)))


def vector_length(key: str, payload: bytes) -> int:
    """Return how many values the vectors of a part have.

    Raises:
        DamagedError: It has no vectors; names the key.
    """
    try:
        schema = pq.ParquetFile(io.BytesIO(payload)).schema_arrow
        found = schema.field("vector").type
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DamagedError(f"{key}: must be Parquet with a column vector: {error}") from error
    if (
        not pa.types.is_fixed_size_binary(found)
        or found.byte_width % 2
        or not 2 <= found.byte_width <= 2 * LONGEST_VECTOR
    ):
        raise DamagedError(f"{key}: vector must be of fixed length, 2 bytes a value, is {found}")
    length: int = found.byte_width // 2
    return length


def find_label_fault(table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with labels; None if nothing is."""
    numbers, ranks, scores = (column_values(table, name) for name in ("frame_number", "rank", "score"))
    same_frame = numbers[1:] == numbers[:-1]
    if fault := find_number_fault(numbers, num_frames=num_frames):
        return fault
    expected = np.where(same_frame, ranks[:-1].astype(np.int64) + 1, 1)
    if len(ranks) and (ranks[0] != 1 or not np.array_equal(ranks[1:], expected)):
        return "ranks of a frame must be 1, 2, 3 and so on"
    if not ((scores >= 0) & (scores <= 1)).all() or (same_frame & (scores[1:] > scores[:-1])).any():
        return "scores must be 0 to 1, and fall with the rank"
    return None


def find_vector_fault(table: pa.Table, *, num_frames: int | None) -> str | None:
    """Say what is wrong with vectors; None if nothing is."""
    numbers = column_values(table, "frame_number")
    if fault := find_number_fault(numbers, num_frames=num_frames):
        return fault
    if (numbers[1:] == numbers[:-1]).any():
        return "a frame must have one vector"
    if not np.isfinite(vectors_of(table)).all():
        return "vectors must be finite"
    return None


def find_number_fault(numbers: NDArray[Any], *, num_frames: int | None) -> str | None:
    """Say what is wrong with the frame numbers of a part's rows; None if nothing is."""
    if (numbers < 0).any() or not (numbers[1:] >= numbers[:-1]).all():
        return "rows must be sorted by frame_number, which begins at 0"
    if num_frames is not None and len(numbers) and numbers[-1] >= num_frames:
        return f"frame numbers must be 0 to {num_frames - 1}"
    return None
