"""From one run of a video to another: what was found stays, and what was moved leaves the run that it was in.

For segments that were stored again in another form (thinned): the new run's manifest is committed first, then
`carry_findings`, then `retire_segments`. Each step may be repeated, so a kill between them costs nothing; until the
last one, the video is visible in both forms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from framevault.storage.detections import (
    DETECTIONS_MANIFEST_KEY,
    DetectionManifest,
    commit_detections,
    read_detection_manifest,
)
from framevault.storage.documents import utc_now
from framevault.storage.errors import AlreadyExistsError, StoreError
from framevault.storage.frame_facts import FACTS_MANIFEST_KEY, FactKind, FactManifest, commit_facts, read_fact_manifest
from framevault.storage.index import MOST_LOST_RACES, MissingSegment, SegmentRecord, by_pts, find_manifest
from framevault.storage.store import Store
from framevault.storage.tombstones import mark, unmark

_ManifestT = TypeVar("_ManifestT", DetectionManifest, FactManifest)


def carry_findings(
    store: Store,
    video_id: str,
    *,
    old_run: str,
    new_run: str,
    segment_ids: Mapping[str, str],
    stale: Container[FactKind] = (),
) -> None:
    """Make detections, labels, vectors and faces of some segments those of the same frames in another run.

    The parts stay where they are; the new run's manifests name them. What the new run has already is left alone.

    Args:
        store: The vault.
        video_id: The video.
        old_run: The run_fp that the segments were in.
        new_run: The run_fp that they are in.
        segment_ids: What each of them was called, and what it is called.
        stale: What is no longer true of the segments in their new form; it stays behind.

    Raises:
        DamagedError: A manifest is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    keys = list(store.list(f"manifests/{video_id}"))
    detections = [read_detection_manifest(store, key) for key in keys if DETECTIONS_MANIFEST_KEY.fullmatch(key)]
    facts = [read_fact_manifest(store, key) for key in keys if FACTS_MANIFEST_KEY.fullmatch(key)]
    facts = [each for each in facts if each.kind not in stale]
    runs = (old_run, new_run)
    for found in _carried(detections, lambda manifest: manifest.detector_fp, runs=runs, segment_ids=segment_ids):
        commit_detections(store, found)
    for said in _carried(
        facts, lambda manifest: (manifest.kind, manifest.model_fp), runs=runs, segment_ids=segment_ids
    ):
        commit_facts(store, said)


def retire_segments(store: Store, video_id: str, *, run_fp: str, segment_ids: Iterable[str], reason: str) -> None:
    """Take segments out of a run's manifest and mark them for removal; what is not in it is only marked.

    As long as others are left, they count as missing, so that those keep their places in the video. A run that has no
    segment left has nothing missing either.

    Args:
        store: The vault.
        video_id: The video.
        run_fp: The run.
        segment_ids: The segments.
        reason: Why they are missing.

    Raises:
        DamagedError: The manifest is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    retired = frozenset(segment_ids)
    fresh: frozenset[str] = frozenset()
    for _ in range(MOST_LOST_RACES):
        current = find_manifest(store, video_id, run_fp)
        left = () if current is None else tuple(each for each in current.segments if each.segment_id not in retired)
        if current is None or left == current.segments:
            break
        gone = tuple(missing_of(each, reason=reason) for each in current.segments if each.segment_id in retired)
        following = replace(
            current,
            segments=left,
            missing=by_pts([*current.missing, *gone]) if left else (),
            generation=current.generation + 1,
            created_at=utc_now(),
        )
        try:
            store.create(following.key, following.to_document())
        except AlreadyExistsError:
            continue
        fresh = retired & {each.segment_id for each in current.segments}
        break
    else:
        raise StoreError(f"{store.url}: lost {MOST_LOST_RACES} races for the manifest of video {video_id}")
    for segment_id in sorted(retired):
        if segment_id in fresh:
            unmark(store, segment_id)  # of an earlier time: from now on it counts
        mark(store, segment_id)


def missing_of(record: SegmentRecord, *, reason: str, segment_id: str | None = None) -> MissingSegment:
    """Return what a manifest says of a segment that another run holds, under its own id unless another one is given."""
    return MissingSegment(
        segment_id=record.segment_id if segment_id is None else segment_id,
        first_pts=record.first_pts,
        last_pts=record.last_pts,
        num_frames=record.num_frames,
        reason=reason,
    )


def _carried(
    manifests: Sequence[_ManifestT],
    group_of: Callable[[_ManifestT], object],
    *,
    runs: tuple[str, str],
    segment_ids: Mapping[str, str],
) -> list[_ManifestT]:
    """Return manifests of the new run with the parts that it lacks, one a manifest of the old run."""
    old_run, new_run = runs
    known: defaultdict[object, set[str]] = defaultdict(set)
    for manifest in manifests:
        if manifest.run_fp == new_run:
            known[group_of(manifest)] |= {part.segment_id for part in manifest.parts}
    carried: list[_ManifestT] = []
    for manifest in manifests:
        if manifest.run_fp != old_run:
            continue
        parts: list[Any] = []
        for part in manifest.parts:
            name = segment_ids.get(part.segment_id)
            if name is not None and name not in known[group_of(manifest)]:
                parts.append(replace(part, segment_id=name))
        if parts:
            parts.sort(key=lambda part: part.segment_id)
            carried.append(replace(manifest, run_fp=new_run, parts=tuple(parts)))
    return carried
