"""From a stored segment to its detections: runs beside the device, without Ray and without storage policy.

::

    pack -> codec.decode -> features [N, C, h, w] -> detector -> detections part

No pixels are made. The one exception is a vault of codec `raw`, which holds nothing but pixels: there the head of the
`dicm` codec makes the features, so that a raw vault gives the upper bound of what detection can find.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.base import Codec
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint
from framevault.storage.detections import DetectionPart, write_detections
from framevault.storage.packs import Pack, PackHeader, read_pack
from framevault.storage.schema import detections_table
from framevault.storage.store import ObjectRef, open_store
from framevault.workers.detectors.base import Detections
from framevault.workers.detectors.registry import load_detector
from framevault.workers.memory import keep_freed_memory

FEATURE_PIXELS_PER_BATCH = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Most pixels whose features go through the networks in one call, by kind of device."""

FeatureDecoder = Callable[[Sequence[bytes]], Tensor]
"""Gives the features of the next streams of a segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectTask:
    """One stored segment to look through."""

    segment_id: str
    """Its id."""
    video_id: str
    """Of the video that it was cut from."""
    run_fp: str
    """Of the compression that made it."""
    pack: ObjectRef
    """Where its streams are."""
    num_frames: int
    """How many there are."""

    @property
    def task_id(self) -> str:
        """The executor's name for it."""
        return self.segment_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectReceipt:
    """What came of one segment."""

    segment_id: str
    """Its id."""
    part: DetectionPart
    """What was stored."""
    num_frames: int
    """Frames looked through."""
    read_s: float
    """Seconds in the store, reading."""
    decode_s: float
    """Seconds from streams to features."""
    detect_s: float
    """Seconds in the detector."""
    write_s: float
    """Seconds in the store, writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectSettings:
    """All that a detect worker is made from; it pickles."""

    vault_url: str
    """Where packs are and detections go."""
    detector: str
    """Name of the detector."""
    detector_fp: str
    """Its fingerprint, as it stands in keys."""
    device: str
    """A torch device."""
    batch_size: int
    """Most frames that go through the networks in one call."""
    num_slots: int
    """Segments that are on the device at once: 1 on a GPU."""
    threads_per_slot: int
    """Threads of each such segment's networks."""

    def __call__(self) -> "DetectWorker":
        """Make the worker, in the process that it shall run in."""
        return DetectWorker(self)


@dataclass(slots=True)
class _Timings:
    """Seconds a stage of one segment."""

    decode_s: float = 0.0
    detect_s: float = 0.0


class DetectWorker:
    """Finds objects in stored segments; thread-safe."""

    def __init__(self, settings: DetectSettings) -> None:
        """Load the detector; codecs are loaded when the first pack of theirs comes.

        Raises:
            DetectorError: The detector's weights are missing or damaged.
        """
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_slot)
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._detector = load_detector(settings.detector, device=settings.device)
        self._device = threading.BoundedSemaphore(settings.num_slots)
        self._codecs: dict[str, Codec] = {}
        self._loading = threading.Lock()

    def __call__(self, task: DetectTask) -> DetectReceipt:
        """Look through a segment and store what was found.

        Raises:
            CodecError: The pack was made with weights that are not here.
            BitstreamError: A frame's stream is damaged; names the frame.
            StoreError: The pack can't be read, or the detections can't be written.
        """
        start = time.perf_counter()
        pack = read_pack(self._store.read_checked(task.pack))
        read_s = time.perf_counter() - start
        timings = _Timings()
        with self._device:
            detections = list(self._detect(pack, timings))
        start = time.perf_counter()
        table = detections_table(
            [
                (frame.frame_number, frame.pts, found.boxes_xyxy, found.scores, found.labels)
                for frame, found in zip(pack.frames, detections, strict=True)
            ],
            labels=self._detector.labels,
        )
        part = write_detections(
            self._store, self._settings.detector_fp, task.segment_id, table, num_frames=len(detections)
        )
        return DetectReceipt(
            segment_id=task.segment_id,
            part=part,
            num_frames=len(detections),
            read_s=read_s,
            decode_s=timings.decode_s,
            detect_s=timings.detect_s,
            write_s=time.perf_counter() - start,
        )

    def _detect(self, pack: Pack, timings: _Timings) -> Iterator[Detections]:
        header = pack.header
        decode = self._feature_decoder(header)
        for first in range(0, len(pack.frames), batch := self._batch_size(header)):
            numbers = range(first, min(first + batch, len(pack.frames)))
            start = time.perf_counter()
            features_nchw = _decode_named(decode, pack, numbers)
            decoded = time.perf_counter()
            yield from self._detector(features_nchw, height=header.coded_height, width=header.coded_width)
            timings.decode_s += decoded - start
            timings.detect_s += time.perf_counter() - decoded

    def _feature_decoder(self, header: PackHeader) -> FeatureDecoder:
        codec = self._codec(header)
        decoder = codec.decoder(height=header.coded_height, width=header.coded_width)
        if codec.spec.row.decodes_to == "features":
            return decoder.decode
        head = self._head()
        return lambda streams: head.head_features(decoder.decode(streams))

    def _codec(self, header: PackHeader) -> Codec:
        """Load the codec that made a pack, once.

        Raises:
            CodecError: Its weights are not those of this installation.
        """
        spec = CodecSpec(name=header.codec, quality=header.quality, device=self._settings.device)
        fingerprint = codec_fingerprint(spec)
        if fingerprint != header.codec_fingerprint:
            raise CodecError(
                f"segment {header.segment_id} was encoded by codec {header.codec!r} with fingerprint "
                f"{header.codec_fingerprint[:16]}, this installation has {fingerprint[:16]}: install the framevault "
                "version that wrote the vault"
            )
        with self._loading:
            if fingerprint not in self._codecs:
                self._codecs[fingerprint] = load_codec(spec)
            return self._codecs[fingerprint]

    def _head(self) -> DicmCodec:
        """Load what makes features from pixels, once."""
        spec = CodecSpec(name="dicm", device=self._settings.device)
        fingerprint = codec_fingerprint(spec)
        with self._loading:
            codec = self._codecs.get(fingerprint)
            if not isinstance(codec, DicmCodec):
                codec = self._codecs[fingerprint] = load_dicm(spec)
            return codec

    def _batch_size(self, header: PackHeader) -> int:
        kind = torch.device(self._settings.device).type
        budget = FEATURE_PIXELS_PER_BATCH.get(kind, FEATURE_PIXELS_PER_BATCH["cpu"])
        return max(1, min(self._settings.batch_size, budget // (header.coded_height * header.coded_width)))


def _decode_named(decode: FeatureDecoder, pack: Pack, numbers: range) -> Tensor:
    """Decode some frames of a pack; an error names the segment and its frames."""
    streams = [pack.payload(number) for number in numbers]
    try:
        return decode(streams)
    except BitstreamError as error:
        raise BitstreamError(
            f"segment {pack.header.segment_id}, frames {numbers.start} to {numbers.stop - 1}: {error}"
        ) from error
