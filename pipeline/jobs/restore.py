"""`framevault restore`: stored frames as pictures, videos or a contact sheet, for people to look at."""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.editing import parse_edit
from framevault.configs.restore import RestoreJob
from framevault.pipeline.events import JobDone, JobStarted, Note, StageReport, TaskDone, TaskFailed
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.checkpoints import weights_sources
from framevault.pipeline.jobs.restore_output import check_sheet, open_output, present_files, write_sheet
from framevault.pipeline.jobs.restore_tasks import ChosenVideo, choose_videos, picture_tasks, tile_tasks, video_tasks
from framevault.pipeline.placement import open_executor, place_worker
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import describe_bytes
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.output_folder import remove_leftovers
from framevault.workers.restore import RestoreReceipt, RestoreTask, RestoreWorkerSettings, Tile
from framevault.workers.restored import Depth, RestoreSettings, check_depth, check_restorable, edit_shift
from framevault.workers.stored_specs import StoredSpecs
from framevault.workers.video_file import has_encoder

STAGES = ("read", "decode", "write")
"""What a task goes through."""

MOST_NOTES = 20
"""Lines about frames that can't be decoded; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """How a restoration went."""

    num_frames: int
    """Frames restored."""
    num_there: int
    """Chosen frames that an earlier run of the same command restored."""
    num_lost: int
    """Frames that could not be decoded."""
    num_failed: int
    """Segments or videos of which nothing could be restored."""
    num_left_out: int
    """Chosen frames that the sheet has no place for."""
    size_bytes: int
    """Of the files written."""


def print_restore(job: RestoreJob, *, as_json: bool) -> ExitCode:
    """Restore, show how it goes, and say what came of it; errors as `run_restore`.

    Returns:
        `QUARANTINED` if a chosen frame could not be restored.
    """
    with open_progress(as_json=as_json) as on_event:
        result = run_restore(job, on_event=on_event)
    if as_json:
        sys.stdout.write(json.dumps({"event": "summary", **asdict(result), "out": job.out}) + "\n")
    else:
        sys.stdout.write(_sentence(result, job))
    return ExitCode.QUARANTINED if result.num_lost or result.num_failed else ExitCode.DONE


def run_restore(job: RestoreJob, *, on_event: EventSink) -> RestoreResult:
    """Restore the chosen frames; files that the same command wrote before are left as they are.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: No frame is chosen; a video keeps no pictures, or was encoded with weights that are nowhere;
            slices, edits or the output don't fit.
        DamagedError: The vault's own weights or directions are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    store = open_vault(job.vault, create=False)
    videos = choose_videos(store, job.where)
    settings = _check(job, videos)
    num_chosen = sum(len(video.frames) for video in videos)
    if job.kind == "sheet":
        check_sheet(Path(job.out))
        tasks = tile_tasks(videos, most=job.tiles)
        num_there, num_left_out = 0, num_chosen - _count(tasks)
    else:
        tasks = _plan_files(job, store, videos)
        num_there, num_left_out = num_chosen - _count(tasks), 0
    work = _Work(job, settings, on_event=on_event)
    try:
        work.run(tasks, store)
    finally:
        if job.kind != "sheet":
            remove_leftovers(Path(job.out))
    sheet_bytes = write_sheet(Path(job.out), videos, work.tiles) if work.tiles else 0
    return RestoreResult(
        num_frames=work.num_frames,
        num_there=num_there,
        num_lost=work.num_lost,
        num_failed=work.num_failed,
        num_left_out=num_left_out,
        size_bytes=work.size_bytes + sheet_bytes,
    )


def _plan_files(job: RestoreJob, store: Store, videos: Sequence[ChosenVideo]) -> list[RestoreTask]:
    """Make the output folder ready, and return what is not in it."""
    out = Path(job.out)
    open_output(out, _describe(job, store))
    there = present_files(out)
    if job.kind == "frames":
        return [task for video in videos for task in picture_tasks(video, there)]
    return [task for video in videos for task in video_tasks(video, there)]


def _describe(job: RestoreJob, store: Store) -> dict[str, object]:
    """Return all that decides what a file of one name holds."""
    names = ["kind", "slices", "edits", "directions"]
    if job.kind == "video":
        names += ["where", "video_codec", "starts_at_zero"]
    return {"vault": store.url, **{name: getattr(job, name) for name in names}}


def _count(tasks: Iterable[RestoreTask]) -> int:
    return sum(task.num_frames for task in tasks)


class _Work:
    """Runs tasks, and adds up what comes of them."""

    def __init__(self, job: RestoreJob, settings: RestoreSettings, *, on_event: EventSink) -> None:
        self._job, self._settings, self._on_event = job, settings, on_event
        self.num_frames = self.num_lost = self.num_failed = self.size_bytes = 0
        self.tiles: list[Tile] = []
        """Of a sheet, in no order."""

    def run(self, tasks: Sequence[RestoreTask], store: Store) -> None:
        """Run all tasks."""
        started = time.monotonic()
        num_frames = sum(task.num_frames for task in tasks)
        self._on_event(JobStarted(job="restore", stages=STAGES, num_tasks=len(tasks), num_frames=num_frames))
        if tasks:
            with open_executor(self._job, store) as executor:
                make_worker = _worker_settings(self._job, executor, self._settings)
                for outcome in executor.run(tasks, make_worker, on_event=self._on_event):
                    self._add(outcome)
        self._on_event(
            JobDone(
                num_tasks_done=len(tasks) - self.num_failed,
                num_tasks_failed=self.num_failed,
                num_frames=self.num_frames,
                elapsed_s=time.monotonic() - started,
            )
        )

    def _add(self, outcome: Outcome[RestoreTask, RestoreReceipt]) -> None:
        task, receipt, failure = outcome.task, outcome.receipt, outcome.failure
        if receipt is not None:
            self.num_frames += receipt.num_frames
            self.size_bytes += receipt.size_bytes
            self.tiles += receipt.tiles
            for text in receipt.faults[: max(0, MOST_NOTES - self.num_lost)]:
                self._on_event(Note(text=f"{task.name}: {text}"))
            self.num_lost += len(receipt.faults)
            reports = zip(STAGES, receipt.stage_seconds, strict=True)
            stages = tuple(StageReport(stage=stage, busy_s=busy_s) for stage, busy_s in reports)
            self._on_event(TaskDone(task_id=task.task_id, num_frames=receipt.num_frames, stages=stages))
        if failure is not None:
            self.num_failed += 1
            self._on_event(
                TaskFailed(
                    task_id=task.task_id,
                    name=task.name,
                    category=failure.category,
                    reason=failure.reason,
                    attempts=failure.attempts,
                )
            )


def _check(job: RestoreJob, videos: Sequence[ChosenVideo]) -> RestoreSettings:
    """Check all that can be checked before anything is decoded; return how pictures are made, but for the device."""
    if job.kind == "video" and not has_encoder(job.video_codec):
        raise PreflightError(f"video codec {job.video_codec} is not in this installation's libavcodec")
    depth: Depth = 0 if job.slices == "core" else job.slices
    settings = RestoreSettings(
        device="cpu",
        batch_size=job.batch_size,
        num_slots=1,
        weights=weights_sources(job),
        depth=depth,
        edits=tuple(parse_edit(text) for text in job.edits),
        directions=None if job.directions is None else os.path.abspath(job.directions),
    )
    specs = StoredSpecs(settings.weights)
    for video in videos:
        manifest = video.manifest
        try:
            spec = specs.of_video(manifest)
            check_restorable(spec, name="it")
            check_depth(spec, depth)
            edit_shift(spec, settings.edits, settings.directions, sources=settings.weights)
        except CodecError as error:
            raise PreflightError(f"video {manifest.name}: {error}") from error
    return settings


def _worker_settings(job: RestoreJob, executor: Executor, settings: RestoreSettings) -> RestoreWorkerSettings:
    placement = place_worker(job, executor)
    return RestoreWorkerSettings(
        vault_url=job.vault,
        restore=replace(settings, device=placement.device, num_slots=placement.num_slots),
        threads_per_slot=job.threads_per_worker,
        out=None if job.kind == "sheet" else os.path.abspath(job.out),
        video_codec=job.video_codec,
        starts_at_zero=job.starts_at_zero,
        tile_side=job.tile_side if job.kind == "sheet" else 0,
    )


def _sentence(result: RestoreResult, job: RestoreJob) -> str:
    """Say in a line what came of it."""
    text = f"{result.num_frames} frames restored to {job.out}, {describe_bytes(result.size_bytes)}"
    if result.num_there:
        text += f"; {result.num_there} were there already"
    if result.num_left_out:
        text += f"; {result.num_left_out} more have no place on the sheet (--tiles)"
    if result.num_lost:
        text += f"; {result.num_lost} could not be decoded"
    if result.num_failed:
        text += f"; nothing of {result.num_failed} segments or videos"
    return text + "\n"
