"""What a thinning has to do, and how its segments move from a video's old run to its thinned one.

As in `ledger.py`, nothing is kept that the vault does not hold. A segment is written first; when a video's segments are
all there, the thinned run's manifest is committed, what was found in them goes with them, and only then the old run
lets them go. Killed anywhere, the same job finds out what is left to do.
"""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.looking import Selection, spec_of_video
from framevault.storage.documents import utc_now
from framevault.storage.frame_facts import FactManifest, FactPart, commit_facts
from framevault.storage.index import (
    MissingSegment,
    SegmentRecord,
    VideoManifest,
    by_pts,
    commit_video,
    find_manifest,
    recover_segment,
)
from framevault.storage.moving import carry_findings, missing_of, retire_segments
from framevault.storage.store import Store
from framevault.workers.face_rows import faces_model, store_face_rows
from framevault.workers.features import StoredSegment
from framevault.workers.ids import digest_of, segment_id_of
from framevault.workers.kept_slices import KeptSlices
from framevault.workers.stored_specs import StoredSpecs
from framevault.workers.thin import ThinReceipt

RUN_DIGITS = 16
"""Hex digits of a run's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRun:
    """A stored run of a video, of which some segments are to be thinned."""

    manifest: VideoManifest
    """What is stored."""
    spec: CodecSpec
    """What they will be decoded with."""
    records: tuple[SegmentRecord, ...]
    """The segments."""
    has_other_faces: bool
    """Whether the streams of faces in them will be others, so that what is known of those is found anew."""

    @property
    def run_fp(self) -> str:
        """The run that they will be in."""
        parts = {"run": self.manifest.run_fp, "codec_fingerprint": codec_fingerprint(self.spec)}
        return digest_of(parts)[:RUN_DIGITS]

    def segment_id(self, record: SegmentRecord | MissingSegment) -> str:
        """Return what a segment will be called."""
        return segment_id_of(
            self.manifest.video_id,
            codec_fingerprint(self.spec),
            first_pts=record.first_pts,
            last_pts=record.last_pts,
            sampling=self.manifest.sampling,
        )


@dataclass(slots=True)
class ThinTotals:
    """What a thinning did, counted as it goes."""

    segments_done: int = 0
    """Segments thinned by this job."""
    segments_kept: int = 0
    """Segments that an earlier job had thinned."""
    segments_failed: int = 0
    """Segments that can't be read: they stay as they are."""
    frames_done: int = 0
    """Frames thinned by this job."""
    bytes_before: int = 0
    """Bytes of the packs that go."""
    bytes_after: int = 0
    """Bytes of the packs that came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinPlan:
    """What a thinning has to do."""

    runs: tuple[ThinRun, ...]
    """Runs with segments to be thinned."""
    left: dict[str, int]
    """Why other chosen runs are left as they are, and how many."""


@dataclass(slots=True)
class _OpenRun:
    """One run under way."""

    run: ThinRun
    pending: set[str] = field(default_factory=set)
    """Segments that are still to be thinned, by what they are called."""
    committed: frozenset[str] = frozenset()
    """What the thinned run's manifest names already."""
    moved: dict[str, SegmentRecord] = field(default_factory=dict)
    """What became of the others, likewise."""
    faces: dict[str, FactPart] = field(default_factory=dict)
    """Faces parts of those in whose streams faces are others, by the same names."""


def plan_thinning(selection: Selection, specs: StoredSpecs, *, kept: KeptSlices) -> ThinPlan:
    """Find the runs of which chosen segments are to be thinned.

    Args:
        selection: What was chosen.
        specs: Finds what encoded it.
        kept: Slices to keep.

    Raises:
        DamagedError: The vault's own weights are not what they must be.
        PreflightError: A video was encoded with weights that are nowhere; or nothing that was chosen can have so many
            slices, or nothing was chosen.
    """
    runs: list[ThinRun] = []
    left: Counter[str] = Counter()
    is_possible = False
    for manifest in selection.manifests:
        records = tuple(each for each in manifest.segments if each.segment_id in selection.segment_ids)
        if not records:
            continue
        spec = spec_of_video(manifest, specs)
        try:
            target = kept.target(spec)
            kept.check(spec)
        except CodecError as error:
            left[str(error)] += 1
            continue
        if target == spec:
            is_possible = True
            left[f"they have {kept.text} already"] += 1
            continue
        has_other_faces = target.faces != spec.faces
        runs.append(ThinRun(manifest=manifest, spec=target, records=records, has_other_faces=has_other_faces))
    if not (runs or is_possible):
        why = "; ".join(left) or "no segment was chosen"
        raise PreflightError(f"nothing can be thinned to {kept.text}: {why}")
    return ThinPlan(runs=tuple(runs), left=dict(left))


class ThinLedger:
    """Books what came of segments, and moves those of a video when the last one is settled."""

    def __init__(self, store: Store, runs: Sequence[ThinRun]) -> None:
        """Begin; nothing is read yet.

        Args:
            store: The vault.
            runs: What is to be thinned.
        """
        self._store = store
        self._runs = {(run.manifest.video_id, run.manifest.run_fp): _OpenRun(run) for run in runs}
        self.totals = ThinTotals()
        """Counted so far."""

    def pending(self) -> list[StoredSegment]:
        """Return what is still to be thinned; what an earlier job had thinned is moved at once where nothing else is.

        Raises:
            DamagedError: What an earlier job had thinned is damaged; names the key.
            StoreUnavailableError: The store can't be read or written.
        """
        tasks: list[StoredSegment] = []
        for opened in self._runs.values():
            tasks += self._open(opened)
            if not opened.pending:
                self._move(opened)
        return tasks

    def add(self, task: StoredSegment, receipt: ThinReceipt | None) -> None:
        """Enter what came of a segment, None if it failed; moves its video's if it was the last one open."""
        opened = self._runs[task.video_id, task.run_fp]
        opened.pending.discard(task.segment_id)
        if receipt is None:
            self.totals.segments_failed += 1
        else:
            self.totals.segments_done += 1
            self.totals.frames_done += receipt.num_frames
            opened.moved[task.segment_id] = receipt.record
            if receipt.faces is not None:
                opened.faces[task.segment_id] = receipt.faces
        if not opened.pending:
            self._move(opened)

    def _open(self, opened: _OpenRun) -> list[StoredSegment]:
        """Look what is there of a run's segments, and return the others."""
        run = opened.run
        video_id = run.manifest.video_id
        manifest = find_manifest(self._store, video_id, run.run_fp)
        committed = {record.segment_id: record for record in manifest.segments} if manifest else {}
        opened.committed = frozenset(committed)
        tasks = []
        for record in run.records:
            name = run.segment_id(record)
            found = committed.get(name) or recover_segment(self._store, name)
            if found is not None:
                opened.moved[record.segment_id] = found
                if run.has_other_faces:
                    opened.faces[record.segment_id] = store_face_rows(self._store, found)
                self.totals.segments_kept += 1
                continue
            opened.pending.add(record.segment_id)
            tasks.append(
                StoredSegment(
                    segment_id=record.segment_id,
                    video_id=video_id,
                    run_fp=run.manifest.run_fp,
                    pack=record.pack,
                    num_frames=record.num_frames,
                )
            )
        return tasks

    def _move(self, opened: _OpenRun) -> None:
        """Make the thinned segments visible, then let the old run go without them."""
        run, moved = opened.run, opened.moved
        if not moved:
            return
        old = run.manifest
        commit_video(
            self._store,
            replace(
                old,
                run_fp=run.run_fp,
                bitstream_version=run.spec.bitstream_version,
                codec_fingerprint=codec_fingerprint(run.spec),
                slices=run.spec.slices,
                face_slices=None if run.spec.faces is None else run.spec.faces.slices,
                segments=tuple(moved.values()),
                missing=_missing_from(opened, opened.committed),
                created_at=utc_now(),
            ),
        )
        names = {segment_id: record.segment_id for segment_id, record in moved.items()}
        self._commit_faces(opened)
        carry_findings(
            self._store,
            old.video_id,
            old_run=old.run_fp,
            new_run=run.run_fp,
            segment_ids=names,
            stale=("faces",) if run.has_other_faces else (),
        )
        retire_segments(
            self._store, old.video_id, run_fp=old.run_fp, segment_ids=names, reason=f"in run {run.run_fp}, thinned"
        )
        self.totals.bytes_before += sum(each.pack.size_bytes for each in run.records if each.segment_id in moved)
        self.totals.bytes_after += sum(record.pack.size_bytes for record in moved.values())

    def _commit_faces(self, opened: _OpenRun) -> None:
        """Make the faces visible whose streams are others than before."""
        run = opened.run
        if not opened.faces:
            return
        commit_facts(
            self._store,
            FactManifest(
                kind="faces",
                model_fp=faces_model(codec_fingerprint(run.spec)),
                model=run.spec.name,
                video_id=run.manifest.video_id,
                run_fp=run.run_fp,
                parts=tuple(opened.faces.values()),
            ),
        )


def _missing_from(opened: _OpenRun, stored: Container[str]) -> tuple[MissingSegment, ...]:
    """Return what the thinned run lacks, so that its segments have their places in the video.

    Args:
        opened: The run under way.
        stored: Ids of the segments that the thinned run has already.
    """
    run, old = opened.run, opened.run.manifest
    left = [
        missing_of(record, reason=f"in run {old.run_fp}, not thinned", segment_id=run.segment_id(record))
        for record in old.segments
        if record.segment_id not in opened.moved
    ]
    # Of those that earlier thinnings took along, the old run says that they are missing.
    lost = [each for each in old.missing if run.segment_id(each) not in stored]
    return by_pts([*lost, *left])
