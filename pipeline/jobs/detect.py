"""`framevault detect`: objects in a vault's stored features."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from framevault.configs.run import DetectJob
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink, Executor
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.checkpoints import weights_sources
from framevault.pipeline.jobs.detector_choice import DetectorChoice, choose_detector
from framevault.pipeline.jobs.looking import (
    LookCounts,
    PartsBook,
    Selection,
    find_codecs,
    look_through,
    report,
    select,
    stored_codecs,
)
from framevault.pipeline.jobs.lost_frames import Look
from framevault.pipeline.placement import place_worker
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import print_table
from framevault.storage.detections import (
    DetectionManifest,
    DetectionPart,
    commit_detections,
    load_detection_manifests,
)
from framevault.storage.schema import read_detections
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.detect import DetectSettings
from framevault.workers.detectors.base import SCORE_FLOOR
from framevault.workers.detectors.registry import detector_fingerprint, detector_head, detector_row
from framevault.workers.stored_specs import StoredSpecs
from framevault.workers.weights import has_head

STAGES = ("read", "decode", "detect", "write")
"""What a stored segment goes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectResult:
    """What a detection run found."""

    labels: pa.Table
    """A row a label: `label`, `objects`, `frames` with at least one, `best_score`; most objects first."""
    counts: LookCounts
    """How it went."""
    choice: DetectorChoice
    """Which detector looked, and why."""


def print_detect(job: DetectJob, *, as_json: bool) -> ExitCode:
    """Detect, show how it goes, and print what was found; errors as `run_detect`.

    Returns:
        `QUARANTINED` if a chosen segment could not be looked through.
    """
    with open_progress(as_json=as_json) as on_event:
        result = run_detect(job, on_event=on_event)
    title = f"Objects with a score of {job.score} or more, found by detector {result.choice.detector}"
    return report(
        result.counts,
        name="labels",
        table=result.labels,
        as_json=as_json,
        show=lambda labels: print_table(labels, title=title),
        facts={"detector": result.choice.detector, "detector_reason": result.choice.reason},
    )


def run_detect(job: DetectJob, *, on_event: EventSink) -> DetectResult:
    """Look through the segments that hold the chosen frames, and sum up what is in those frames.

    A segment that this detector looked through before is not looked through again. Everything down to a score of
    `SCORE_FLOOR` is stored; `score` only decides what is shown.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        DetectorError: There is no such detector, or its weights can't be had.
        PreflightError: The vault was written with weights that are nowhere.
        DamagedError: The vault's own weights are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    store = open_vault(job.vault, create=False)
    selection = select(store, job.where)
    specs = StoredSpecs(weights_sources(job))
    choice = choose_detector(job, stored_codecs(selection, specs))
    detector = choice.detector
    row = detector_row(detector, has_masks=job.masks)
    reader = f"detector {detector}"
    for spec in find_codecs(selection, specs, backbone=row.backbone, reader=reader):
        if row.reads == "features" and not has_head(spec, detector_head(detector, weights=job.detector_weights)):
            on_event(
                Note(
                    text=f"{spec.checkpoint_path}: its features are of another backbone than those that {reader} was "
                    "trained on; expect it to find less"
                )
            )
    detector_fp = _detector_fp(job, detector)
    book = _open_book(store, selection, detector=detector, detector_fp=detector_fp, has_masks=job.masks)
    counts = look_through(
        job,
        selection,
        book,
        look=Look(kind="detections", model_fp=detector_fp, command=_command(job, detector)),
        name="detect",
        stages=STAGES,
        worker=lambda executor: _detect_settings(job, executor, detector=detector, detector_fp=detector_fp),
        on_event=on_event,
    )
    labels = _sum_up(store, selection.frames, book.parts, score=job.score)
    return DetectResult(labels=labels, counts=counts, choice=choice)


def _command(job: DetectJob, detector: str) -> str:
    """Return what to type to look again."""
    words = ["framevault", "detect", job.vault, "--detector", detector, *(["--masks"] if job.masks else [])]
    words += [] if job.detector_weights is None else ["--detector-weights", job.detector_weights]
    return shlex.join([*words, *(word for path in job.weights for word in ("--weights", path))])


def _detector_fp(job: DetectJob, detector: str) -> str:
    path = None if job.detector_weights is None else os.path.abspath(job.detector_weights)
    return detector_fingerprint(detector, weights=path, has_masks=job.masks)[:16]


def _open_book(
    store: Store, selection: Selection, *, detector: str, detector_fp: str, has_masks: bool
) -> PartsBook[DetectionPart]:
    def commit(video_id: str, run_fp: str, parts: Sequence[DetectionPart]) -> None:
        commit_detections(
            store,
            DetectionManifest(
                detector_fp=detector_fp,
                detector=detector,
                video_id=video_id,
                run_fp=run_fp,
                score_floor=SCORE_FLOOR,
                parts=tuple(parts),
                has_masks=has_masks,
            ),
        )

    manifests = load_detection_manifests(store)
    known = [part for manifest in manifests if manifest.detector_fp == detector_fp for part in manifest.parts]
    return PartsBook(selection, known=((part.segment_id, part) for part in known), commit=commit)


def _detect_settings(job: DetectJob, executor: Executor, *, detector: str, detector_fp: str) -> DetectSettings:
    placement = place_worker(job, executor)
    return DetectSettings(
        vault_url=job.vault,
        detector=detector,
        detector_fp=detector_fp,
        device=placement.device,
        batch_size=job.batch_size,
        num_slots=placement.num_slots,
        threads_per_slot=job.threads_per_worker,
        weights=weights_sources(job),
        detector_weights=None if job.detector_weights is None else os.path.abspath(job.detector_weights),
        has_masks=job.masks,
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
