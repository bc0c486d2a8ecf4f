"""From a segment to its pack: runs beside the device, without Ray and without storage policy.

::

    child process: decode -> planes in shared memory -> device: RGB, turned upright -> codec -> streams -> pack -> store

A worker is called from a few threads at once. While one of them is on the device, another's segment is decoded ahead in
its child and a third's pack is written: that is all the overlap there is, and all that is needed.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framevault.codecs.base import CheckedStreams, Encoder, SupportsDomainCheck
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, weights_digest
from framevault.storage.index import SegmentRecord, write_segment
from framevault.storage.packs import PackHeader, PackWriter
from framevault.storage.store import open_store
from framevault.workers.colour import rgb_from_batch
from framevault.workers.face_encoder import FaceCounts, FaceEncoder
from framevault.workers.face_finder import FaceFinder, load_finder
from framevault.workers.face_rows import store_face_rows
from framevault.workers.face_search import FaceSearch
from framevault.workers.frames import FrameBatch, FrameReader
from framevault.workers.limits import DecodeLimits
from framevault.workers.memory import keep_freed_memory
from framevault.workers.tasks import FaceReceipt, Receipt, Segment
from framevault.workers.weights import pack_settings

PIXELS_PER_BATCH = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Most pixels that go through the networks in one call, by kind of device.

A CPU gains nothing from more than fills its caches; a GPU needs a few hundred million multiplications a kernel.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """All that an encode worker is made from; it pickles."""

    vault_url: str
    """Where packs go."""
    codec: CodecSpec
    """What encodes, and on which device."""
    limits: DecodeLimits
    """What a decoding child may use."""
    batch_size: int
    """Most frames that go through the networks in one call."""
    num_slots: int
    """Calls of the networks that run at once: 1 on a GPU."""
    threads_per_slot: int
    """Threads of each such call; results are the same to the byte only where this is the same."""
    face_search: FaceSearch = field(default_factory=FaceSearch)
    """How faces are looked for, for a codec with faces."""

    def __call__(self) -> "EncodeWorker":
        """Make the worker, in the process that it shall run in."""
        return EncodeWorker(self)


@dataclass(slots=True)
class _Tally:
    """Seconds a stage of one segment, and its frames outside the codec's domain."""

    wait_s: float = 0.0
    encode_s: float = 0.0
    decode_s: float = 0.0
    num_outside: int = 0
    faces: FaceCounts | None = None


class EncodeWorker:
    """Encodes segments; thread-safe."""

    def __init__(self, settings: EncodeSettings) -> None:
        """Load the codec.

        Raises:
            CheckpointError: The codec's weights are missing or damaged, or no faces can be found in its features.
            DetectorError: The weights of what finds faces are missing or damaged.
            VaultError: There is no vault.
        """
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_slot)
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._codec = load_codec(settings.codec)
        self._finder: FaceFinder | None = None
        if isinstance(self._codec, FacesCodec):
            _ = self._codec.faces  # loads it: a wrong checkpoint ends a job before it begins
            self._finder = load_finder(
                settings.codec,
                score=settings.face_search.score,
                size_pixels=settings.face_search.size_pixels,
            )
        self._fingerprint = codec_fingerprint(settings.codec)
        self._weights_digest = weights_digest(settings.codec)
        self._device = threading.BoundedSemaphore(settings.num_slots)
        self._idle_readers: queue.SimpleQueue[FrameReader] = queue.SimpleQueue()

    def __call__(self, segment: Segment) -> Receipt:
        """Encode a segment and store it.

        Raises:
            DecodeError: The source did not give the segment's frames; nothing was stored.
            DecoderKilledError: The decoding child died or went over a limit.
            StoreError: The vault can't be written, or holds something damaged under the segment's key.
        """
        tally = _Tally()
        pack = self._encode(segment, tally)
        start = time.perf_counter()
        record = write_segment(self._store, pack)
        faces = None if tally.faces is None else self._store_faces(record, pack, tally.faces)
        return Receipt(
            segment_id=segment.segment_id,
            record=record,
            num_frames=segment.num_frames,
            decode_s=tally.decode_s,
            encode_s=tally.encode_s,
            write_s=time.perf_counter() - start,
            wait_s=tally.wait_s,
            num_outside=tally.num_outside,
            faces=faces,
        )

    def _store_faces(self, record: SegmentRecord, pack: bytes, counts: FaceCounts) -> FaceReceipt:
        part = store_face_rows(self._store, record, written=pack)
        return FaceReceipt(
            part=part,
            num_outside=counts.num_outside,
            num_left_out=counts.num_left_out,
            num_small=counts.num_small,
        )

    def close(self) -> None:
        """End the decoding children."""
        while not self._idle_readers.empty():
            self._idle_readers.get().close()

    def _encode(self, segment: Segment, tally: _Tally) -> bytes:
        encoder = self._encoder(segment)
        if isinstance(encoder, FaceEncoder):
            tally.faces = encoder.counts
        writer = PackWriter(self._pack_header(segment))
        with self._reader() as reader, reader.batches(segment, batch_size=self._batch_size(segment)) as batches:
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                tally.wait_s += time.perf_counter() - start
                if batch is None:
                    tally.decode_s = batches.decode_s
                    return writer.finish()
                self._encode_batch(batch, encoder, writer, tally)

    def _encoder(self, segment: Segment) -> Encoder:
        height, width = segment.display_height, segment.display_width
        if not isinstance(self._codec, FacesCodec):
            return self._codec.encoder(height=height, width=width)
        assert self._finder is not None
        chosen = self._settings.face_search.chosen(segment.frame_pts, time_base=segment.source.time_base)
        return FaceEncoder(self._codec, self._finder, height=height, width=width, is_searched=chosen)

    def _pack_header(self, segment: Segment) -> PackHeader:
        source, spec = segment.source, self._settings.codec
        return PackHeader(
            video_id=source.video_id,
            segment_id=segment.segment_id,
            codec=spec.name,
            bitstream_version=spec.bitstream_version,
            codec_fingerprint=self._fingerprint,
            weights_digest=self._weights_digest,
            quality=spec.quality,
            settings=pack_settings(spec),
            coded_height=segment.display_height,
            coded_width=segment.display_width,
            source_height=segment.height,
            source_width=segment.width,
            time_base=source.time_base,
            rotation_degrees=source.rotation_degrees,
            sample_aspect_ratio=source.sample_aspect_ratio,
            colour=f"{source.colour_matrix} {source.colour_range}",
            sampling=segment.sampling,
        )

    def _encode_batch(self, batch: FrameBatch, encoder: Encoder, writer: PackWriter, tally: _Tally) -> None:
        """Encode a batch into the pack."""
        with self._device:
            start = time.perf_counter()
            try:
                coded = _encode_frames(encoder, rgb_from_batch(batch, device=self._settings.codec.device))
            except torch.OutOfMemoryError as error:
                raise MemoryError(f"{self._settings.codec.device}: {error}") from error
            tally.encode_s += time.perf_counter() - start
        tally.num_outside += sum(coded.are_outside)
        frames = zip(coded.streams, batch.pts, batch.is_keyframe, coded.are_outside, strict=True)
        for stream, pts, is_keyframe, is_outside in frames:
            writer.add(
                stream,
                pts=pts,
                is_keyframe=is_keyframe,
                is_independent=self._codec.is_independent(stream),
                is_outside=is_outside,
            )

    def _batch_size(self, segment: Segment) -> int:
        kind = torch.device(self._settings.codec.device).type
        affordable = PIXELS_PER_BATCH.get(kind, PIXELS_PER_BATCH["cpu"]) // (segment.width * segment.height)
        return max(1, min(self._settings.batch_size, affordable))

    @contextlib.contextmanager
    def _reader(self) -> Iterator[FrameReader]:
        """Lend an idle reader, or a new one: there are as many as threads ever called at once."""
        try:
            reader = self._idle_readers.get_nowait()
        except queue.Empty:
            reader = FrameReader(limits=self._settings.limits)
        try:
            yield reader
        finally:
            self._idle_readers.put(reader)


def _encode_frames(encoder: Encoder, frames_nchw: Tensor) -> CheckedStreams:
    """Encode frames, and compare what is restored of them where the codec is for pictures of one kind."""
    if isinstance(encoder, SupportsDomainCheck):
        return encoder.encode_checked(frames_nchw)
    return CheckedStreams(encoder.encode(frames_nchw), [False] * len(frames_nchw))
