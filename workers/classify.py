"""From a stored segment to labels and vectors of its frames: runs beside the device, without Ray and storage policy.

::

    pack -> features [N, C, h, w] -> classifier -> labels part, vectors part
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from framevault.storage.frame_facts import FactKind, FactPart, write_facts
from framevault.storage.frame_tables import labels_table, vectors_table
from framevault.storage.packs import Pack
from framevault.storage.store import open_store
from framevault.workers.classifier import Classifier, FrameFacts
from framevault.workers.features import FeatureReader, FeatureSettings, StoredSegment, look_over
from framevault.workers.memory import keep_freed_memory
from framevault.workers.salvage import FrameFault, read_stored
from framevault.workers.stored_specs import ONLY_SHIPPED, WeightsSources


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFacts:
    """What is stored about one segment."""

    segment_id: str
    """The segment."""
    parts: dict[FactKind, FactPart]
    """A part a kind that was asked for."""

    @property
    def num_lost(self) -> int:
        """Frames of the segment that one of them lacks."""
        return max(part.num_lost for part in self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyReceipt:
    """What came of one segment."""

    segment_id: str
    """Its id."""
    part: SegmentFacts
    """What was stored."""
    num_frames: int
    """Frames looked through."""
    faults: tuple[FrameFault, ...]
    """Frames that could not be decoded."""
    read_s: float
    """Seconds in the store, reading."""
    decode_s: float
    """Seconds from streams to features."""
    classify_s: float
    """Seconds in the classifier."""
    write_s: float
    """Seconds in the store, writing."""

    @property
    def stage_seconds(self) -> tuple[float, float, float, float]:
        """Seconds of each stage, in order."""
        return self.read_s, self.decode_s, self.classify_s, self.write_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifySettings:
    """All that a classify worker is made from; it pickles."""

    vault_url: str
    """Where packs are and parts go."""
    classifier: str
    """Name of the classifier."""
    classifier_path: str
    """Its weights."""
    model_fp: str
    """Its fingerprint, as it stands in keys."""
    kinds: tuple[FactKind, ...]
    """What is stored."""
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

    def __call__(self) -> "ClassifyWorker":
        """Make the worker, in the process that it shall run in."""
        return ClassifyWorker(self)


class ClassifyWorker:
    """Says what the frames of stored segments show; thread-safe."""

    def __init__(self, settings: ClassifySettings) -> None:
        """Load the classifier; codecs are loaded when the first pack of theirs comes.

        Raises:
            CheckpointError: The classifier's weights are missing or damaged.
        """
        keep_freed_memory()
        torch.set_num_threads(settings.threads_per_slot)
        self._settings = settings
        self._store = open_store(settings.vault_url)
        self._classifier = Classifier(settings.classifier, Path(settings.classifier_path), device=settings.device)
        self._features = FeatureReader(
            FeatureSettings(device=settings.device, batch_size=settings.batch_size, weights=settings.weights),
            head=self._classifier.head_features,
        )
        self._device = threading.BoundedSemaphore(settings.num_slots)

    def __call__(self, task: StoredSegment) -> ClassifyReceipt:
        """Look through a segment and store what its frames show.

        Raises:
            CodecError: The pack was made with weights that are not here.
            BitstreamError: No frame can be decoded; says what is wrong with the first.
            StoreError: The pack can't be read, or the parts can't be written.
        """
        start = time.perf_counter()
        pack = read_stored(self._store, task.pack, segment_id=task.segment_id)
        read_s = time.perf_counter() - start
        with self._device:
            looked = look_over(self._features.batches(pack), self._classifier)
        facts = FrameFacts(
            np.concatenate([found.label_ids_nk for found in looked.results])[looked.rows],
            np.concatenate([found.scores_nk for found in looked.results])[looked.rows],
            np.concatenate([found.vectors_np for found in looked.results])[looked.rows],
        )
        start = time.perf_counter()
        numbers = looked.frame_numbers
        parts = {kind: self._write(kind, pack, facts, frame_numbers=numbers) for kind in self._settings.kinds}
        return ClassifyReceipt(
            segment_id=task.segment_id,
            part=SegmentFacts(segment_id=task.segment_id, parts=parts),
            num_frames=len(numbers),
            faults=looked.faults,
            read_s=read_s,
            decode_s=looked.decode_s,
            classify_s=looked.network_s,
            write_s=time.perf_counter() - start,
        )

    def _write(self, kind: FactKind, pack: Pack, facts: FrameFacts, *, frame_numbers: Sequence[int]) -> FactPart:
        pts = [pack.frames[number].pts for number in frame_numbers]
        if kind == "labels":
            table = labels_table(
                pts,
                label_ids_nk=facts.label_ids_nk,
                scores_nk=facts.scores_nk,
                labels=self._classifier.labels,
                frame_numbers=frame_numbers,
            )
        else:
            table = vectors_table(pts, facts.vectors_np, frame_numbers=frame_numbers)
        return write_facts(
            self._store,
            kind,
            self._settings.model_fp,
            pack.header.segment_id,
            table,
            num_frames=len(pack.frames),
            num_lost=len(pack.frames) - len(pts),
        )
