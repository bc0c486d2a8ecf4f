"""`framevault thin`: stored streams at a lower rate, without their sources."""

import json
import sys
import time
from dataclasses import asdict

from framevault.configs.run import ThinJob
from framevault.pipeline.events import JobDone, JobStarted, Note, StageReport, TaskDone, TaskFailed
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.checkpoints import keep_checkpoints, weights_sources
from framevault.pipeline.jobs.looking import select
from framevault.pipeline.jobs.thin_ledger import ThinLedger, ThinTotals, plan_thinning
from framevault.pipeline.placement import open_executor, place_worker
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import describe_bytes
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.features import StoredSegment
from framevault.workers.kept_slices import KeptSlices
from framevault.workers.stored_specs import StoredSpecs
from framevault.workers.thin import ThinReceipt, ThinSettings

STAGES = ("read", "thin", "write")
"""What a stored segment goes through."""


def print_thin(job: ThinJob, *, as_json: bool) -> ExitCode:
    """Thin, show how it goes, and print what was done; errors as `run_thin`.

    Returns:
        `QUARANTINED` if a chosen segment could not be thinned.
    """
    with open_progress(as_json=as_json) as on_event:
        totals = run_thin(job, on_event=on_event)
    if as_json:
        sys.stdout.write(json.dumps({"event": "summary", **asdict(totals)}) + "\n")
    else:
        sys.stdout.write(_describe(totals, job) + "\n")
    return ExitCode.QUARANTINED if totals.segments_failed else ExitCode.DONE


def run_thin(job: ThinJob, *, on_event: EventSink) -> ThinTotals:
    """Thin the segments that hold the chosen frames, and let the runs go that they were in.

    Raises:
        VaultError: There is no vault of this version.
        StoreUnavailableError: The vault can't be written.
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: The vault was written with weights that are nowhere, or nothing chosen can be thinned so far.
        DamagedError: The vault's own weights are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    started = time.monotonic()
    store = open_vault(job.vault, create=False)
    store.check_writable()
    plan = plan_thinning(select(store, job.where), StoredSpecs(weights_sources(job)), kept=_kept(job))
    for reason, num_videos in plan.left.items():
        on_event(Note(text=f"{num_videos} of the chosen videos are left as they are: {reason}"))
    keep_checkpoints(store, [run.spec for run in plan.runs])
    ledger = ThinLedger(store, plan.runs)
    tasks = ledger.pending()
    totals = ledger.totals
    on_event(
        JobStarted(
            job="thin",
            stages=STAGES,
            num_tasks=len(tasks),
            num_frames=sum(task.num_frames for task in tasks),
            num_tasks_skipped=totals.segments_kept,
        )
    )
    if tasks:
        _run_tasks(tasks, job, store, ledger=ledger, on_event=on_event)
    on_event(
        JobDone(
            num_tasks_done=totals.segments_done,
            num_tasks_failed=totals.segments_failed,
            num_frames=totals.frames_done,
            elapsed_s=time.monotonic() - started,
        )
    )
    return totals


def _kept(job: ThinJob) -> KeptSlices:
    """Return what is kept of each stream."""
    return KeptSlices(frames=job.slices, faces=job.face_slices)


def _run_tasks(
    tasks: list[StoredSegment],
    job: ThinJob,
    store: Store,
    *,
    ledger: ThinLedger,
    on_event: EventSink,
) -> None:
    with open_executor(job, store) as executor:
        settings = _thin_settings(job, executor)
        for outcome in executor.run(tasks, settings, on_event=on_event):
            ledger.add(outcome.task, outcome.receipt)
            _tell(outcome, on_event)


def _thin_settings(job: ThinJob, executor: Executor) -> ThinSettings:
    placement = place_worker(job, executor)
    return ThinSettings(
        vault_url=job.vault,
        kept=_kept(job),
        device=placement.device,
        num_slots=placement.num_slots,
        threads_per_slot=job.threads_per_worker,
        weights=weights_sources(job),
    )


def _tell(outcome: Outcome[StoredSegment, ThinReceipt], on_event: EventSink) -> None:
    task, receipt, failure = outcome.task, outcome.receipt, outcome.failure
    if receipt is not None:
        seconds = zip(STAGES, receipt.stage_seconds, strict=True)
        stages = tuple(StageReport(stage=stage, busy_s=busy_s) for stage, busy_s in seconds)
        on_event(TaskDone(task_id=task.task_id, num_frames=receipt.record.num_frames, stages=stages))
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


def _describe(totals: ThinTotals, job: ThinJob) -> str:
    lines = [
        f"{totals.segments_done} segments ({totals.frames_done} frames) thinned now to {_kept(job).text}, "
        f"{totals.segments_kept} had been before; {describe_bytes(totals.bytes_after)} in packs instead of "
        f"{describe_bytes(totals.bytes_before)}"
    ]
    if totals.bytes_before:
        lines.append(f"The old packs are there until a framevault vacuum {job.vault} after its grace period.")
    if totals.segments_failed:
        lines.append(
            f"{totals.segments_failed} segments can't be read and are as they were: framevault verify {job.vault}"
        )
    return "\n".join(lines)
