"""From a stored segment to the same segment with fewer slices: runs beside the device, without Ray and without policy.

::

    pack -> codec.thinner -> streams of fewer slices -> pack under another segment_id -> store
"""

import threading
import time
from dataclasses import dataclass, replace

import torch

from framevault.codecs.base import SupportsThinning
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.spec import CodecSpec, codec_fingerprint, thinned
from framevault.storage.index import SegmentRecord, write_segment
from framevault.storage.packs import Pack, PackHeader, PackWriter, read_pack
from framevault.storage.store import open_store
from framevault.workers.features import StoredSegment
from framevault.workers.ids import segment_id_of
from framevault.workers.loaded_codecs import LoadedCodecs
from framevault.workers.memory import keep_freed_memory
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources
from framevault.workers.weights import pack_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinReceipt:
    """What came of one segment."""

    record: SegmentRecord
    """What was stored."""
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
    slices: int
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
        record = write_segment(self._store, thin_pack)
        return ThinReceipt(
            record=record,
            num_frames=record.num_frames,
            read_s=read_s,
            thin_s=thin_s,
            write_s=time.perf_counter() - start,
        )

    def _thin(self, pack: Pack) -> bytes:
        """Return the thinned pack."""
        codec, slices = self._codecs.of(pack.header), self._settings.slices
        height, width = pack.header.coded_height, pack.header.coded_width
        if not isinstance(codec, SupportsThinning):
            raise CodecError(f"segment {pack.header.segment_id}: streams of codec {codec.spec.name!r} can't be thinned")
        thinner = codec.thinner(height=height, width=width, slices=slices)
        writer = PackWriter(thin_header(pack, thinned(codec.spec, slices=slices)))
        for frame in pack.frames:
            try:
                (stream,) = thinner.thin([pack.payload(frame.frame_number)])
            except BitstreamError as error:
                problem = str(error).removeprefix("stream 0 of the call: ")
                raise BitstreamError(
                    f"segment {pack.header.segment_id}, frame {frame.frame_number}: {problem}"
                ) from error
            writer.add(stream, pts=frame.pts, is_keyframe=frame.is_keyframe, is_independent=frame.is_independent)
        return writer.finish()


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
