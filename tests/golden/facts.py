"""What the golden vault of facts holds: boxes with masks, labels and vectors of two segments.

What readers must find is spelled out here in plain Python, beside the tables that go into the vault. The second
segment's parts are written as another writer might: old pages, no compression, a row group a row, an unknown column.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from framevault.storage.detections import DetectionManifest, commit_detections, detections_key, write_detections
from framevault.storage.frame_facts import FactKind, FactManifest, commit_facts, facts_key, write_facts
from framevault.storage.frame_tables import LABELS_SCHEMA, vectors_schema
from framevault.storage.index import VideoManifest
from framevault.storage.rle import encode_mask
from framevault.storage.schema import MASKED_DETECTIONS_SCHEMA
from framevault.storage.store import Store

NAMES = ("zebra crossing", "Straße", "\U0001f6b2", "")
"""Of a model that there never was."""

VECTORS = (
    (1.0, -0.5, 65504.0, 0.0),
    (-0.0, 2.0**-24, -(2.0**-14), 0.333251953125),
    (0.0, 0.0, 0.0, 0.0),
    (-65504.0, 1.0009765625, 3.0, 1e1),
)
"""All exact in half precision: the largest, the smallest, zeros of both signs."""

Row = dict[str, object]
"""One row, by column."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one segment."""

    table: pa.Table
    """As they go in."""
    rows: list[Row]
    """What a reader must find."""
    foreign: bytes | None
    """The part, if another writer writes it."""


def make_part(rows: list[Row], schema: pa.Schema, *, is_foreign: bool) -> Part:
    """Return a part of rows; keys that are no column are what a reader must compute."""
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    return Part(table=table, rows=rows, foreign=foreign_parquet(table) if is_foreign else None)


def foreign_parquet(table: pa.Table) -> bytes:
    """Return a part such as framevault does not write, but the format allows."""
    unknown = pa.field("zebra", pa.float64(), nullable=False)
    wider = table.append_column(unknown, pa.array(np.arange(table.num_rows) / 2))
    order = [*reversed(wider.schema.names)]
    sink = io.BytesIO()
    pq.write_table(
        wider.select(order),
        sink,
        compression="none",
        use_dictionary=["label"] if "label" in order else False,
        data_page_version="1.0",
        row_group_size=1,
        write_statistics=True,
        store_schema=False,
    )
    return sink.getvalue()


def runs_of(mask_hw: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs, the first of them outside the mask: pixel by pixel."""
    pixels = [bool(mask_hw[row, column]) for column in range(mask_hw.shape[1]) for row in range(mask_hw.shape[0])]
    runs = [len(list(run)) for _, run in groupby(pixels)]
    return [0, *runs] if pixels[0] else runs


def draw_masks(*, height: int, width: int) -> list[NDArray[np.bool_]]:
    """Draw masks of every kind: nothing, all, one pixel first or last, columns, a ring, a corner of noise."""
    empty_hw = np.zeros((height, width), np.bool_)
    first_hw, last_hw, columns_hw, noise_hw = (empty_hw.copy() for _ in range(4))
    first_hw[0, 0] = True
    last_hw[-1, -1] = True
    columns_hw[:, 2:5] = True
    noise_hw[-9:, :7] = np.random.default_rng(5).random((9, 7)) < 0.5
    row, column = np.mgrid[:height, :width]
    distance_hw = (row - 70) ** 2 + (column - 40) ** 2
    ring_hw = (distance_hw < 24**2) & (distance_hw >= 16**2)
    return [empty_hw, ~empty_hw, first_hw, last_hw, columns_hw, ring_hw, noise_hw, ~noise_hw]


def mask_parts(pts: Sequence[Sequence[int]], *, height: int, width: int) -> list[Part]:
    """Return boxes with masks: six in frames 0 and 2 of the first segment, two in frame 1 of the second."""
    masks = draw_masks(height=height, width=width)
    parts: list[list[Row]] = [[], []]
    for number, mask_hw in enumerate(masks):
        segment, frame_number = (1, 1) if number >= 6 else (0, 0 if number < 4 else 2)
        label_id = number % len(NAMES)
        parts[segment].append(
            {
                "frame_number": frame_number,
                "pts": pts[segment][frame_number],
                "label": NAMES[label_id],
                "label_id": label_id,
                "score": 1 - number / 16,
                "x_min": number / 4,
                "y_min": -1.5,
                "x_max": 100.0 + number,
                "y_max": 150.0,
                "mask_rle": encode_mask(mask_hw, height=height, width=width),
                "mask_runs": runs_of(mask_hw),
            }
        )
    return [make_part(rows, MASKED_DETECTIONS_SCHEMA, is_foreign=segment == 1) for segment, rows in enumerate(parts)]


def label_parts(pts: Sequence[Sequence[int]]) -> list[Part]:
    """Return labels: 3, none and 1 of the first segment's frames, 2 and 1 of the second's."""
    parts = []
    for segment, counts in enumerate([(3, 0, 1), (2, 1)]):
        rows: list[Row] = [
            {
                "frame_number": frame_number,
                "pts": pts[segment][frame_number],
                "rank": rank,
                "label": NAMES[(frame_number + rank) % len(NAMES)],
                "label_id": 1000 * ((frame_number + rank) % len(NAMES)),
                "score": (1.0, 0.5, 0.5)[rank - 1] if frame_number != 2 else 0.0,
            }
            for frame_number, count in enumerate(counts)
            for rank in range(1, count + 1)
        ]
        parts.append(make_part(rows, LABELS_SCHEMA, is_foreign=segment == 1))
    return parts


def vector_parts(pts: Sequence[Sequence[int]]) -> list[Part]:
    """Return vectors: of the first segment's frames 0 and 2, and of both of the second's."""
    parts = []
    places = [(0, 0), (0, 2), (1, 0), (1, 1)]
    for segment in range(2):
        rows: list[Row] = [
            {
                "frame_number": frame_number,
                "pts": pts[segment][frame_number],
                "vector": struct.pack("<4e", *values),
                "values": list(values),
            }
            for (of_segment, frame_number), values in zip(places, VECTORS, strict=True)
            if of_segment == segment
        ]
        part = make_part(rows, vectors_schema(len(VECTORS[0])), is_foreign=segment == 1)
        plain: list[Row] = [{name: value for name, value in row.items() if name != "vector"} for row in rows]
        parts.append(Part(table=part.table, rows=plain, foreign=part.foreign))
    return parts


def store_masks(store: Store, manifest: VideoManifest, parts: Sequence[Part], *, detector_fp: str) -> None:
    """Write detections with masks, in one manifest."""
    stored = []
    for record, part in zip(manifest.segments, parts, strict=True):
        if part.foreign is not None:  # and then `write_detections` takes it as it is
            store.create(detections_key(detector_fp, record.segment_id), part.foreign)
        written = write_detections(store, detector_fp, record.segment_id, part.table, num_frames=record.num_frames)
        stored.append(written)
    found = DetectionManifest(
        detector_fp=detector_fp,
        detector="golden with masks",
        video_id=manifest.video_id,
        run_fp=manifest.run_fp,
        score_floor=0.25,
        parts=tuple(stored),
        has_masks=True,
    )
    commit_detections(store, found)


def store_facts(store: Store, manifest: VideoManifest, parts: Sequence[Part], *, kind: FactKind, model_fp: str) -> None:
    """Write labels or vectors, in one manifest a segment."""
    for record, part in zip(manifest.segments, parts, strict=True):
        if part.foreign is not None:
            store.create(facts_key(kind, model_fp, record.segment_id), part.foreign)
        stored = write_facts(store, kind, model_fp, record.segment_id, part.table, num_frames=record.num_frames)
        said = FactManifest(
            kind=kind,
            model_fp=model_fp,
            model="golden model (ß)",
            video_id=manifest.video_id,
            run_fp=manifest.run_fp,
            parts=(stored,),
        )
        commit_facts(store, said)
