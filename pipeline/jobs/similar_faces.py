"""`framevault similar --face`: the stored faces most like one on a picture, from their core symbols alone."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from framevault.codecs.base import SupportsDomainCheck
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec
from framevault.configs.run import SimilarJob
from framevault.pipeline.events import Note
from framevault.pipeline.executors.base import EventSink
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.classify import ChosenModel, open_facts_book
from framevault.pipeline.jobs.looking import LookCounts, Selection, look_through, select, stored_codecs
from framevault.pipeline.jobs.lost_frames import Look
from framevault.pipeline.jobs.query_picture import read_picture
from framevault.storage.similarity import find_similar
from framevault.storage.vault import open_vault
from framevault.workers.face_vectors import (
    FACE_MODEL,
    FaceVectorSettings,
    centre_of,
    core_decoder,
    face_fingerprint,
    to_vectors,
)

STAGES = ("read", "decode", "write")
"""What a stored segment goes through."""


def find_faces(job: SimilarJob, *, on_event: EventSink) -> tuple[pa.Table, LookCounts]:
    """Find the chosen faces that are most like a picture's; segments without vectors are looked through first.

    The picture must show one face, cut out as the vault's are.

    Returns:
        Rows of `storage.similarity.MATCHES_SCHEMA`, nearest first; and how it went.

    Raises:
        VaultError: There is no vault of this version.
        QueryError: The condition is no SQL condition over the frames view.
        PreflightError: The picture can't be read, no chosen video holds faces, or they were written with weights that
            are not here or with several.
        JobStoppedError: The store or the device failed for too long.
    """
    frame_1hwc = read_picture(job.image)
    store = open_vault(job.vault, create=False)
    selection = _only_faces(select(store, job.where), on_event=on_event)
    spec = _one_checkpoint(stored_codecs(selection, weights=job.weights))
    path = spec.checkpoint_path
    assert path is not None
    model = ChosenModel(name=FACE_MODEL, path=path, model_fp=face_fingerprint(spec)[:16])
    vector_k = _vector_of(frame_1hwc, spec, name=job.image, on_event=on_event)
    counts = look_through(
        job,
        selection,
        open_facts_book(selection, model, ("vectors",)),
        look=Look(kind="vectors", model_fp=model.model_fp, command=_command(job)),
        name="similar",
        stages=STAGES,
        worker=lambda _: _worker_settings(job, model),
        on_event=on_event,
    )
    matches = find_similar(
        store, vector_k, model_fp=model.model_fp, frames=selection.frames, top=job.top, apart_s=job.apart_s
    )
    return matches, counts


def _only_faces(selection: Selection, *, on_event: EventSink) -> Selection:
    """Return the part of a selection that codec hsc wrote."""
    of_faces = [manifest for manifest in selection.manifests if manifest.codec == "hsc"]
    segment_ids = selection.segment_ids & {record.segment_id for manifest in of_faces for record in manifest.segments}
    if not segment_ids:
        raise PreflightError(
            f"{selection.store.url}: no chosen video holds faces: --face searches what was compressed with --codec hsc"
        )
    if num_others := len(selection.segment_ids) - len(segment_ids):
        on_event(Note(text=f"{num_others} chosen segments hold no faces of codec hsc, and are not searched"))
    is_face = pc.is_in(selection.frames["segment_id"], pa.array(sorted(segment_ids)))
    return replace(
        selection, frames=selection.frames.filter(is_face), segment_ids=segment_ids, manifests=tuple(of_faces)
    )


def _one_checkpoint(found: Sequence[tuple[str, CodecSpec]]) -> CodecSpec:
    """Return what encoded all chosen faces."""
    first_name, first = found[0]
    for name, spec in found:
        if spec.checkpoint_path != first.checkpoint_path:
            raise PreflightError(
                f"videos {first_name} and {name} were encoded with different weights, whose symbols can't be compared: "
                "choose with --where"
            )
    return first


def _vector_of(
    frame_1hwc: NDArray[np.uint8], spec: CodecSpec, *, name: str, on_event: EventSink
) -> NDArray[np.float32]:
    """Return the vector of a picture's face, as if it were stored."""
    codec = load_codec(spec)
    height, width = frame_1hwc.shape[1:3]
    frames_nchw = torch.from_numpy(frame_1hwc).permute(0, 3, 1, 2)
    encoder = codec.encoder(height=height, width=width)
    if isinstance(encoder, SupportsDomainCheck):
        streams, (is_outside,) = encoder.encode_checked(frames_nchw)
        if is_outside:
            on_event(Note(text=f"{name} is unlike what the weights were trained on: matches mean little"))
    else:
        streams = encoder.encode(frames_nchw)
    decoder = core_decoder(codec, height=height, width=width)
    vector_k: NDArray[np.float32] = to_vectors(decoder.decode_core(streams), centre_of(decoder))[0].astype(np.float32)
    return vector_k


def _command(job: SimilarJob) -> str:
    """Return what to type to look again."""
    words = ["framevault", "similar", job.vault, "--face", "--image", job.image]
    return shlex.join([*words, *(word for path in job.weights for word in ("--weights", path))])


def _worker_settings(job: SimilarJob, model: ChosenModel) -> FaceVectorSettings:
    return FaceVectorSettings(
        vault_url=job.vault,
        model_fp=model.model_fp,
        threads_per_slot=job.threads_per_worker,
        weights=tuple(os.path.abspath(path) for path in job.weights),
    )
