"""`framevault compress`: sources into a vault."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from framevault.codecs.spec import CODECS
from framevault.configs.run import CompressJob
from framevault.pipeline.events import JobDone, JobStarted, Note, StageReport, TaskDone, TaskFailed, TasksPlanned
from framevault.pipeline.executors.base import EventSink, Executor, Outcome
from framevault.pipeline.executors.policy import FailureCategory, classify
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.checkpoints import keep_checkpoints
from framevault.pipeline.jobs.ledger import Ledger, Totals
from framevault.pipeline.jobs.settings import codec_spec, decode_limits, face_search, plan_settings
from framevault.pipeline.placement import FAILURE_CATEGORIES, open_executor, place_worker
from framevault.pipeline.planning import ProbeFailure, SourcePlan, plan_source
from framevault.pipeline.probing import PROBE_ERRORS, ProbedSource, SourceProber
from framevault.pipeline.progress import open_progress
from framevault.pipeline.sources import SourceLocation, expand_inputs
from framevault.pipeline.tables import describe_bytes
from framevault.storage.vault import open_vault
from framevault.workers.encode import EncodeSettings
from framevault.workers.face_finder import MOST_FACES_CODED
from framevault.workers.tasks import Receipt, Segment

STAGES = ("decode", "encode", "write")
"""What a segment goes through."""

PROBE_ATTEMPTS = 3
"""Tries of a source that can't be probed for a reason that may pass."""

PROBE_WAIT_S = 1.0
"""Seconds before the second try; the third waits twice as long."""


def print_compress(job: CompressJob, *, as_json: bool) -> ExitCode:
    """Compress, show how it goes, and print what was done; errors as `run_compress`.

    Returns:
        `QUARANTINED` if some of what was asked for is not in the vault.
    """
    with open_progress(as_json=as_json) as on_event:
        totals = run_compress(job, on_event=on_event)
    if as_json:
        sys.stdout.write(json.dumps({"event": "summary", **asdict(totals)}) + "\n")
    else:
        sys.stdout.write(_describe(totals, job) + "\n")
    return ExitCode.QUARANTINED if totals.has_failures else ExitCode.DONE


def run_compress(job: CompressJob, *, on_event: EventSink) -> Totals:
    """Compress the job's sources into its vault.

    Raises:
        InputError: A source is not there.
        VaultError: The vault's address is no vault of this version.
        CodecError: The codec has no such slices, or its checkpoint can't be read.
        DamagedError: The checkpoint that the vault keeps is not as long as it must be.
        PreflightError: The settings do not fit together or this machine.
        JobStoppedError: The store or the device failed for too long, or the same bug showed on several videos.
    """
    started = time.monotonic()
    locations = expand_inputs(job.inputs)
    settings = plan_settings(job)
    store = open_vault(job.vault, create=True)
    codec = codec_spec(job)
    # Before anything is encoded: no manifest may ever name a pack whose checkpoint is not there.
    keep_checkpoints(store, [codec])
    ledger = Ledger(
        store,
        codec=codec,
        plan_settings=settings,
        retry_failed=job.retry_failed,
    )
    with open_executor(job, store) as executor:
        encode = _encode_settings(job, executor)
        on_event(JobStarted(job="compress", stages=STAGES, num_tasks=None, num_frames=None))
        segments = _pending_segments(locations, job, ledger, on_event)
        for outcome in executor.run(segments, encode, on_event=on_event):
            _book(outcome, ledger, on_event)
    totals = ledger.totals
    on_event(
        JobDone(
            num_tasks_done=totals.segments_done,
            num_tasks_failed=totals.segments_failed + totals.sources_unreadable,
            num_frames=totals.frames_done,
            elapsed_s=time.monotonic() - started,
        )
    )
    return totals


def _encode_settings(job: CompressJob, executor: Executor) -> EncodeSettings:
    placement = place_worker(job, executor)
    return EncodeSettings(
        vault_url=job.vault,
        codec=codec_spec(job, device=placement.device),
        limits=decode_limits(job),
        batch_size=job.batch_size,
        num_slots=placement.num_slots,
        threads_per_slot=job.threads_per_worker,
        face_search=face_search(job),
    )


def _pending_segments(
    locations: list[SourceLocation], job: CompressJob, ledger: Ledger, on_event: EventSink
) -> Iterator[Segment]:
    """Probe one source after the other and give the segments that are still to be encoded."""
    with SourceProber(limits=decode_limits(job)) as prober:
        for location in locations:
            probed = _probe(location, prober, ledger, on_event)
            if probed is None or ledger.knows(probed.info.video_id, location):
                continue
            segments = tuple(plan_source(probed, settings=ledger.plan_settings))
            pending = ledger.open_video(SourcePlan(info=probed.info, locations=(location,), segments=segments))
            if kept := len(segments) - len(pending):
                on_event(Note(text=f"{location.name}: {kept} of {len(segments)} segments are settled already"))
            num_frames = sum(segment.num_frames for segment in pending)
            on_event(TasksPlanned(name=location.name, num_tasks=len(pending), num_frames=num_frames))
            yield from pending


def _probe(location: SourceLocation, prober: SourceProber, ledger: Ledger, on_event: EventSink) -> ProbedSource | None:
    """Probe a source; one that can't be read goes to quarantine, and the rest goes on.

    What may pass (a killed child, a share that does not answer) is tried `PROBE_ATTEMPTS` times.
    """
    for attempt in range(1, PROBE_ATTEMPTS + 1):
        try:
            return prober.probe(location)
        except PROBE_ERRORS as error:
            category: FailureCategory = classify(error, FAILURE_CATEGORIES)
            failure = ProbeFailure(location=location, error=error)
            if category in ("input", "bug") or attempt == PROBE_ATTEMPTS:
                break
        time.sleep(PROBE_WAIT_S * attempt)
    subject_id = hashlib.sha256(location.url.encode()).hexdigest()[:32]
    ledger.add_unreadable(failure, subject_id=subject_id, category=category, attempts=attempt)
    reason = str(failure.error)
    on_event(TaskFailed(task_id=subject_id, name=location.name, category=category, reason=reason, attempts=attempt))
    return None


def _book(outcome: Outcome[Segment, Receipt], ledger: Ledger, on_event: EventSink) -> None:
    """Enter what came of a segment, and tell."""
    segment = outcome.task
    if outcome.receipt is not None:
        ledger.add_receipt(segment, outcome.receipt)
        on_event(_task_done(outcome.receipt))
        for remark in _remarks(outcome.receipt):
            on_event(Note(text=f"{segment.source.name}, segment {segment.number}: {remark}"))
    if outcome.failure is not None:
        ledger.add_failure(segment, outcome.failure)
        on_event(
            TaskFailed(
                task_id=segment.task_id,
                name=f"{segment.source.name}, segment {segment.number}",
                category=outcome.failure.category,
                reason=outcome.failure.reason,
                attempts=outcome.failure.attempts,
            )
        )


def _remarks(receipt: Receipt) -> Iterator[str]:
    """Give what should not pass without a word."""
    if receipt.num_outside:
        yield f"{receipt.num_outside} of {receipt.num_frames} frames are outside the codec's domain"
    faces = receipt.faces
    if faces is not None and faces.num_outside:
        yield f"{faces.num_outside} of {faces.part.num_rows} faces are outside the domain of what codes them"
    if faces is not None and faces.num_left_out:
        yield f"{faces.num_left_out} faces are left out: of each frame, the best {MOST_FACES_CODED} are coded"


def _task_done(receipt: Receipt) -> TaskDone:
    return TaskDone(
        task_id=receipt.segment_id,
        num_frames=receipt.num_frames,
        stages=(
            StageReport(stage="decode", busy_s=receipt.decode_s),
            StageReport(stage="encode", busy_s=receipt.encode_s, size_bytes=receipt.record.payload_bytes),
            StageReport(stage="write", busy_s=receipt.write_s, size_bytes=receipt.record.pack.size_bytes),
        ),
    )


def _describe(totals: Totals, job: CompressJob) -> str:
    vault = job.vault
    lines = [
        f"{totals.videos} videos in {vault}: {totals.segments_done} segments ({totals.frames_done} frames) "
        f"encoded now, {totals.segments_kept} were there; {describe_bytes(totals.stored_bytes)} in packs for "
        f"{describe_bytes(totals.source_bytes)} of sources"
    ]
    if totals.frames_outside:
        lines.append(
            f"{totals.frames_outside} frames are outside the codec's domain, and what is restored of them is far from "
            f"what they were: framevault query {vault} 'select video, video_frame from frames where is_outside'"
        )
    if CODECS[job.codec].faces_codec is not None and totals.frames_done:
        lines += _describe_faces(totals, job)
    if totals.has_failures:
        lines.append(
            f"{totals.sources_unreadable} sources can't be read and {totals.segments_failed} segments are "
            f"in quarantine: framevault query {vault} 'select video, reason, command from failures'"
        )
    return "\n".join(lines)


def _describe_faces(totals: Totals, job: CompressJob) -> list[str]:
    """Say how many faces there are, and what is wrong with some."""
    lines = [f"{totals.faces_done} faces in them are coded besides, {totals.faces_outside} of them outside the domain"]
    if totals.faces_outside:
        lines[0] += (
            ", so that what is restored of those is far from what they were: "
            f"framevault query {job.vault} 'select video, video_frame, face_number from faces where is_outside'"
        )
    if totals.faces_left_out:
        lines.append(
            f"{totals.faces_left_out} faces were found and left out: of each frame, the best {MOST_FACES_CODED} are "
            "coded"
        )
    if totals.faces_small:
        lines.append(
            f"{totals.faces_small} faces were found and left out: a side of their box has less than {job.face_size} "
            "pixels"
        )
    return lines
