"""From a stored segment to its detections: runs beside the device, without Ray and without storage policy.

::

    pack -> features [N, C, h, w] -> detector -> detections part
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch

from framevault.storage.detections import DetectionPart, write_detections
from framevault.storage.packs import Pack
from framevault.storage.schema import detections_table, with_masks
from framevault.storage.store import open_store
from framevault.workers.detectors.base import BringsHead, Detections, ReadsLatents
from framevault.workers.detectors.registry import load_detector
from framevault.workers.features import FeatureReader, FeatureSettings, StoredSegment, look_over
from framevault.workers.memory import keep_freed_memory
from framevault.workers.salvage import FrameFault, read_stored
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectReceipt:
    """What came of one segment."""

    segment_id: str
    """Its id."""
    part: DetectionPart
    """What was stored."""
    num_frames: int
    """Frames looked through."""
    faults: tuple[FrameFault, ...]
    """Frames that could not be decoded."""
    read_s: float
    """Seconds in the store, reading."""
    decode_s: float
    """Seconds from streams to features."""
    detect_s: float
    """Seconds in the detector."""
    write_s: float
    """Seconds in the store, writing."""

    @property
    def stage_seconds(self) -> tuple[float, float, float, float]:
        """Seconds of each stage, in order."""
        return self.read_s, self.decode_s, self.detect_s, self.write_s


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
    weights: WeightsSources = ONLY_SHIPPED
    """Where checkpoints that packs were made with are looked for, besides the shipped one."""
    detector_weights: str | None = None
    """Path of the detector's own checkpoint; None for the shipped or known one."""
    has_masks: bool = False
    """Whether masks are stored beside boxes."""

    def __call__(self) -> "DetectWorker":
        """Make the worker, in the process that it shall run in."""
        return DetectWorker(self)


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
        self._detector = load_detector(
            settings.detector,
            device=settings.device,
            weights=settings.detector_weights,
            has_masks=settings.has_masks,
        )
        self._features = FeatureReader(
            FeatureSettings(device=settings.device, batch_size=settings.batch_size, weights=settings.weights),
            head=self._detector.head_features if isinstance(self._detector, BringsHead) else None,
            latents_of=self._detector.codec_weights if isinstance(self._detector, ReadsLatents) else None,
        )
        self._device = threading.BoundedSemaphore(settings.num_slots)

    def __call__(self, task: StoredSegment) -> DetectReceipt:
        """Look through a segment and store what was found.

        Raises:
            CodecError: The pack was made with weights that are not here.
            BitstreamError: No frame can be decoded; says what is wrong with the first.
            StoreError: The pack can't be read, or the detections can't be written.
        """
        start = time.perf_counter()
        pack = read_stored(self._store, task.pack, segment_id=task.segment_id)
        read_s = time.perf_counter() - start
        height, width = pack.header.coded_height, pack.header.coded_width
        with self._device:
            looked = look_over(
                self._features.batches(pack),
                lambda features_nchw: self._detector(features_nchw, height=height, width=width),
            )
        found = [one for batch in looked.results for one in batch]
        detections = [found[row] for row in looked.rows]
        start = time.perf_counter()
        table = table_of(
            pack,
            dict(zip(looked.frame_numbers, detections, strict=True)),
            labels=self._detector.labels,
            has_masks=self._settings.has_masks,
        )
        part = write_detections(
            self._store,
            self._settings.detector_fp,
            task.segment_id,
            table,
            num_frames=len(pack.frames),
            num_lost=len(pack.frames) - len(detections),
        )
        return DetectReceipt(
            segment_id=task.segment_id,
            part=part,
            num_frames=len(detections),
            faults=looked.faults,
            read_s=read_s,
            decode_s=looked.decode_s,
            detect_s=looked.network_s,
            write_s=time.perf_counter() - start,
        )


def table_of(pack: Pack, detections: Mapping[int, Detections], *, labels: Sequence[str], has_masks: bool) -> pa.Table:
    """Return what was found in a segment as the rows of its part.

    Args:
        pack: The segment.
        detections: Of the frames that were looked through, by number, rising.
        labels: What the detections' label numbers mean.
        has_masks: Whether masks are stored.

    Raises:
        ValueError: Masks are asked for, and a frame's detections have none.
    """
    table = detections_table(
        [
            (number, pack.frames[number].pts, found.boxes_xyxy, found.scores, found.labels)
            for number, found in detections.items()
        ],
        labels=labels,
    )
    if not has_masks:
        return table
    return with_masks(table, [mask for found in detections.values() for mask in found.masks_rle or ()])
