"""What all jobs share that look through stored segments: choosing them, running them, and remembering what was done.

A segment is looked through as a whole, whichever of its frames were chosen: its streams may depend on each other, and
the next question is about its other frames. A video's new parts become visible together, when its last segment is done.
"""

import dataclasses
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from framevault.codecs.errors import CodecError
from framevault.configs.run import ExecutionSettings
from framevault.pipeline.events import JobDone, JobStarted, Note, StageReport, TaskDone, TaskFailed
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.placement import open_executor
from framevault.storage.index import SegmentRecord, VideoManifest, load_manifests
from framevault.storage.query import select_frames
from framevault.storage.store import Store
from framevault.workers.features import StoredSegment, backbone_of
from framevault.workers.weights import find_spec, has_shipped_head

PartT = TypeVar("PartT")
PartT_co = TypeVar("PartT_co", covariant=True)


class LookReceipt(Protocol[PartT_co]):
    """What a worker says about a segment that it looked through."""

    @property
    def part(self) -> PartT_co:
        """What was stored."""
        ...

    @property
    def num_frames(self) -> int:
        """Frames looked through."""
        ...

    @property
    def stage_seconds(self) -> tuple[float, ...]:
        """Seconds of each of the job's stages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """The frames that a condition chose."""

    store: Store
    """The vault."""
    frames: pa.Table
    """Columns `segment_id` and `frame_number`."""
    segment_ids: frozenset[str]
    """Segments that hold them."""
    manifests: tuple[VideoManifest, ...]
    """Of all that is visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookCounts:
    """How a job went."""

    num_frames: int
    """Frames that the condition chose."""
    num_segments: int
    """Segments that hold them."""
    num_cached: int
    """Those of them that were looked through before."""
    num_failed: int
    """Those of them that could not be read."""


def select(store: Store, where: str | None) -> Selection:
    """Choose frames.

    Raises:
        QueryError: The condition is no SQL condition over the frames view.
    """
    frames = select_frames(store, where)
    segment_ids = frozenset(pc.unique(frames["segment_id"]).to_pylist())
    return Selection(store=store, frames=frames, segment_ids=segment_ids, manifests=tuple(load_manifests(store)))


def check_codecs(selection: Selection, *, weights: Sequence[str], backbone: str, reader: str) -> list[Note]:
    """Refuse chosen segments whose features can't be decoded here, or not be read, before anything is loaded.

    Args:
        selection: What was chosen.
        weights: Paths of codec checkpoints besides the shipped one.
        backbone: Whose features are read.
        reader: What reads them, for messages.

    Returns:
        What to say about weights whose features the reader was not trained on.

    Raises:
        PreflightError: A video was encoded with weights that are not here, or holds another backbone's features.
    """
    strange: set[str] = set()
    for manifest in selection.manifests:
        if not any(record.segment_id in selection.segment_ids for record in manifest.segments):
            continue
        stored = backbone_of(manifest.codec)
        if stored is not None and stored != backbone:
            raise PreflightError(
                f"video {manifest.name} holds features of {stored}, {reader} reads those of {backbone}: "
                f"choose what reads {stored}, or compress with --codec raw"
            )
        try:
            spec = find_spec(
                manifest.codec,
                manifest.codec_fingerprint,
                quality=manifest.quality,
                bitstream_version=manifest.bitstream_version,
                weights=weights,
            )
            if spec.weights is not None and not has_shipped_head(spec):
                strange.add(spec.weights)
        except CodecError as error:
            raise PreflightError(f"video {manifest.name}: {error}") from error
    return [
        Note(
            text=f"{path}: its features are of another backbone than those that {reader} was trained on; "
            "expect it to find less"
        )
        for path in sorted(strange)
    ]


class PartsBook(Generic[PartT]):
    """Which of the chosen segments were looked through, and what is to be committed."""

    def __init__(
        self,
        selection: Selection,
        *,
        known: Iterable[tuple[str, PartT]],
        commit: Callable[[str, str, Sequence[PartT]], None],
    ) -> None:
        """Begin with what is known.

        Args:
            selection: What was chosen.
            known: Segment ids and parts that are visible.
            commit: Makes new parts of a video visible; is given its video_id, run_fp and them.
        """
        self._commit = commit
        self._records: dict[str, tuple[SegmentRecord, str]] = {
            record.segment_id: (record, manifest.run_fp)
            for manifest in selection.manifests
            for record in manifest.segments
            if record.segment_id in selection.segment_ids
        }
        self.parts: dict[str, PartT] = {
            segment_id: part for segment_id, part in known if segment_id in selection.segment_ids
        }
        """Of each chosen segment that was looked through."""
        self._open: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._fresh: dict[tuple[str, str], list[PartT]] = defaultdict(list)

    def pending(self) -> list[StoredSegment]:
        """Return what is still to be looked through."""
        tasks = [
            StoredSegment(
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

    def add(self, task: StoredSegment, part: PartT | None) -> None:
        """Enter what came of a segment, None if it failed; commits its video if it was the last one open."""
        group = (task.video_id, task.run_fp)
        self._open[group].discard(task.segment_id)
        if part is not None:
            self.parts[task.segment_id] = part
            self._fresh[group].append(part)
        if not self._open[group] and self._fresh[group]:
            self._commit(*group, self._fresh[group])


def look_through(
    job: ExecutionSettings,
    selection: Selection,
    book: PartsBook[PartT],
    *,
    name: str,
    stages: Sequence[str],
    worker: Callable[[Executor], Callable[[], Callable[[StoredSegment], LookReceipt[PartT]]]],
    on_event: EventSink,
) -> LookCounts:
    """Look through the segments that a book says are pending.

    Args:
        job: Who works, and where.
        selection: What was chosen.
        book: Is brought up to date.
        name: The job's, for events.
        stages: Names of what a receipt's seconds are about.
        worker: Gives the picklable settings that make a worker, once the executor is entered.
        on_event: Is told how it goes.

    Raises:
        JobStoppedError: The store or the device failed for too long.
    """
    started = time.monotonic()
    tasks = book.pending()
    num_cached, num_failed = len(book.parts), 0
    num_frames = sum(task.num_frames for task in tasks)
    on_event(
        JobStarted(
            job=name, stages=tuple(stages), num_tasks=len(tasks), num_frames=num_frames, num_tasks_skipped=num_cached
        )
    )
    if tasks:
        with open_executor(job, selection.store) as executor:
            for outcome in executor.run(tasks, worker(executor), on_event=on_event):
                num_failed += outcome.receipt is None
                _tell(outcome, stages, on_event)
                book.add(outcome.task, None if outcome.receipt is None else outcome.receipt.part)
    on_event(
        JobDone(
            num_tasks_done=len(tasks) - num_failed,
            num_tasks_failed=num_failed,
            num_frames=num_frames,
            elapsed_s=time.monotonic() - started,
        )
    )
    return LookCounts(
        num_frames=selection.frames.num_rows,
        num_segments=len(selection.segment_ids),
        num_cached=num_cached,
        num_failed=num_failed,
    )


def report(
    counts: LookCounts, *, name: str, table: pa.Table, as_json: bool, show: Callable[[pa.Table], None]
) -> ExitCode:
    """Print what came of a job.

    Args:
        counts: How it went.
        name: What the table is called in JSON.
        table: What was found.
        as_json: Whether to print one event instead of tables.
        show: Prints the table otherwise.

    Returns:
        `QUARANTINED` if a chosen segment could not be looked through.
    """
    if as_json:
        members = {**dataclasses.asdict(counts), name: table.to_pylist()}
        sys.stdout.write(json.dumps({"event": "summary", **members}) + "\n")
    else:
        show(table)
        sys.stdout.write(_sentence(counts))
    return ExitCode.QUARANTINED if counts.num_failed else ExitCode.DONE


def _sentence(counts: LookCounts) -> str:
    """Say in a line how a job went."""
    failed = f"; {counts.num_failed} could not be read" if counts.num_failed else ""
    return (
        f"{counts.num_frames} frames of {counts.num_segments} segments, {counts.num_cached} of which were looked "
        f"through before{failed}\n"
    )


def _tell(outcome: Outcome[StoredSegment, LookReceipt[PartT]], stages: Sequence[str], on_event: EventSink) -> None:
    task, receipt, failure = outcome.task, outcome.receipt, outcome.failure
    if receipt is not None:
        seconds = zip(stages, receipt.stage_seconds, strict=True)
        reports = tuple(StageReport(stage=stage, busy_s=busy_s) for stage, busy_s in seconds)
        on_event(TaskDone(task_id=task.task_id, num_frames=receipt.num_frames, stages=reports))
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
