"""`framevault detect`: objects in a vault's stored features."""

import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.configs.run import DetectJob
from framevault.pipeline.events import JobDone, JobStarted, StageReport, TaskDone, TaskFailed
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.placement import open_executor, place_worker
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import print_table
from framevault.storage.detections import (
    DetectionManifest,
    DetectionPart,
    commit_detections,
    load_detection_manifests,
)
from framevault.storage.index import SegmentRecord, VideoManifest, load_manifests
from framevault.storage.query import select_frames
from framevault.storage.schema import read_detections
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.detect import DetectReceipt, DetectSettings, DetectTask
from framevault.workers.detectors.base import SCORE_FLOOR
from framevault.workers.detectors.registry import detector_fingerprint

STAGES = ("read", "decode", "detect", "write")
"""What a stored segment goes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectResult:
    """What a detection run found."""

    labels: pa.Table
    """A row a label: `label`, `objects`, `frames` with at least one, `best_score`; most objects first."""
    num_frames: int
    """Frames that the condition chose."""
    num_segments: int
    """Segments that hold them."""
    num_cached: int
    """Those of them that were looked through before."""
    num_failed: int
    """Those of them that could not be read."""


def print_detect(job: DetectJob, *, as_json: bool) -> ExitCode:
    """Detect, show how it goes, and print what was found; errors as `run_detect`.

    Returns:
        `QUARANTINED` if a chosen segment could not be looked through.
    """
    with open_progress(as_json=as_json) as on_event:
        result = run_detect(job, on_event=on_event)
    if as_json:
        counts = ("num_frames", "num_segments", "num_cached", "num_failed")
        members = {name: getattr(result, name) for name in counts}
        sys.stdout.write(json.dumps({"event": "summary", **members, "labels": result.labels.to_pylist()}) + "\n")
    else:
        print_table(result.labels, title=f"Objects with a score of {job.score} or more")
        sys.stdout.write(
            f"{result.num_frames} frames of {result.num_segments} segments, {result.num_cached} of which were looked "
            f"through before{f'; {result.num_failed} could not be read' if result.num_failed else ''}\n"
        )
    return ExitCode.QUARANTINED if result.num_failed else ExitCode.DONE


def run_detect(job: DetectJob, *, on_event: EventSink) -> DetectResult:
    """Look through the segments that hold the chosen frames, and sum up what is in those frames.

    A segment that this detector looked through before is not looked through again. Everything down to a score of
    `SCORE_FLOOR` is stored; `score` only decides what is shown.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: The vault was written with weights that this installation has not.
        JobStoppedError: The store or the device failed for too long.
    """
    started = time.monotonic()
    store = open_vault(job.vault, create=False)
    chosen = select_frames(store, job.where)
    wanted = set(pc.unique(chosen["segment_id"]).to_pylist())
    manifests = load_manifests(store)
    _check_codecs(manifests, wanted)
    book = _Book(store, job.detector, manifests, wanted)
    tasks = book.pending()
    num_frames = sum(task.num_frames for task in tasks)
    on_event(
        JobStarted(
            job="detect", stages=STAGES, num_tasks=len(tasks), num_frames=num_frames, num_tasks_skipped=len(book.parts)
        )
    )
    num_cached, num_failed = len(book.parts), 0
    if tasks:
        with open_executor(job, store) as executor:
            for outcome in executor.run(tasks, _detect_settings(job, executor, book.detector_fp), on_event=on_event):
                num_failed += outcome.receipt is None
                _tell(outcome, on_event)
                book.add(outcome)
    on_event(
        JobDone(
            num_tasks_done=len(tasks) - num_failed,
            num_tasks_failed=num_failed,
            num_frames=num_frames,
            elapsed_s=time.monotonic() - started,
        )
    )
    return DetectResult(
        labels=_sum_up(store, chosen, book.parts, score=job.score),
        num_frames=chosen.num_rows,
        num_segments=len(wanted),
        num_cached=num_cached,
        num_failed=num_failed,
    )


class _Book:
    """Which segments were looked through, and the manifests that say so: one a video, when its last segment is done."""

    def __init__(self, store: Store, detector: str, manifests: list[VideoManifest], wanted: set[str]) -> None:
        self.detector_fp = detector_fingerprint(detector)[:16]
        self._store = store
        self._detector = detector
        self._records: dict[str, tuple[SegmentRecord, str]] = {
            record.segment_id: (record, manifest.run_fp)
            for manifest in manifests
            for record in manifest.segments
            if record.segment_id in wanted
        }
        self.parts: dict[str, DetectionPart] = {
            part.segment_id: part
            for manifest in load_detection_manifests(store)
            if manifest.detector_fp == self.detector_fp
            for part in manifest.parts
            if part.segment_id in wanted
        }
        self._open: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._fresh: dict[tuple[str, str], list[DetectionPart]] = defaultdict(list)

    def pending(self) -> list[DetectTask]:
        """Return what is still to be looked through."""
        tasks = [
            DetectTask(
                segment_id=segment_id,
                video_id=record.video_id,
                run_fp=run_fp,
                pack=record.pack,
                num_frames=record.num_frames,
            )
            for segment_id, (record, run_fp) in self._records.items()
            if segment_id not in self.parts
        ]
        for task in tasks:
            self._open[task.video_id, task.run_fp].add(task.segment_id)
        return tasks

    def add(self, outcome: Outcome[DetectTask, DetectReceipt]) -> None:
        """Enter what came of a segment; commits its video if it was the last one open."""
        group = (outcome.task.video_id, outcome.task.run_fp)
        self._open[group].discard(outcome.task.segment_id)
        if outcome.receipt is not None:
            self.parts[outcome.task.segment_id] = outcome.receipt.part
            self._fresh[group].append(outcome.receipt.part)
        if not self._open[group] and self._fresh[group]:
            commit_detections(
                self._store,
                DetectionManifest(
                    detector_fp=self.detector_fp,
                    detector=self._detector,
                    video_id=group[0],
                    run_fp=group[1],
                    score_floor=SCORE_FLOOR,
                    parts=tuple(self._fresh[group]),
                ),
            )


def _check_codecs(manifests: list[VideoManifest], wanted: set[str]) -> None:
    """Refuse a vault whose chosen segments were written with other weights, before anything is loaded."""
    for manifest in manifests:
        if not any(record.segment_id in wanted for record in manifest.segments):
            continue
        try:
            fingerprint = codec_fingerprint(CodecSpec(name=manifest.codec, quality=manifest.quality))
        except CodecError as error:
            raise PreflightError(f"video {manifest.name}: {error}") from error
        if fingerprint != manifest.codec_fingerprint:
            raise PreflightError(
                f"video {manifest.name} was encoded by codec {manifest.codec!r} with fingerprint "
                f"{manifest.codec_fingerprint[:16]}, this installation has {fingerprint[:16]}: "
                "use the framevault version that wrote the vault"
            )


def _detect_settings(job: DetectJob, executor: Executor, detector_fp: str) -> DetectSettings:
    placement = place_worker(job, executor)
    return DetectSettings(
        vault_url=job.vault,
        detector=job.detector,
        detector_fp=detector_fp,
        device=placement.device,
        batch_size=job.batch_size,
        num_slots=placement.num_slots,
        threads_per_slot=job.threads_per_worker,
    )


def _tell(outcome: Outcome[DetectTask, DetectReceipt], on_event: EventSink) -> None:
    task, receipt, failure = outcome.task, outcome.receipt, outcome.failure
    if receipt is not None:
        seconds = (receipt.read_s, receipt.decode_s, receipt.detect_s, receipt.write_s)
        stages = tuple(StageReport(stage=stage, busy_s=busy_s) for stage, busy_s in zip(STAGES, seconds, strict=True))
        on_event(TaskDone(task_id=task.task_id, num_frames=receipt.num_frames, stages=stages))
    if failure is not None:
        on_event(
            TaskFailed(
                task_id=task.task_id,
                name=f"segment {task.segment_id}",
                category=failure.category,
                reason=failure.reason,
                attempts=failure.attempts,
            )
        )


def _sum_up(store: Store, chosen: pa.Table, parts: dict[str, DetectionPart], *, score: float) -> pa.Table:
    """Count the objects of the chosen frames by label."""
    tables = []
    for part in parts.values():
        table = read_detections(part.part.key, store.read_checked(part.part)).select(["frame_number", "label", "score"])
        segment_ids = pa.array([part.segment_id], pa.string()).take(pa.array([0] * table.num_rows, pa.int32()))
        tables.append(table.append_column("segment_id", segment_ids))
    if not tables:
        return _LABELS_SCHEMA.empty_table()
    found = pa.concat_tables(tables, promote_options="default")
    found = found.set_column(found.schema.get_field_index("label"), "label", found["label"].cast(pa.string()))
    found = found.filter(pc.greater_equal(found["score"], score))
    found = found.join(chosen.select(["segment_id", "frame_number"]), ["segment_id", "frame_number"], join_type="inner")
    per_frame = found.group_by(["label", "segment_id", "frame_number"]).aggregate(
        [("score", "count"), ("score", "max")]
    )
    per_label = per_frame.group_by("label").aggregate(
        [("score_count", "sum"), ("frame_number", "count"), ("score_max", "max")]
    )
    summed = pa.table(
        {
            "label": per_label["label"],
            "objects": per_label["score_count_sum"],
            "frames": per_label["frame_number_count"],
            "best_score": per_label["score_max_max"],
        }
    ).cast(_LABELS_SCHEMA)
    return summed.sort_by([("objects", "descending"), ("label", "ascending")])


_LABELS_SCHEMA = pa.schema(
    [("label", pa.string()), ("objects", pa.int64()), ("frames", pa.int64()), ("best_score", pa.float32())]
)
