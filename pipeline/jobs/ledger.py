"""What is known of each video while a compression runs, and its manifest when all its segments are settled.

The ledger keeps nothing that the vault does not: kill the driver anywhere, start the same job, and it finds out from
the stored objects what is left to do.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from framevault.codecs.spec import CodecSpec
from framevault.pipeline.executors.base import TaskFailure
from framevault.pipeline.planning import PlanSettings, ProbeFailure, SourcePlan
from framevault.pipeline.sources import SourceLocation
from framevault.storage.errors import DamagedError
from framevault.storage.frame_facts import FactManifest, FactPart, commit_facts, load_fact_manifests
from framevault.storage.index import (
    MissingSegment,
    SegmentRecord,
    VideoManifest,
    commit_video,
    find_manifest,
    recover_segment,
)
from framevault.storage.names import add_name
from framevault.storage.quarantine import Failure, FailureCategory, load_failures, write_failure
from framevault.storage.store import Store
from framevault.workers.face_rows import faces_model, store_face_rows
from framevault.workers.tasks import Receipt, Segment


@dataclass(slots=True)
class Totals:
    """What a job did, counted as it goes."""

    videos: int = 0
    """Videos whose manifest now names all that could be stored of them."""
    videos_incomplete: int = 0
    """Those of them that miss a segment."""
    sources_unreadable: int = 0
    """Sources of which nothing could be planned."""
    segments_done: int = 0
    """Segments encoded in this run."""
    segments_kept: int = 0
    """Segments that the vault already held."""
    segments_failed: int = 0
    """Segments in quarantine, of this run or an earlier one."""
    frames_done: int = 0
    """Frames encoded in this run."""
    frames_outside: int = 0
    """Those of them that are outside the codec's domain."""
    faces_done: int = 0
    """Faces encoded in this run, of codecs that code faces besides frames."""
    faces_outside: int = 0
    """Those of them that are outside the domain of what codes them."""
    faces_left_out: int = 0
    """Faces that were found and not encoded: there were too many in their frames."""
    faces_small: int = 0
    """Faces that were found and not encoded: they are smaller than wanted."""
    stored_bytes: int = 0
    """Bytes of the packs of all the job's videos, in the vault."""
    source_bytes: int = 0
    """Bytes of the sources of those videos."""

    @property
    def has_failures(self) -> bool:
        """Whether anything that was asked for is not in the vault."""
        return bool(self.sources_unreadable or self.segments_failed)


@dataclass(slots=True)
class _Video:
    """One video under way."""

    plan: SourcePlan
    locations: list[SourceLocation]
    records: dict[str, SegmentRecord] = field(default_factory=dict)
    missing: dict[str, MissingSegment] = field(default_factory=dict)
    faces: dict[str, FactPart] = field(default_factory=dict)
    is_committed: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether every segment is stored or given up."""
        return len(self.records) + len(self.missing) == len(self.plan.segments)


class Ledger:
    """Books plans, receipts and failures, and commits videos."""

    def __init__(self, store: Store, *, codec: CodecSpec, plan_settings: PlanSettings, retry_failed: bool) -> None:
        """Read what failed before.

        Args:
            store: The vault.
            codec: What encodes; for the manifests.
            plan_settings: What decides which segments there are.
            retry_failed: Whether segments in quarantine are tried again.
        """
        self._store = store
        self._codec = codec
        self.plan_settings = plan_settings
        """What decides which segments there are."""
        failures = [] if retry_failed else load_failures(store)
        self._given_up = {failure.subject_id: failure for failure in failures}
        self._videos: dict[str, _Video] = {}
        self.totals = Totals()
        """Counted so far."""

    def knows(self, video_id: str, location: SourceLocation) -> bool:
        """Tell whether a video came before in this job; if so, book the place as one more name of it."""
        video = self._videos.get(video_id)
        if video is None:
            return False
        video.locations.append(location)
        if video.is_committed:
            add_name(self._store, video_id, name=location.name, source_url=location.url)
        return True

    def open_video(self, plan: SourcePlan) -> tuple[Segment, ...]:
        """Book a planned video and return the segments that are still to be encoded."""
        video = _Video(plan, list(plan.locations))
        self._videos[plan.info.video_id] = video
        manifest = find_manifest(self._store, plan.info.video_id, self.plan_settings.run_fp)
        committed = {record.segment_id: record for record in manifest.segments} if manifest else {}
        visible_faces = self._visible_faces(plan.info.video_id)
        pending: list[Segment] = []
        for segment in plan.segments:
            try:
                record = committed.get(segment.segment_id) or recover_segment(self._store, segment.segment_id)
                if self._codec.faces is not None and record is not None and record.segment_id not in visible_faces:
                    video.faces[record.segment_id] = store_face_rows(self._store, record)
            except DamagedError as error:
                self._quarantine(segment, category="environment", reason=str(error), attempts=1)
                self._give_up(video, segment, str(error))
                continue
            if record is not None:
                video.records[segment.segment_id] = record
                self.totals.segments_kept += 1
            elif (failure := self._given_up.get(segment.segment_id)) is not None:
                self._give_up(video, segment, failure.reason)
            else:
                pending.append(segment)
        if not pending:
            self._commit(video)
        return tuple(pending)

    def add_receipt(self, segment: Segment, receipt: Receipt) -> None:
        """Book an encoded segment; commits its video if it was the last one open."""
        video = self._videos[segment.source.video_id]
        video.records[segment.segment_id] = receipt.record
        self.totals.segments_done += 1
        self.totals.frames_done += receipt.num_frames
        self.totals.frames_outside += receipt.num_outside
        if receipt.faces is not None:
            video.faces[segment.segment_id] = receipt.faces.part
            self.totals.faces_done += receipt.faces.part.num_rows
            self.totals.faces_outside += receipt.faces.num_outside
            self.totals.faces_left_out += receipt.faces.num_left_out
            self.totals.faces_small += receipt.faces.num_small
        self._commit_if_settled(video)

    def add_failure(self, segment: Segment, failure: TaskFailure) -> None:
        """Put a segment into quarantine; commits its video if it was the last one open."""
        video = self._videos[segment.source.video_id]
        self._quarantine(segment, category=failure.category, reason=failure.reason, attempts=failure.attempts)
        self._give_up(video, segment, failure.reason)
        self._commit_if_settled(video)

    def add_unreadable(
        self, failure: ProbeFailure, *, subject_id: str, category: FailureCategory, attempts: int
    ) -> None:
        """Put a source of which nothing could be planned into quarantine."""
        self.totals.sources_unreadable += 1
        if subject_id in self._given_up:
            return
        write_failure(
            self._store,
            Failure(
                subject_id=subject_id,
                video_id=subject_id,
                name=failure.location.name,
                source_url=failure.location.url,
                category=category,
                reason=str(failure.error),
                attempts=attempts,
                first_pts=None,
                last_pts=None,
                num_frames=0,
                command=self._retry_command(failure.location.url),
            ),
        )

    def _quarantine(self, segment: Segment, *, category: FailureCategory, reason: str, attempts: int) -> None:
        write_failure(
            self._store,
            Failure(
                subject_id=segment.segment_id,
                video_id=segment.source.video_id,
                name=segment.source.name,
                source_url=segment.source.url,
                category=category,
                reason=reason,
                attempts=attempts,
                first_pts=segment.first_pts,
                last_pts=segment.last_pts,
                num_frames=segment.num_frames,
                command=self._retry_command(segment.source.url),
            ),
        )

    def _retry_command(self, source_url: str) -> str:
        fps = self.plan_settings.sampling.fps
        words = ["framevault", "compress", source_url, self._store.url, "--codec", self._codec.name]
        words += ["--quality", str(self._codec.quality), *([] if fps is None else ["--fps", str(fps)])]
        words += [] if self._codec.weights is None else ["--weights", self._codec.weights]
        words += [] if self._codec.slices is None else ["--slices", str(self._codec.slices)]
        words += self._face_words()
        words += ["--segment-frames", str(self.plan_settings.segment_frames)]
        return shlex.join([*words, "--retry-failed"])

    def _face_words(self) -> list[str]:
        """Return how faces are coded and looked for, as options."""
        spec, search = self._codec.faces, self.plan_settings.faces
        if spec is None or search is None:
            return []
        words = ["--face-quality", str(spec.quality), "--face-score", str(search.score)]
        words += [] if spec.weights is None else ["--face-weights", spec.weights]
        words += ["--face-size", str(search.size_pixels)] if search.size_pixels else []
        return words + ([] if search.fps is None else ["--face-fps", str(search.fps)])

    def _visible_faces(self, video_id: str) -> frozenset[str]:
        """Return the segments of a video whose faces are visible already; none for codecs without."""
        if self._codec.faces is None:
            return frozenset()
        settings = self.plan_settings
        mine = (settings.run_fp, faces_model(settings.codec_fingerprint))
        manifests = load_fact_manifests(self._store, "faces", video_id=video_id)
        visible = [each for each in manifests if (each.run_fp, each.model_fp) == mine]
        return frozenset(part.segment_id for each in visible for part in each.parts)

    def _give_up(self, video: _Video, segment: Segment, reason: str) -> None:
        video.missing[segment.segment_id] = MissingSegment(
            segment_id=segment.segment_id,
            first_pts=segment.first_pts,
            last_pts=segment.last_pts,
            num_frames=segment.num_frames,
            reason=reason,
        )
        self.totals.segments_failed += 1

    def _commit_if_settled(self, video: _Video) -> None:
        if video.is_settled:
            self._commit(video)

    def _commit(self, video: _Video) -> None:
        """Make the video visible under every name that it was found by; one of which nothing is stored stays out."""
        info = video.plan.info
        self.totals.source_bytes += info.size_bytes
        self.totals.stored_bytes += sum(record.pack.size_bytes for record in video.records.values())
        if not video.records:
            return
        self.totals.videos += 1
        self.totals.videos_incomplete += bool(video.missing)
        order = [segment.segment_id for segment in video.plan.segments]
        commit_video(
            self._store,
            VideoManifest(
                video_id=info.video_id,
                run_fp=self.plan_settings.run_fp,
                name=info.name,
                source_url=info.url,
                source_bytes=info.size_bytes,
                source_version=info.version_token,
                container=info.container,
                source_codec=info.codec,
                width=info.display_width,
                height=info.display_height,
                time_base=info.time_base,
                fps=info.fps,
                duration_s=info.duration_s,
                num_source_frames=info.num_frames,
                codec=self._codec.name,
                bitstream_version=self._codec.bitstream_version,
                quality=self._codec.quality,
                slices=self._codec.slices,
                codec_fingerprint=self.plan_settings.codec_fingerprint,
                sampling=video.plan.segments[0].sampling,
                segments=_in_order(order, video.records),
                missing=tuple(video.missing[name] for name in order if name in video.missing),
            ),
        )
        self._commit_faces(video)
        video.is_committed = True
        for location in video.locations:
            add_name(self._store, info.video_id, name=location.name, source_url=location.url)

    def _commit_faces(self, video: _Video) -> None:
        """Make those faces visible that are not."""
        if not video.faces:
            return
        commit_facts(
            self._store,
            FactManifest(
                kind="faces",
                model_fp=faces_model(self.plan_settings.codec_fingerprint),
                model=self._codec.name,
                video_id=video.plan.info.video_id,
                run_fp=self.plan_settings.run_fp,
                parts=tuple(video.faces.values()),
            ),
        )


def _in_order(order: Sequence[str], records: dict[str, SegmentRecord]) -> tuple[SegmentRecord, ...]:
    return tuple(records[name] for name in order if name in records)
