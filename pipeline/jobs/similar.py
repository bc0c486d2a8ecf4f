"""`framevault similar`: the frames of a vault that look most like a picture, from stored vectors."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from framevault.configs.run import SimilarJob
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.classify import ChosenModel, choose_model, look_for_facts
from framevault.pipeline.jobs.looking import LookCounts, report, select
from framevault.pipeline.jobs.query_picture import read_picture
from framevault.pipeline.progress import open_progress
from framevault.pipeline.tables import print_table
from framevault.storage.similarity import find_similar
from framevault.storage.vault import open_vault
from framevault.workers.classifier import Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarResult:
    """What a search found."""

    matches: pa.Table
    """Rows of `MATCHES_SCHEMA`, of faces of `FACE_MATCHES_SCHEMA`: nearest first."""
    counts: LookCounts
    """How it went."""


def print_similar(job: SimilarJob, *, as_json: bool) -> ExitCode:
    """Search, show how it goes, and print the nearest frames; errors as `run_similar`.

    Returns:
        `QUARANTINED` if a chosen segment could not be looked through.
    """
    with open_progress(as_json=as_json) as on_event:
        result = run_similar(job, on_event=on_event)

    def show(matches: pa.Table) -> None:
        columns = ["video", "time_s", "distance", "video_frame"]
        if job.face and matches["face_number"].null_count < matches.num_rows:
            columns += ["face_number", "x_min", "y_min", "x_max", "y_max"]
        shown = matches.select(columns)
        print_table(shown, title=f"{'Faces' if job.face else 'Frames'} most like {job.image}")

    return report(result.counts, name="matches", table=result.matches, as_json=as_json, show=show)


def run_similar(job: SimilarJob, *, on_event: EventSink) -> SimilarResult:
    """Find the chosen frames or faces that are most like a picture; segments without vectors are looked through first.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        CheckpointError: There is no such classifier, or its weights can't be had.
        PreflightError: The picture can't be read, or the vault was written with weights that are nowhere.
        DamagedError: The vault's own weights are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    if job.face:
        # Here, for it imports torchvision, which takes longer than most searches.
        from framevault.pipeline.jobs.similar_faces import find_faces

        matches, counts = find_faces(job, on_event=on_event)
        return SimilarResult(matches=matches, counts=counts)
    frame_1hwc = read_picture(job.image)
    store = open_vault(job.vault, create=False)
    selection = select(store, job.where)
    model = choose_model(job)
    _, counts = look_for_facts(job, selection, model, kinds=("labels", "vectors"), name="similar", on_event=on_event)
    matches = find_similar(
        store,
        _vector_of(frame_1hwc, model),
        model_fp=model.model_fp,
        frames=selection.frames,
        top=job.top,
        apart_s=job.apart_s,
    )
    return SimilarResult(matches=matches, counts=counts)


def _vector_of(frame_1hwc: NDArray[np.uint8], model: ChosenModel) -> NDArray[np.float32]:
    """Return a picture's pooled vector, as a perfect codec would have it."""
    classifier = Classifier(model.name, model.path)
    frames_nchw = torch.from_numpy(frame_1hwc).permute(0, 3, 1, 2)
    facts = classifier(classifier.head_features(frames_nchw))
    vector_p: NDArray[np.float32] = facts.vectors_np[0].astype(np.float32)
    return vector_p
