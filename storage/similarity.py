"""The frames or faces whose vectors are nearest to a given one: exact, over every stored vector of one model.

Distance is 1 less the cosine of the angle: 0 for vectors of one direction, 1 for such that have nothing in common.
Letters in shapes: N frames or faces of a segment, P values of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from framevault.storage.face_vectors import SQUARE_COLUMNS
from framevault.storage.fact_rows import visible_facts
from framevault.storage.frame_facts import FactKind, FactPart, load_fact_manifests, load_facts
from framevault.storage.frame_tables import vectors_of
from framevault.storage.schema import column_values
from framevault.storage.store import Store
from framevault.storage.tables import PlacedSegment, VaultTables

MATCHES_SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("time_s", pa.float64()),
        ("distance", pa.float64()),
        ("video_frame", pa.int64()),
        ("segment_id", pa.string()),
        ("frame_number", pa.int32()),
    ]
)
"""One row a frame, nearest first."""

FACE_MATCHES_SCHEMA = pa.schema(
    [
        *MATCHES_SCHEMA,
        ("face_number", pa.int32()),
        ("x_min", pa.float64()),
        ("y_min", pa.float64()),
        ("x_max", pa.float64()),
        ("y_max", pa.float64()),
    ]
)
"""One row a face, nearest first: its place in the frame's stream and its square; null where the whole frame is a face.

The square is in pixels of the upright frame, and may reach beyond its border.
"""

FACE_KINDS: tuple[FactKind, ...] = ("vectors", "face_vectors")
"""Facts that hold vectors of faces: one a frame, and any number of a frame."""


@dataclass(frozen=True, slots=True, eq=False)
class _Distances:
    """The frames or faces of one segment that count, and how far they are."""

    place: PlacedSegment
    numbers_n: NDArray[np.int64]
    """Frame numbers."""
    times_n: NDArray[np.float64]
    """Seconds since the video's first frame."""
    distances_n: NDArray[np.float64]
    """From the given vector."""
    squares_n4: NDArray[np.float64] | None
    """Which face of its frame each is, and left, top and side of its square; None where whole frames were compared."""


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """One of the nearest."""

    found: _Distances
    """Of its segment."""
    position: int
    """Which of them it is."""


def find_similar(
    store: Store, vector_p: NDArray[np.float32], *, model_fp: str, frames: pa.Table, top: int, apart_s: float
) -> pa.Table:
    """Return the nearest frames.

    Args:
        store: The vault.
        vector_p: What frames are compared with.
        model_fp: Of the model that made it, and the stored vectors.
        frames: The frames that count: columns `segment_id` and `frame_number`.
        top: How many are returned, at most.
        apart_s: Of two frames of one video that are closer in time, only the nearer one is returned.

    Returns:
        Rows of `MATCHES_SCHEMA`.

    Raises:
        DamagedError: A part or manifest is damaged; names the key.
        ValueError: A stored vector has another length.
        StoreUnavailableError: The vault can't be read.
    """
    tables = VaultTables(store)
    found = list(_measure(tables, vector_p, "vectors", model_fp=model_fp, chosen=_numbers_by_segment(frames)))
    matches = _pick(found, top=top, apart_s=apart_s)
    return _to_table([_row(tables, match) for match in matches], MATCHES_SCHEMA)


def find_similar_faces(
    store: Store, vector_p: NDArray[np.float32], *, model_fp: str, frames: pa.Table, top: int, apart_s: float
) -> pa.Table:
    """Return the nearest faces, of frames that are one and of frames that have some; the others as of `find_similar`.

    Returns:
        Rows of `FACE_MATCHES_SCHEMA`.
    """
    tables = VaultTables(store)
    chosen = _numbers_by_segment(frames)
    found = [each for kind in FACE_KINDS for each in _measure(tables, vector_p, kind, model_fp=model_fp, chosen=chosen)]
    matches = _pick(found, top=top, apart_s=apart_s)
    return _to_table([(*_row(tables, match), *_square(match)) for match in matches], FACE_MATCHES_SCHEMA)


def _measure(
    tables: VaultTables,
    vector_p: NDArray[np.float32],
    kind: FactKind,
    *,
    model_fp: str,
    chosen: Mapping[str, NDArray[np.int64]],
) -> Iterator[_Distances]:
    """Give the distances of what is chosen of each segment, one segment in memory at a time."""
    entries = [
        (place, part)
        for place, manifest, part in visible_facts(tables, load_fact_manifests(tables.store, kind))
        if manifest.model_fp == model_fp and part.segment_id in chosen
    ]
    direction_p = _directions(vector_p[None])[0]
    videos = tables.video_rows().select(["start_pts", "time_base_numerator", "time_base_denominator"]).to_pydict()

    def measure(entry: tuple[PlacedSegment, FactPart]) -> _Distances:
        place, part = entry
        rows = load_facts(tables.store, kind, part)
        vectors_np = vectors_of(rows)
        if vectors_np.shape[1] != len(vector_p):
            raise ValueError(f"{part.part.key} has vectors of {vectors_np.shape[1]} values, expected {len(vector_p)}")
        numbers_n = column_values(rows, "frame_number").astype(np.int64)
        counts_n = np.isin(numbers_n, chosen[part.segment_id])
        number = place.video_number
        tick_s = videos["time_base_numerator"][number] / videos["time_base_denominator"][number]
        times_n = (column_values(rows, "pts") - videos["start_pts"][number]) * tick_s
        cosines_n = (_directions(vectors_np.astype(np.float32)) @ direction_p).astype(np.float64)
        distances_n = np.maximum(0, 1 - cosines_n)
        squares_n4 = _squares(rows)[counts_n] if kind == "face_vectors" else None
        return _Distances(place, numbers_n[counts_n], times_n[counts_n], distances_n[counts_n], squares_n4)

    return tables.store.map(measure, entries)


def _pick(found: list[_Distances], *, top: int, apart_s: float) -> list[_Match]:
    """Return the nearest that are far enough from each other in time."""
    if not found:
        return []
    owners = np.repeat(np.arange(len(found)), [len(each.numbers_n) for each in found])
    firsts = np.concatenate([[0], np.cumsum([len(each.numbers_n) for each in found])])
    distances = np.concatenate([each.distances_n for each in found])
    taken: dict[int, list[float]] = {}
    matches: list[_Match] = []
    for row in np.argsort(distances, kind="stable"):
        each = found[owners[row]]
        position = int(row - firsts[owners[row]])
        time_s = float(each.times_n[position])
        others = taken.setdefault(each.place.video_number, [])
        if any(abs(time_s - other) < apart_s for other in others):
            continue
        others.append(time_s)
        matches.append(_Match(each, position))
        if len(matches) == top:
            break
    return matches


def _row(tables: VaultTables, match: _Match) -> tuple[str, float, float, int, str, int]:
    """Return a row of `MATCHES_SCHEMA`."""
    found, position = match.found, match.position
    place, number = found.place, int(found.numbers_n[position])
    video = tables.manifests[place.video_number].name.encode("utf-8", "backslashreplace").decode()
    time_s, distance = float(found.times_n[position]), float(found.distances_n[position])
    return video, time_s, distance, place.first_frame + number, place.record.segment_id, number


def _squares(rows: pa.Table) -> NDArray[np.float64]:
    """Return what `_Distances.squares_n4` is of faces' vectors."""
    columns = [column_values(rows, name).astype(np.float64) for name in ("face_number", *SQUARE_COLUMNS)]
    return np.stack(columns, axis=1)


def _square(match: _Match) -> tuple[object, ...]:
    """Return the values that a row of `FACE_MATCHES_SCHEMA` has besides."""
    squares_n4 = match.found.squares_n4
    if squares_n4 is None:
        return (None,) * 5
    number, left, top, side = squares_n4[match.position].tolist()
    return int(number), left, top, left + side, top + side


def _directions(vectors_np: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length 1; a vector of zeros stays one."""
    lengths_n1 = np.linalg.norm(vectors_np, axis=1, keepdims=True)
    directions_np: NDArray[np.float32] = vectors_np / np.maximum(lengths_n1, np.finfo(np.float32).tiny)
    return directions_np


def _to_table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _numbers_by_segment(frames: pa.Table) -> dict[str, NDArray[np.int64]]:
    numbers = column_values(frames, "frame_number").astype(np.int64)
    segment_ids = frames["segment_id"].to_pylist()
    by_segment: dict[str, list[int]] = {}
    for segment_id, number in zip(segment_ids, numbers.tolist(), strict=True):
        by_segment.setdefault(segment_id, []).append(number)
    return {segment_id: np.array(found, np.int64) for segment_id, found in by_segment.items()}
