"""From a stored segment of faces to vectors to search by: entropy decoding only, no network runs.

::

    pack -> core symbols [N, K] -> less those of the mean face -> vectors part          where frames are faces
    pack -> faces of frames -> the same -> part of faces' vectors                       where frames have faces

The core symbols are all that a face's styles are made of: shape, pose, hair and light, in some tens of whole numbers.
Letters in shapes: N faces, K core symbols.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from framevault.codecs.base import Codec, SupportsEditing
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.spec import CodecSpec, weights_digest
from framevault.storage.face_vectors import FacePlace, face_vectors_table
from framevault.storage.frame_facts import FactKind, write_facts
from framevault.storage.frame_tables import vectors_table
from framevault.storage.packs import Pack
from framevault.storage.store import open_store
from framevault.workers.classify import SegmentFacts
from framevault.workers.features import StoredSegment
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.salvage import FrameFault, read_stored
from framevault.workers.standalone import decode_chosen
from framevault.workers.stored_faces import StreamFace, decode_faces, faces_in, spec_of_faces
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources

FACE_MODEL = "hsc core symbols"
"""What made the vectors, as the vault's manifests name it."""

LARGEST_SYMBOL = 2048
"""Values are cut there: up to it, float16 has every whole number."""

STREAMS_AT_ONCE = 256
"""Streams of a call; symbols are small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceVectorReceipt:
    """What came of one segment."""

    part: SegmentFacts
    """What was stored."""
    num_frames: int
    """Frames looked through."""
    faults: tuple[FrameFault, ...]
    """Frames that could not be decoded."""
    stage_seconds: tuple[float, float, float]
    """Seconds of reading, decoding and writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceVectorSettings:
    """All that a worker is made from; it pickles."""

    vault_url: str
    """Where packs are and parts go."""
    model_fp: str
    """Of the checkpoint, as it stands in keys."""
    threads_per_slot: int
    """Threads of torch."""
    weights: WeightsSources = ONLY_SHIPPED
    """Where checkpoints that packs were made with are looked for, besides the shipped one."""

    def __call__(self) -> "FaceVectorWorker":
        """Make the worker, in the process that it shall run in."""
        return FaceVectorWorker(self)


class FaceVectorWorker:
    """Stores vectors of the faces of stored segments; thread-safe."""

    def __init__(self, settings: FaceVectorSettings) -> None:
        """Make ready; codecs are loaded when the first pack of theirs comes."""
        torch.set_num_threads(settings.threads_per_slot)
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._codecs = LoadedCodecs(device="cpu", weights=settings.weights)

    def __call__(self, task: StoredSegment) -> FaceVectorReceipt:
        """Look through a segment and store its faces' vectors.

        Raises:
            CodecError: The pack was made with weights that are not here, or has no faces.
            BitstreamError: No frame can be decoded; says what is wrong with the first.
            StoreError: The pack can't be read, or the part can't be written.
        """
        start = time.perf_counter()
        pack = read_stored(self._store, task.pack, segment_id=task.segment_id)
        read_s = time.perf_counter() - start
        found = self._look(pack)
        decode_s = time.perf_counter() - start - read_s
        part = write_facts(
            self._store,
            found.kind,
            self._settings.model_fp,
            pack.header.segment_id,
            found.table,
            num_frames=len(pack.frames),
            num_lost=len(found.faults),
        )
        return FaceVectorReceipt(
            part=SegmentFacts(segment_id=task.segment_id, parts={found.kind: part}),
            num_frames=len(pack.frames) - len(found.faults),
            faults=tuple(found.faults),
            stage_seconds=(read_s, decode_s, time.perf_counter() - start - read_s - decode_s),
        )

    def _look(self, pack: Pack) -> "_Found":
        """Return the vectors of a segment's faces.

        Raises:
            CodecError: The pack was made with weights that are not here, or has no faces.
            BitstreamError: No frame can be decoded.
        """
        spec = self._codecs.spec_of(pack.header)
        faces = spec_of_faces(spec)
        if faces is None:
            raise _no_faces(spec)
        decoder = core_decoder(self._codecs.load(faces))
        found = _vectors_of_frames(pack, decoder) if spec.faces is None else _vectors_in_frames(pack, decoder)
        if len(found.faults) == len(pack.frames):
            raise BitstreamError(f"no frame can be decoded: {found.faults[0]}")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The vectors of a segment's faces."""

    kind: FactKind
    """Of the part that they go into."""
    table: pa.Table
    """Its rows."""
    faults: list[FrameFault]
    """Frames that could not be decoded, each by itself."""


def _vectors_of_frames(pack: Pack, decoder: SupportsEditing) -> _Found:
    """Return a vector a frame, of a codec whose frames are faces."""
    centre_k = centre_of(decoder)
    vectors_nk = [np.empty((0, len(centre_k)), np.float16)]
    frame_numbers: list[int] = []
    faults: list[FrameFault] = []
    for batch in decode_chosen(pack, range(len(pack.frames)), decoder.decode_core, batch_size=STREAMS_AT_ONCE):
        if isinstance(batch, FrameFault):
            faults.append(batch)
            continue
        frame_numbers += batch.frame_numbers
        vectors_nk.append(to_vectors(batch.result, centre_k))
    pts = [pack.frames[number].pts for number in frame_numbers]
    return _Found("vectors", vectors_table(pts, np.concatenate(vectors_nk), frame_numbers=frame_numbers), faults)


def _vectors_in_frames(pack: Pack, decoder: SupportsEditing) -> _Found:
    """Return a vector a face, of a codec with faces."""
    centre_k = centre_of(decoder)

    def decode(streams: Sequence[bytes]) -> tuple[list[StreamFace], list[NDArray[np.float16]]]:
        faces = faces_in(streams)
        batches = decode_faces(faces, decoder.decode_core, batch_size=STREAMS_AT_ONCE)
        return faces, [to_vectors(core_nk, centre_k) for _, core_nk in batches]

    vectors_nk = [np.empty((0, len(centre_k)), np.float16)]
    places: list[FacePlace] = []
    faults: list[FrameFault] = []
    for batch in decode_chosen(pack, range(len(pack.frames)), decode, batch_size=STREAMS_AT_ONCE):
        if isinstance(batch, FrameFault):
            faults.append(batch)
            continue
        faces, found_nk = batch.result
        places += [_place(pack, batch.frame_numbers[each.stream_number], each) for each in faces]
        vectors_nk += found_nk
    return _Found("face_vectors", face_vectors_table(places, np.concatenate(vectors_nk)), faults)


def _place(pack: Pack, frame_number: int, each: StreamFace) -> FacePlace:
    region = each.face.region
    return FacePlace(
        frame_number=frame_number,
        pts=pack.frames[frame_number].pts,
        face_number=each.face_number,
        x_min=region.x_min,
        y_min=region.y_min,
        side=region.side,
    )


def core_decoder(codec: Codec) -> SupportsEditing:
    """Return a decoder of a codec that keeps core symbols, for these alone: they know nothing of a frame's size.

    Raises:
        CodecError: It keeps none.
    """
    decoder = codec.decoder(height=1, width=1)
    if not isinstance(decoder, SupportsEditing):
        raise _no_faces(codec.spec)
    return decoder


def _no_faces(spec: CodecSpec) -> CodecError:
    return CodecError(f"faces are searched by the core symbols of codec hsc, got codec {spec.name}")


def centre_of(decoder: SupportsEditing) -> torch.Tensor:
    """Return the core symbols of the mean face, [K], which all others are seen from."""
    return decoder.mean_latents(1).core_nk[0]


def to_vectors(core_nk: torch.Tensor, centre_k: torch.Tensor) -> NDArray[np.float16]:
    """Return core symbols as vectors, [N, K]."""
    centred_nk = (core_nk - centre_k).clamp(-LARGEST_SYMBOL, LARGEST_SYMBOL)
    vectors_nk: NDArray[np.float16] = centred_nk.to(torch.float16).cpu().numpy()
    return vectors_nk


def face_fingerprint(spec: CodecSpec) -> str:
    """Return the fingerprint of a checkpoint's vectors: the same for all its qualities, and for thinned streams."""
    return hashlib.sha256(f"{FACE_MODEL} {weights_digest(spec)}".encode()).hexdigest()
