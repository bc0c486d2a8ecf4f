"""Removes what no manifest names any more: thinned segments, what killed jobs left and nobody took up, old manifests.

Nothing goes before its grace period is over. It must be longer than any job runs and any reader reads: whoever relies
on an object has by then named it in a manifest, or rescued it (`tombstones.py`). A segment's objects go when it has
been marked as unnamed for so long, and none of them is younger. They go in this order, so that a vacuum may be killed
anywhere: findings leave their manifests, then the segment's parts go, its pack last, then mark and claim.

Checkpoints and directions stay for ever (`checkpoints.py`, `directions.py`): they are few, and a writer may rely at any
time on one that lies there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from framevault.storage.detections import (
    DETECTIONS_MANIFEST_KEY,
    DetectionManifest,
    commit_detections,
    read_detection_manifest,
)
from framevault.storage.errors import NotFoundError, UnsupportedError
from framevault.storage.frame_facts import FACTS_MANIFEST_KEY, FactManifest, commit_facts, read_fact_manifest
from framevault.storage.index import MANIFEST_KEY, VideoManifest, latest_manifest_keys, read_manifest
from framevault.storage.store import Store
from framevault.storage.tombstones import TOMBSTONE_KEY, bury, claim, mark, tombstone_key

PART_KEY = re.compile(
    r"packs/[0-9a-f]{2}/([0-9a-f]{32})\.fvp|frames/([0-9a-f]{32})\.parquet"
    r"|(?:detections|labels|vectors|faces|face_vectors)/[0-9a-f]{16}/(?:partial/)?([0-9a-f]{32})(?:-[0-9a-f]{16})?\.parquet"
)
"""Key of a part; one group is its segment_id."""

Finding = DetectionManifest | FactManifest
"""A manifest of what was found in a video."""


@dataclass(slots=True)
class VacuumCounts:
    """What a vacuum did."""

    num_removed: int = 0
    """Objects removed, those of its own making not counted."""
    removed_bytes: int = 0
    """Their bytes."""
    num_waiting: int = 0
    """Objects of segments that no manifest names, and whose grace period is not over."""
    waiting_bytes: int = 0
    """Their bytes."""


def vacuum(store: Store, *, grace_s: float) -> VacuumCounts:
    """Remove what no manifest has named for a while; mark what no manifest names.

    Args:
        store: The vault.
        grace_s: Seconds that objects and marks must be old; more than any job takes.

    Raises:
        DamagedError: A manifest is damaged, or of an unknown kind: what it names can't be told, so nothing was removed.
        StoreUnavailableError: The store can't be read or written, or does not tell how old objects are.
    """
    return _Vacuum(store, grace_s).run()


class _Vacuum:
    """One pass over a vault."""

    def __init__(self, store: Store, grace_s: float) -> None:
        self._store = store
        self._grace_s = grace_s
        self._now_s = store.now_s()
        self._counts = VacuumCounts()
        keys = list(store.list())
        _refuse_unknown_manifests(store, keys)
        latest = set(latest_manifest_keys(keys))
        self._keys = keys
        self._superseded = [key for key in keys if MANIFEST_KEY.fullmatch(key) and key not in latest]
        self._videos = {
            (video.video_id, video.run_fp): video for video in (read_manifest(store, key) for key in sorted(latest))
        }
        self._findings: dict[str, Finding] = {
            **{key: read_detection_manifest(store, key) for key in keys if DETECTIONS_MANIFEST_KEY.fullmatch(key)},
            **{key: read_fact_manifest(store, key) for key in keys if FACTS_MANIFEST_KEY.fullmatch(key)},
        }
        self._segment_ids = frozenset[str]().union(*map(_segment_ids, self._videos.values()))

    def run(self) -> VacuumCounts:
        """Remove all that may go."""
        for key in self._superseded:
            self._remove_superseded(key)
        unnamed = self._unnamed_parts()
        doomed = {segment_id: keys for segment_id, keys in unnamed.items() if self._may_go(segment_id, keys)}
        self._prune_findings(doomed.keys())
        for segment_id, keys in doomed.items():
            # The pack last: as long as it is there, nobody writes a new one under its key.
            for key in sorted(keys, key=lambda key: key.startswith("packs/")):
                self._remove(key)
            bury(self._store, segment_id)
        self._clear_tombstones(unnamed.keys())
        for key in self._store.list_leftovers():
            if self._is_old(key):
                self._remove(key)
        return self._counts

    def _unnamed_parts(self) -> dict[str, list[str]]:
        """Return the keys of parts that nothing names, by segments that no manifest names."""
        named = {
            part.part.key
            for found in self._findings.values()
            for part in found.parts
            if self._is_visible(found, part.segment_id)
        }
        unnamed: defaultdict[str, list[str]] = defaultdict(list)
        for key in self._keys:
            match = PART_KEY.fullmatch(key)
            if match is None or key in named:
                continue
            segment_id = next(group for group in match.groups() if group is not None)
            if segment_id not in self._segment_ids:
                unnamed[segment_id].append(key)
        return dict(unnamed)

    def _is_visible(self, found: Finding, segment_id: str) -> bool:
        video = self._videos.get((found.video_id, found.run_fp))
        # Of a run without a manifest nothing is known: what it found stays.
        return video is None or segment_id in _segment_ids(video)

    def _may_go(self, segment_id: str, keys: Sequence[str]) -> bool:
        """Mark a segment, and claim it if it has been marked for long enough."""
        mark(self._store, segment_id)
        is_old = all(self._is_old(key) for key in (tombstone_key(segment_id, "mark"), *keys))
        if is_old and (claim(self._store, segment_id) or self._is_old(tombstone_key(segment_id, "claim"))):
            if self._store.exists(tombstone_key(segment_id, "mark")):
                return True
            bury(self._store, segment_id)  # rescued just now
        self._counts.num_waiting += len(keys)
        self._counts.waiting_bytes += sum(map(self._store.size_bytes, keys))
        return False

    def _prune_findings(self, doomed: Iterable[str]) -> None:
        """Take what was found in segments that go out of its manifests; a later segment of that id must not have it."""
        gone = frozenset(doomed)
        for key, found in self._findings.items():
            named = {part.segment_id for part in found.parts}
            left = {each for each in named if each not in gone or self._is_visible(found, each)}
            if left == named:
                continue
            if left:
                self._commit_part_of(found, left)
            self._remove(key)

    def _commit_part_of(self, found: Finding, segment_ids: Container[str]) -> None:
        """Commit what was found in some of the segments."""
        if isinstance(found, DetectionManifest):
            objects = tuple(part for part in found.parts if part.segment_id in segment_ids)
            commit_detections(self._store, replace(found, parts=objects))
        else:
            facts = tuple(part for part in found.parts if part.segment_id in segment_ids)
            commit_facts(self._store, replace(found, parts=facts))

    def _remove_superseded(self, key: str) -> None:
        """Remove an older generation of a video's manifest, if its successor has been there for a while."""
        match = MANIFEST_KEY.fullmatch(key)
        assert match is not None
        if self._is_old(self._videos[match[1], match[2]].key):
            self._remove(key)

    def _clear_tombstones(self, unnamed: Iterable[str]) -> None:
        """Remove old tombstones of segments that are named again, or of which nothing is left."""
        waiting = frozenset(unnamed)
        for segment_id in {match[1] for match in map(TOMBSTONE_KEY.fullmatch, self._keys) if match} - waiting:
            tombstones = list(self._store.list(f"tombstones/{segment_id}"))
            if tombstones and all(map(self._is_old, tombstones)):
                bury(self._store, segment_id)

    def _is_old(self, key: str) -> bool:
        """Say whether an object has been there for the grace period; one that is gone is old enough."""
        try:
            return max(0.0, self._now_s - self._store.modified_s(key)) >= self._grace_s
        except NotFoundError:
            return True

    def _remove(self, key: str) -> None:
        try:
            size_bytes = self._store.size_bytes(key)
        except NotFoundError:
            return
        self._store.remove(key)
        self._counts.num_removed += 1
        self._counts.removed_bytes += size_bytes


def _refuse_unknown_manifests(store: Store, keys: Iterable[str]) -> None:
    """Check that all manifests are of kinds that can be read here: another kind may name what seems to have no name."""
    kinds = (MANIFEST_KEY, DETECTIONS_MANIFEST_KEY, FACTS_MANIFEST_KEY)
    for key in keys:
        if key.startswith("manifests/") and not any(kind.fullmatch(key) for kind in kinds):
            raise UnsupportedError(f"{store.url}: {key} is no manifest that this framevault knows; use a newer one")


def _segment_ids(video: VideoManifest) -> frozenset[str]:
    return frozenset(record.segment_id for record in video.segments)
