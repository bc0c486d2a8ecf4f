"""`framevault classify`: what whole frames show, from a vault's stored features."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from framevault.configs.run import ClassifyJob, SimilarJob
from framevault.pipeline.executors.base import EventSink, Executor
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.checkpoints import weights_sources
from framevault.pipeline.jobs.looking import (
    LookCounts,
    PartsBook,
    Selection,
    find_codecs,
    look_through,
    report,
    select,
)
from framevault.pipeline.jobs.lost_frames import Look
from framevault.pipeline.placement import place_worker
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import print_table
from framevault.storage.frame_facts import (
    FactKind,
    FactManifest,
    FactPart,
    commit_facts,
    load_fact_manifests,
    read_facts,
)
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.classifier import check_head, classifier_backbone, classifier_fingerprint, find_classifier
from framevault.workers.classify import ClassifySettings, SegmentFacts
from framevault.workers.stored_specs import StoredSpecs

STAGES = ("read", "decode", "classify", "write")
"""What a stored segment goes through."""

MOST_ROWS = 25
"""Labels that are printed; all of them are in the view `labels`, and in what `--json` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyResult:
    """What a classification found."""

    labels: pa.Table
    """A row a label: `label`, `first` (frames that show it before all else), `frames` with it among the best,
    `best_score`; most frames first."""
    counts: LookCounts
    """How it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """A classifier whose weights were found."""

    name: str
    """Its name."""
    path: Path
    """Its weights."""
    model_fp: str
    """Its fingerprint, as it stands in keys."""


def print_classify(job: ClassifyJob, *, as_json: bool) -> ExitCode:
    """Classify, show how it goes, and print what the frames show; errors as `run_classify`.

    Returns:
        `QUARANTINED` if a chosen segment could not be looked through.
    """
    with open_progress(as_json=as_json) as on_event:
        result = run_classify(job, on_event=on_event)

    def show(labels: pa.Table) -> None:
        shown = labels.slice(0, MOST_ROWS)
        print_table(shown, title=f"Labels among a frame's best {job.top}")
        if shown.num_rows < labels.num_rows:
            sys.stdout.write(f"and {labels.num_rows - shown.num_rows} more labels, in the view labels\n")

    return report(result.counts, name="labels", table=result.labels, as_json=as_json, show=show)


def run_classify(job: ClassifyJob, *, on_event: EventSink) -> ClassifyResult:
    """Look through the segments that hold the chosen frames, and sum up what those frames show.

    A segment that this classifier looked through before is not looked through again.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        CheckpointError: There is no such classifier, or its weights can't be had.
        PreflightError: The vault was written with weights that are nowhere.
        DamagedError: The vault's own weights are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    store = open_vault(job.vault, create=False)
    selection = select(store, job.where)
    kinds: tuple[FactKind, ...] = ("labels", "vectors") if job.vectors else ("labels",)
    model = choose_model(job)
    book, counts = look_for_facts(job, selection, model, kinds=kinds, name="classify", on_event=on_event)
    parts = [facts.parts["labels"] for facts in book.parts.values()]
    return ClassifyResult(labels=_sum_up(store, selection.frames, parts, top=job.top), counts=counts)


def choose_model(job: ClassifyJob | SimilarJob) -> ChosenModel:
    """Find a classifier's weights.

    Raises:
        CheckpointError: There is no such classifier, or its weights can't be had.
    """
    path = find_classifier(job.classifier, weights=job.classifier_weights).absolute()
    fingerprint = classifier_fingerprint(job.classifier, path)
    return ChosenModel(name=job.classifier, path=path, model_fp=fingerprint[:16])


def look_for_facts(
    job: ClassifyJob | SimilarJob,
    selection: Selection,
    model: ChosenModel,
    *,
    kinds: tuple[FactKind, ...],
    name: str,
    on_event: EventSink,
) -> tuple[PartsBook[SegmentFacts], LookCounts]:
    """Look through the chosen segments that lack one of some kinds of facts.

    Args:
        job: Who works, and where.
        selection: What was chosen.
        model: Who classifies.
        kinds: What is wanted; all of it comes from one pass.
        name: The job's, for events.
        on_event: Is told how it goes.

    Raises:
        PreflightError: A video was encoded with weights that are nowhere, or holds another backbone's features.
        DamagedError: The vault's own weights are not what they must be.
        CheckpointError: The classifier was trained behind another head than what the vault holds comes from.
        JobStoppedError: The store or the device failed for too long.
    """
    reader = f"classifier {model.name}"
    backbone = classifier_backbone(model.name)
    for spec in find_codecs(selection, StoredSpecs(weights_sources(job)), backbone=backbone, reader=reader):
        check_head(model.name, model.path, spec)
    book = open_facts_book(selection, model, kinds)
    counts = look_through(
        job,
        selection,
        book,
        look=Look(kind=kinds[-1], model_fp=model.model_fp, command=_command(job, kinds)),
        name=name,
        stages=STAGES,
        worker=lambda executor: _classify_settings(job, executor, model, kinds),
        on_event=on_event,
    )
    return book, counts


def _command(job: ClassifyJob | SimilarJob, kinds: tuple[FactKind, ...]) -> str:
    """Return what to type to look again."""
    words = ["framevault", "classify", job.vault, "--classifier", job.classifier]
    words += ["--vectors"] if "vectors" in kinds else []
    words += [] if job.classifier_weights is None else ["--classifier-weights", job.classifier_weights]
    return shlex.join([*words, *(word for path in job.weights for word in ("--weights", path))])


def open_facts_book(selection: Selection, model: ChosenModel, kinds: tuple[FactKind, ...]) -> PartsBook[SegmentFacts]:
    """Return which of the chosen segments have all of some kinds of a model's facts."""
    store = selection.store

    def commit(video_id: str, run_fp: str, found: Sequence[SegmentFacts]) -> None:
        for kind in kinds:
            commit_facts(
                store,
                FactManifest(
                    kind=kind,
                    model_fp=model.model_fp,
                    model=model.name,
                    video_id=video_id,
                    run_fp=run_fp,
                    parts=tuple(facts.parts[kind] for facts in found),
                ),
            )

    known: dict[str, dict[FactKind, FactPart]] = {}
    for kind in kinds:
        for manifest in load_fact_manifests(store, kind):
            if manifest.model_fp == model.model_fp:
                for part in manifest.parts:
                    known.setdefault(part.segment_id, {})[kind] = part
    whole = [
        (segment_id, SegmentFacts(segment_id=segment_id, parts=parts))
        for segment_id, parts in known.items()
        if len(parts) == len(kinds)
    ]
    return PartsBook(selection, known=whole, commit=commit)


def _classify_settings(
    job: ClassifyJob | SimilarJob, executor: Executor, model: ChosenModel, kinds: tuple[FactKind, ...]
) -> ClassifySettings:
    placement = place_worker(job, executor)
    return ClassifySettings(
        vault_url=job.vault,
        classifier=model.name,
        classifier_path=str(model.path),
        model_fp=model.model_fp,
        kinds=kinds,
        device=placement.device,
        batch_size=job.batch_size,
        num_slots=placement.num_slots,
        threads_per_slot=job.threads_per_worker,
        weights=weights_sources(job),
    )


def _sum_up(store: Store, chosen: pa.Table, parts: Sequence[FactPart], *, top: int) -> pa.Table:
    """Count the labels of the chosen frames."""
    tables = []
    for part in parts:
        rows = read_facts("labels", part.part.key, store.read_checked(part.part))
        rows = rows.select(["frame_number", "rank", "label", "score"]).filter(pc.less_equal(rows["rank"], top))
        rows = rows.set_column(2, "label", rows["label"].cast(pa.string()))
        segment_ids = pa.array([part.segment_id], pa.string()).take(pa.array([0] * rows.num_rows, pa.int32()))
        tables.append(rows.append_column("segment_id", segment_ids))
    if not tables:
        return _LABELS_SCHEMA.empty_table()
    found = pa.concat_tables(tables)
    found = found.join(chosen.select(["segment_id", "frame_number"]), ["segment_id", "frame_number"], join_type="inner")
    found = found.append_column("is_first", pc.equal(found["rank"], 1).cast(pa.int64()))
    per_label = found.group_by("label").aggregate([("is_first", "sum"), ("rank", "count"), ("score", "max")])
    summed = pa.table(
        {
            "label": per_label["label"],
            "first": per_label["is_first_sum"],
            "frames": per_label["rank_count"],
            "best_score": per_label["score_max"],
        }
    ).cast(_LABELS_SCHEMA)
    return summed.sort_by([("first", "descending"), ("frames", "descending"), ("label", "ascending")])


_LABELS_SCHEMA = pa.schema(
    [("label", pa.string()), ("first", pa.int64()), ("frames", pa.int64()), ("best_score", pa.float32())]
)
