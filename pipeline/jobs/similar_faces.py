"""`framevault similar --face`: the stored faces most like one on a picture, from their core symbols alone."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.compute as pc

from framevault.codecs.spec import CODECS, CodecSpec, weights_digest
from framevault.configs.run import SimilarJob
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.checkpoints import weights_sources
from framevault.pipeline.jobs.classify import ChosenModel, open_facts_book
from framevault.pipeline.jobs.looking import LookCounts, Selection, look_through, select, stored_codecs
from framevault.pipeline.jobs.lost_frames import Look
from framevault.pipeline.jobs.query_face import vector_of_face, vector_on_photo
from framevault.pipeline.jobs.query_picture import read_picture
from framevault.storage.frame_facts import FactKind
from framevault.storage.similarity import FACE_KINDS, find_similar_faces
from framevault.storage.vault import open_vault
from framevault.workers.face_vectors import FACE_MODEL, FaceVectorSettings, face_fingerprint
from framevault.workers.stored_faces import spec_of_faces
from framevault.workers.stored_specs import StoredSpecs

STAGES = ("read", "decode", "write")
"""What a stored segment goes through."""


def find_faces(job: SimilarJob, *, on_event: EventSink) -> tuple[pa.Table, LookCounts]:
    """Find the chosen faces that are most like a picture's; segments without vectors are looked through first.

    Where chosen frames have faces, the picture may be any with a face on it; where all of them are faces, it must be
    one itself.

    Returns:
        Rows of `storage.similarity.FACE_MATCHES_SCHEMA`, nearest first; and how it went.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: The picture can't be read or shows no face, no chosen video holds faces, or they were written
            with weights that are nowhere or with several.
        DamagedError: The vault's own weights are not what they must be.
        JobStoppedError: The store or the device failed for too long.
    """
    frame_1hwc = read_picture(job.image)
    store = open_vault(job.vault, create=False)
    selection = _only_faces(select(store, job.where), on_event=on_event)
    codecs = stored_codecs(selection, StoredSpecs(weights_sources(job)))
    spec = _one_checkpoint(codecs)
    path = spec.checkpoint_path
    assert path is not None
    model = ChosenModel(name=FACE_MODEL, path=path, model_fp=face_fingerprint(spec)[:16])
    with_faces = next((found for _, found in codecs if found.faces is not None), None)
    if with_faces is None:
        vector_k = vector_of_face(frame_1hwc, spec, name=job.image, on_event=on_event)
    else:
        vector_k = vector_on_photo(frame_1hwc, with_faces, name=job.image, on_event=on_event)
    counts = [
        look_through(
            job,
            part,
            open_facts_book(part, model, (kind,)),
            look=Look(kind=kind, model_fp=model.model_fp, command=_command(job)),
            name="similar",
            stages=STAGES,
            worker=lambda _: _worker_settings(job, model),
            on_event=on_event,
        )
        for kind, part in _by_kind(selection)
    ]
    matches = find_similar_faces(
        store, vector_k, model_fp=model.model_fp, frames=selection.frames, top=job.top, apart_s=job.apart_s
    )
    return matches, _sum(counts)


def _only_faces(selection: Selection, *, on_event: EventSink) -> Selection:
    """Return the part of a selection that was written by codecs that keep faces."""
    found = _holding(selection, FACE_KINDS)
    if not found.segment_ids:
        raise PreflightError(
            f"{selection.store.url}: no chosen video holds faces: --face searches what was compressed with --codec hsc "
            "or dicm+hsc"
        )
    if num_others := len(selection.segment_ids) - len(found.segment_ids):
        on_event(Note(text=f"{num_others} chosen segments hold no faces of codec hsc, and are not searched"))
    return found


def _by_kind(selection: Selection) -> list[tuple[FactKind, Selection]]:
    """Return the parts of a selection whose vectors are of one kind."""
    parts = [(kind, _holding(selection, (kind,))) for kind in FACE_KINDS]
    return [(kind, part) for kind, part in parts if part.segment_ids]


def _kind_of(codec: str) -> FactKind | None:
    """Return what the vectors of a codec's faces are stored as; None for a codec without."""
    if codec == "hsc":
        return "vectors"
    has_faces = codec in CODECS and CODECS[codec].faces_codec is not None
    return "face_vectors" if has_faces else None


def _holding(selection: Selection, kinds: Sequence[FactKind]) -> Selection:
    """Return the part of a selection whose codecs keep faces with vectors of some kinds."""
    manifests = tuple(manifest for manifest in selection.manifests if _kind_of(manifest.codec) in kinds)
    segment_ids = selection.segment_ids & {record.segment_id for each in manifests for record in each.segments}
    if segment_ids == selection.segment_ids:
        return selection
    counts = pc.is_in(selection.frames["segment_id"], pa.array(sorted(segment_ids), pa.string()))
    return replace(selection, frames=selection.frames.filter(counts), segment_ids=segment_ids, manifests=manifests)


def _sum(counts: Sequence[LookCounts]) -> LookCounts:
    totals = {each.name: sum(getattr(one, each.name) for one in counts) for each in fields(LookCounts)}
    return LookCounts(**totals)


def _one_checkpoint(found: Sequence[tuple[str, CodecSpec]]) -> CodecSpec:
    """Return what encoded all chosen faces."""
    codecs = [(name, faces) for name, spec in found if (faces := spec_of_faces(spec)) is not None]
    first_name, first = codecs[0]
    for name, spec in codecs:
        if weights_digest(spec) != weights_digest(first):
            raise PreflightError(
                f"the faces of videos {first_name} and {name} were encoded with different weights, whose symbols can't "
                "be compared: choose with --where"
            )
    return first


def _command(job: SimilarJob) -> str:
    """Return what to type to look again."""
    words = ["framevault", "similar", job.vault, "--face", "--image", job.image]
    return shlex.join([*words, *(word for path in job.weights for word in ("--weights", path))])


def _worker_settings(job: SimilarJob, model: ChosenModel) -> FaceVectorSettings:
    return FaceVectorSettings(
        vault_url=job.vault,
        model_fp=model.model_fp,
        threads_per_slot=job.threads_per_worker,
        weights=weights_sources(job),
    )
