"""A vault's masks, labels and faces as Arrow tables, which the views of `query.py` join; see `tables.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from framevault.storage.face_tables import FACES_SCHEMA
from framevault.storage.frame_facts import FactKind, FactManifest, FactPart, load_fact_manifests, load_facts
from framevault.storage.frame_tables import LABELS_SCHEMA
from framevault.storage.schema import MASK_FIELD, read_masked_detections
from framevault.storage.tables import (
    DETECTION_ROWS_SCHEMA,
    PlacedSegment,
    VaultTables,
    concatenate,
    from_rows,
    with_numbers,
)

MASK_ROWS_SCHEMA = DETECTION_ROWS_SCHEMA.append(MASK_FIELD)
"""One row a stored object that has a mask."""

LABEL_ROWS_SCHEMA = pa.schema(
    [
        ("video_number", pa.int32()),
        ("segment_number", pa.int32()),
        ("model_number", pa.int32()),
        *LABELS_SCHEMA.set(LABELS_SCHEMA.get_field_index("label"), pa.field("label", pa.string())),
    ]
)
"""One row a label of a frame."""

FACE_ROWS_SCHEMA = pa.schema([("video_number", pa.int32()), ("segment_number", pa.int32()), *FACES_SCHEMA])
"""One row a face in a stream."""

MODELS_SCHEMA = pa.schema([("model_number", pa.int32()), ("model", pa.string()), ("model_fp", pa.string())])
"""One row a model that gave labels."""


@dataclass
class FactTables:
    """Masks, labels and faces of one state of a vault: manifests are read once, at the first table that needs them."""

    tables: VaultTables
    """The vault."""

    @cached_property
    def labels(self) -> list[FactManifest]:
        """All labels that are visible."""
        return load_fact_manifests(self.tables.store, "labels")

    @cached_property
    def models(self) -> list[tuple[str, str]]:
        """Fingerprint and name of all models that gave labels."""
        return sorted({(manifest.model_fp, manifest.model) for manifest in self.labels})

    def mask_rows(self) -> pa.Table:
        """Read the detections parts that have masks and return the rows of `MASK_ROWS_SCHEMA`."""
        found = [entry for entry in self.tables.visible_detections() if entry[1].has_masks]
        rows_of = self.tables.read_parts([part.part for _, _, part in found], read_masked_detections)
        parts = []
        for (place, manifest, _), rows in zip(found, rows_of, strict=True):
            detector = self.tables.detectors.index((manifest.detector_fp, manifest.detector))
            parts.append(with_numbers(rows, MASK_ROWS_SCHEMA, [place.video_number, place.segment_number, detector]))
        return concatenate(parts, MASK_ROWS_SCHEMA)

    def label_rows(self) -> pa.Table:
        """Read all labels parts and return the rows of `LABEL_ROWS_SCHEMA`."""
        found = list(visible_facts(self.tables, self.labels))
        rows_of = self._rows_of("labels", found)
        parts = []
        for (place, manifest, _), rows in zip(found, rows_of, strict=True):
            model = self.models.index((manifest.model_fp, manifest.model))
            parts.append(with_numbers(rows, LABEL_ROWS_SCHEMA, [place.video_number, place.segment_number, model]))
        return concatenate(parts, LABEL_ROWS_SCHEMA)

    def face_rows(self) -> pa.Table:
        """Read all faces parts and return the rows of `FACE_ROWS_SCHEMA`."""
        found = list(visible_facts(self.tables, load_fact_manifests(self.tables.store, "faces")))
        rows_of = self._rows_of("faces", found)
        parts = [
            with_numbers(rows, FACE_ROWS_SCHEMA, [place.video_number, place.segment_number])
            for (place, _, _), rows in zip(found, rows_of, strict=True)
        ]
        return concatenate(parts, FACE_ROWS_SCHEMA)

    def _rows_of(
        self, kind: FactKind, found: Iterable[tuple[PlacedSegment, FactManifest, FactPart]]
    ) -> Iterator[pa.Table]:
        store = self.tables.store
        return store.map(lambda part: load_facts(store, kind, part), [part for _, _, part in found])

    def model_rows(self) -> pa.Table:
        """Return the rows of `MODELS_SCHEMA`."""
        rows = [
            {"model_number": number, "model": name, "model_fp": fingerprint}
            for number, (fingerprint, name) in enumerate(self.models)
        ]
        return from_rows(rows, MODELS_SCHEMA)


def visible_facts(
    tables: VaultTables, manifests: Iterable[FactManifest]
) -> Iterator[tuple[PlacedSegment, FactManifest, FactPart]]:
    """Give the parts of segments that are visible themselves, in the order of videos and frames."""
    parts: dict[tuple[str, str, str], list[tuple[FactManifest, FactPart]]] = {}
    for manifest in manifests:
        for part in manifest.parts:
            parts.setdefault((manifest.video_id, manifest.run_fp, part.segment_id), []).append((manifest, part))
    for place in tables.placed:
        video = tables.manifests[place.video_number]
        for manifest, part in parts.get((video.video_id, video.run_fp, place.record.segment_id), ()):
            yield place, manifest, part
