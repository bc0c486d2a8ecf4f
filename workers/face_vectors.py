"""From a stored segment of faces to vectors to search by: entropy decoding only, no network runs.

::

    pack -> core symbols [N, K] -> less those of the mean face -> vectors part

The core symbols are all that a face's styles are made of: shape, pose, hair and light, in some tens of whole numbers.
Letters in shapes: N faces, K core symbols.
"""

import hashlib
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from framevault.codecs.base import Codec, SupportsEditing
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.spec import CodecSpec, weights_digest
from framevault.storage.frame_facts import FactPart, write_facts
from framevault.storage.frame_tables import vectors_table
from framevault.storage.packs import Pack
from framevault.storage.store import open_store
from framevault.workers.classify import SegmentFacts
from framevault.workers.features import StoredSegment
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.salvage import FrameFault, read_stored
from framevault.workers.standalone import decode_chosen

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
    weights: tuple[str, ...] = ()
    """Paths of checkpoints that packs may have been made with, besides the shipped one."""

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
        vectors, faults = self._decode(pack)
        decode_s = time.perf_counter() - start - read_s
        part = self._write(pack, vectors)
        return FaceVectorReceipt(
            part=SegmentFacts(segment_id=task.segment_id, parts={"vectors": part}),
            num_frames=len(vectors),
            faults=tuple(faults),
            stage_seconds=(read_s, decode_s, time.perf_counter() - start - read_s - decode_s),
        )

    def _decode(self, pack: Pack) -> tuple[dict[int, NDArray[np.float16]], list[FrameFault]]:
        """Return each frame's vector by its number, and what can't be decoded."""
        decoder = core_decoder(
            self._codecs.of(pack.header), height=pack.header.coded_height, width=pack.header.coded_width
        )
        centre_k = centre_of(decoder)
        vectors: dict[int, NDArray[np.float16]] = {}
        faults: list[FrameFault] = []
        numbers = range(len(pack.frames))
        for batch in decode_chosen(pack, numbers, decoder.decode_core, batch_size=STREAMS_AT_ONCE):
            if isinstance(batch, FrameFault):
                faults.append(batch)
            else:
                vectors |= zip(batch.frame_numbers, to_vectors(batch.result, centre_k), strict=True)
        if not vectors:
            raise BitstreamError(f"no frame can be decoded: {faults[0]}")
        return vectors, faults

    def _write(self, pack: Pack, vectors: dict[int, NDArray[np.float16]]) -> FactPart:
        table = vectors_table(
            [pack.frames[number].pts for number in vectors],
            np.stack(list(vectors.values())),
            frame_numbers=list(vectors),
        )
        return write_facts(
            self._store,
            "vectors",
            self._settings.model_fp,
            pack.header.segment_id,
            table,
            num_frames=len(pack.frames),
            num_lost=len(pack.frames) - len(vectors),
        )


def core_decoder(codec: Codec, *, height: int, width: int) -> SupportsEditing:
    """Return a decoder of a codec that keeps core symbols.

    Raises:
        CodecError: It keeps none.
    """
    decoder = codec.decoder(height=height, width=width)
    if not isinstance(decoder, SupportsEditing):
        raise CodecError(f"faces are searched by the core symbols of codec hsc, got codec {codec.spec.name}")
    return decoder


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
