"""Parts about some of a segment's frames only, because the others could not be decoded.

Their keys are made from their content, since another damage gives another part, and repair a whole one::

    detections/<detector_fp>/partial/<segment_id>-<digest>.parquet
    manifests/<video_id>/detections/<detector_fp>/partial/<digest>.json

Labels and vectors have the same. A reader who does not know these keys ignores them: to him the segment was not looked
through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol, TypeVar

from framevault.storage.store import ObjectRef

PARTIAL_FOLDER = "partial/"
"""Stands in keys before the last part."""


class SegmentPart(Protocol):
    """What some model said about one segment."""

    @property
    def segment_id(self) -> str:
        """The segment."""
        ...

    @property
    def part(self) -> ObjectRef:
        """Its rows."""
        ...

    @property
    def num_lost(self) -> int:
        """Frames of it that could not be decoded."""
        ...


PartT = TypeVar("PartT", bound=SegmentPart)


def partial_key(key: str, payload: bytes) -> str:
    """Return the key of a partial part.

    Args:
        key: Of the whole one.
        payload: The part.
    """
    folder, _, name = key.rpartition("/")
    digest = hashlib.sha256(payload).hexdigest()[:16]
    return f"{folder}/{PARTIAL_FOLDER}{name.removesuffix('.parquet')}-{digest}.parquet"


def unite_parts(*given: Iterable[PartT]) -> tuple[PartT, ...]:
    """Return a part a segment, by segment id: of several, the one that lacks the fewest frames."""
    best: dict[str, PartT] = {}
    for parts in given:
        for part in parts:
            known = best.get(part.segment_id)
            if known is None or (part.num_lost, part.part.key) < (known.num_lost, known.part.key):
                best[part.segment_id] = part
    return tuple(best[segment_id] for segment_id in sorted(best))
