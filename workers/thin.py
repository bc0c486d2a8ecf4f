"""From a stored segment to the same segment with fewer slices: runs beside the device, without Ray and without policy.

::

    pack -> codec.thinner -> streams of fewer slices -> pack under another segment_id -> store
                                                          `-> faces part, where faces have other streams
"""

import threading
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from framevault.codecs.base import Codec, SupportsThinning, Thinner
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.storage.frame_facts import FactPart
from framevault.storage.index import SegmentRecord, write_segment
from framevault.storage.packs import Pack, PackHeader, PackWriter, read_pack
from framevault.storage.store import open_store
from framevault.workers.face_rows import store_face_rows
from framevault.workers.features import StoredSegment
from framevault.workers.ids import segment_id_of
from framevault.workers.kept_slices import KeptSlices
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.memory import keep_freed_memory
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources
from framevault.workers.weights import pack_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinReceipt:
    """What came of one segment."""

    record: SegmentRecord
    """What was stored."""
    faces: FactPart | None
    """Its faces part; None where faces are what they were, or there are none."""
    num_frames: int
    """Frames in it."""
    read_s: float
    """Seconds in the store, reading."""
    thin_s: float
    """Seconds in the codec."""
    write_s: float
    """Seconds in the store, writing."""

    @property
    def stage_seconds(self) -> tuple[float, float, float]:
        """Seconds of each stage, in order."""
        return self.read_s, self.thin_s, self.write_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinSettings:
    """All that a thinning worker is made from; it pickles."""

    vault_url: str
    """Where packs are and go."""
    kept: KeptSlices
    """Slices to keep."""
    device: str
    """A torch device."""
    num_slots: int
    """Segments that are on the device at once: 1 on a GPU."""
    threads_per_slot: int
    """Threads of each such segment's networks."""
    weights: WeightsSources = ONLY_SHIPPED
    """Where checkpoints that packs were made with are looked for, besides the shipped one."""

    def __call__(self) -> "ThinWorker":
        """Make the worker, in the process that it shall run in."""
        return ThinWorker(self)


class ThinWorker:
    """Thins stored segments; thread-safe."""

    def __init__(self, settings: ThinSettings) -> None:
        """Take the settings; codecs are loaded when the first pack of theirs comes."""
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_slot)
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._device = threading.BoundedSemaphore(settings.num_slots)
        self._codecs = LoadedCodecs(device=settings.device, weights=settings.weights)

    def __call__(self, task: StoredSegment) -> ThinReceipt:
        """Thin a segment and store it under its new id; what it was stays.

        Raises:
            CodecError: The pack was made with weights that are not here, or can't be thinned.
            BitstreamError: A frame's stream is damaged; names segment and frame.
            StoreError: The pack can't be read, or the new one not be written.
        """
        start = time.perf_counter()
        pack = read_pack(self._store.read_checked(task.pack), key=task.pack.key)
        read_s = time.perf_counter() - start
        with self._device:
            start = time.perf_counter()
            thin_pack = self._thin(pack)
            thin_s = time.perf_counter() - start
        start = time.perf_counter()
        record = write_segment(self._store, thin_pack.data)
        faces = store_face_rows(self._store, record, written=thin_pack.data) if thin_pack.has_other_faces else None
        return ThinReceipt(
            record=record,
            faces=faces,
            num_frames=record.num_frames,
            read_s=read_s,
            thin_s=thin_s,
            write_s=time.perf_counter() - start,
        )

    def _thin(self, pack: Pack) -> "_ThinPack":
        """Return the thinned pack."""
        codec = self._codecs.of(pack.header)
        target = self._settings.kept.target(codec.spec)
        thinner = _start_thinner(codec, target, pack.header)
        writer = PackWriter(thin_header(pack, target))
        for frame in pack.frames:
            try:
                (stream,) = thinner.thin([pack.payload(frame.frame_number)])
            except BitstreamError as error:
                problem = str(error).removeprefix("stream 0 of the call: ")
                raise BitstreamError(
                    f"segment {pack.header.segment_id}, frame {frame.frame_number}: {problem}"
                ) from error
            writer.add(stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
        return _ThinPack(writer.finish(), has_other_faces=target.faces != codec.spec.faces)


class _ThinPack(NamedTuple):
    """A segment in its new form."""

    data: bytes
    """Its pack."""
    has_other_faces: bool
    """Whether the streams of its faces are no longer what they were."""


def _start_thinner(codec: Codec, target: CodecSpec, header: PackHeader) -> Thinner:
    """Return what thins a pack's streams to those of another spec."""
    height, width, before = header.coded_height, header.coded_width, codec.spec
    if isinstance(codec, FacesCodec):
        assert target.faces is not None
        return codec.part_thinner(
            height=height,
            width=width,
            slices=None if target.slices == before.slices else target.slices,
            face_slices=None if target.faces == before.faces else target.faces.slices,
        )
    if not isinstance(codec, SupportsThinning) or target.slices is None:
        raise CodecError(f"segment {header.segment_id}: streams of codec {before.name!r} can't be thinned")
    return codec.thinner(height=height, width=width, slices=target.slices)


def thin_header(pack: Pack, spec: CodecSpec) -> PackHeader:
    """Return the header of a pack once it is thinned to a spec."""
    header, fingerprint = pack.header, codec_fingerprint(spec)
    return replace(
        header,
        segment_id=segment_id_of(
            header.video_id,
            fingerprint,
            first_pts=pack.frames[0].pts,
            last_pts=pack.frames[-1].pts,
            sampling=header.sampling,
        ),
        bitstream_version=spec.bitstream_version,
        codec_fingerprint=fingerprint,
        settings={**header.settings, **pack_settings(spec)},
    )
