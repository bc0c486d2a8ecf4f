"""What all jobs share that look through stored segments: choosing them, running them, and remembering what was done.

A segment is looked through as a whole, whichever of its frames were chosen: its streams may depend on each other, and
the next question is about its other frames. A video's new parts become visible together, when its last segment is done.
"""

import dataclasses
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec
from framevault.configs.run import ExecutionSettings
from framevault.pipeline.events import JobDone, JobStarted, Note, StageReport, TaskDone, TaskFailed
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.lost_frames import Look, LostFrames
from framevault.pipeline.placement import open_executor
from framevault.storage.index import SegmentRecord, VideoManifest, load_manifests
from framevault.storage.quarantine import write_failure
from framevault.storage.query import select_frames
from framevault.storage.store import Store
from framevault.workers.features import StoredSegment
from framevault.workers.salvage import FrameFault
from framevault.workers.stored_specs import StoredSpecs
from framevault.workers.weights import backbone_of


class LookPart(Protocol):
    """What was stored about a segment."""

    @property
    def num_lost(self) -> int:
        """Frames of it that could not be decoded, and that nothing is known of."""
        ...


PartT = TypeVar("PartT", bound=LookPart)
PartT_co = TypeVar("PartT_co", bound=LookPart, covariant=True)


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
    def faults(self) -> tuple[FrameFault, ...]:
        """Frames that could not be decoded."""
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
    num_lost_frames: int
    """Frames of the others that could not be decoded."""


def select(store: Store, where: str | None) -> Selection:
    """Choose frames.

    Raises:
        QueryError: The condition is no SQL condition over the frames view.
    """
    frames = select_frames(store, where)
    segment_ids = frozenset(pc.unique(frames["segment_id"]).to_pylist())
    return Selection(store=store, frames=frames, segment_ids=segment_ids, manifests=tuple(load_manifests(store)))


def stored_codecs(selection: Selection, specs: StoredSpecs) -> list[tuple[str, CodecSpec]]:
    """Return the name of each chosen video, and what encoded it.

    Args:
        selection: What was chosen.
        specs: Finds it.

    Raises:
        PreflightError: A video was encoded with weights that are nowhere.
        DamagedError: The vault's own are not what they must be.
    """
    found: list[tuple[str, CodecSpec]] = []
    for manifest in selection.manifests:
        if not any(record.segment_id in selection.segment_ids for record in manifest.segments):
            continue
        found.append((manifest.name, spec_of_video(manifest, specs)))
    return found


def spec_of_video(manifest: VideoManifest, specs: StoredSpecs) -> CodecSpec:
    """Return what encoded a video.

    Raises:
        PreflightError: Its weights are nowhere.
        DamagedError: The vault's own are not what they must be.
    """
    try:
        return specs.of_video(manifest)
    except CodecError as error:
        raise PreflightError(f"video {manifest.name}: {error}") from error


def find_codecs(selection: Selection, specs: StoredSpecs, *, backbone: str, reader: str) -> list[CodecSpec]:
    """Return what made the chosen segments' features; refuse those that can't be decoded here, or not be read.

    Args:
        selection: What was chosen.
        specs: Finds it.
        backbone: Whose features are read.
        reader: What reads them, for messages.

    Returns:
        A spec a checkpoint; none for pixels.

    Raises:
        PreflightError: A video was encoded with weights that are nowhere, or holds another backbone's features.
        DamagedError: The vault's own weights are not what they must be.
    """
    found: dict[str | None, CodecSpec] = {}
    for name, spec in stored_codecs(selection, specs):
        try:
            stored = backbone_of(spec)
        except CodecError as error:
            raise PreflightError(f"video {name}: {error}") from error
        if stored is None:
            continue
        if stored != backbone:
            raise PreflightError(
                f"video {name} holds features of {stored}, {reader} reads those of {backbone}: "
                f"choose what reads {stored}, or compress with --codec raw"
            )
        found[spec.weights] = spec
    return list(found.values())


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
        self._records: dict[str, tuple[SegmentRecord, VideoManifest]] = {
            record.segment_id: (record, manifest)
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

    @property
    def num_whole(self) -> int:
        """Chosen segments of which all frames were looked at."""
        return sum(not part.num_lost for part in self.parts.values())

    def find(self, segment_id: str) -> tuple[SegmentRecord, VideoManifest]:
        """Return a chosen segment, and its video."""
        return self._records[segment_id]

    def pending(self) -> list[StoredSegment]:
        """Return what is still to be looked through: segments that lack frames too, since they may be repaired now."""
        tasks = [
            StoredSegment(
                segment_id=segment_id,
                video_id=record.video_id,
                run_fp=manifest.run_fp,
                pack=record.pack,
                num_frames=record.num_frames,
            )
            for segment_id, (record, manifest) in self._records.items()
            if segment_id not in self.parts or self.parts[segment_id].num_lost
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
        if self._open[group]:
            return
        fresh = self._fresh[group]
        # Readers that know of no partial parts must still find the whole ones.
        for parts in ([each for each in fresh if not each.num_lost], [each for each in fresh if each.num_lost]):
            if parts:
                self._commit(*group, parts)


def look_through(
    job: ExecutionSettings,
    selection: Selection,
    book: PartsBook[PartT],
    *,
    look: Look,
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
        look: Who looks; for what is said about frames that can't be looked at.
        name: The job's, for events.
        stages: Names of what a receipt's seconds are about.
        worker: Gives the picklable settings that make a worker, once the executor is entered.
        on_event: Is told how it goes.

    Raises:
        JobStoppedError: The store or the device failed for too long.
    """
    started = time.monotonic()
    tasks = book.pending()
    num_cached, num_failed, num_lost_frames = book.num_whole, 0, 0
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
                num_lost_frames += 0 if outcome.receipt is None else outcome.receipt.part.num_lost
                _tell(outcome, stages, on_event)
                _quarantine(outcome, selection.store, book, look=look, on_event=on_event)
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
        num_lost_frames=num_lost_frames,
    )


def report(
    counts: LookCounts,
    *,
    name: str,
    table: pa.Table,
    as_json: bool,
    show: Callable[[pa.Table], None],
    facts: Mapping[str, str] | None = None,
) -> ExitCode:
    """Print what came of a job.

    Args:
        counts: How it went.
        name: What the table is called in JSON.
        table: What was found.
        as_json: Whether to print one event instead of tables.
        show: Prints the table otherwise.
        facts: What else the event says.

    Returns:
        `QUARANTINED` if a chosen segment, or a frame of one, could not be looked at.
    """
    if as_json:
        members = {**dataclasses.asdict(counts), **(facts or {}), name: table.to_pylist()}
        sys.stdout.write(json.dumps({"event": "summary", **members}) + "\n")
    else:
        show(table)
        sys.stdout.write(_sentence(counts))
    return ExitCode.QUARANTINED if counts.num_failed or counts.num_lost_frames else ExitCode.DONE


def _sentence(counts: LookCounts) -> str:
    """Say in a line how a job went."""
    failed = f"; {counts.num_failed} could not be read" if counts.num_failed else ""
    if counts.num_lost_frames:
        failed += f"; {counts.num_lost_frames} frames could not be decoded (framevault query VAULT 'from failures')"
    return (
        f"{counts.num_frames} frames of {counts.num_segments} segments, {counts.num_cached} of which were looked "
        f"through before{failed}\n"
    )


def _quarantine(
    outcome: Outcome[StoredSegment, LookReceipt[PartT]],
    store: Store,
    book: PartsBook[PartT],
    *,
    look: Look,
    on_event: EventSink,
) -> None:
    """Note for later what could not be looked at."""
    record, manifest = book.find(outcome.task.segment_id)
    lost = LostFrames(look=look, video=manifest, segment=record)
    if outcome.failure is not None:
        write_failure(store, lost.of_segment(outcome.failure))
    if outcome.receipt is not None and outcome.receipt.faults:
        failure = lost.of_frames(outcome.receipt.faults)
        write_failure(store, failure)
        on_event(Note(text=f"{manifest.name}: {failure.reason}"))


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
