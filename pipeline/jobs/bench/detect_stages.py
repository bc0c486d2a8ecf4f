"""`framevault detect` and its stages, each alone on the machine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.base import Codec
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.configs.run import DetectJob
from framevault.pipeline.jobs.bench.detector_inputs import add_inputs, decode_inputs
from framevault.pipeline.jobs.bench.dicm_parts import SYNTHESIS, CodedBatch, DicmParts, Part
from framevault.pipeline.jobs.bench.timing import END_TO_END, Speed, Stopwatch, wait_for_device
from framevault.pipeline.jobs.bench.workload import Crew, batch_size, derive_id, run_tasks
from framevault.storage.detections import write_detections
from framevault.storage.index import SegmentRecord
from framevault.storage.packs import Pack, read_pack
from framevault.storage.schema import detections_table
from framevault.storage.store import Store
from framevault.workers.detect import DetectWorker
from framevault.workers.detectors.base import Detections, Detector, ReadsLatents
from framevault.workers.features import FEATURE_PIXELS_PER_BATCH, StoredSegment

Streams = tuple[bytes, ...]
"""Of the frames of one call of the networks."""

_NO_RUN = "0" * 16
"""Stands where a task has the id of the compression that it looks through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectBench:
    """A detection that is about to be measured."""

    job: DetectJob
    """Its settings."""
    crew: Crew
    """Who works."""
    store: Store
    """The vault that was just filled."""
    codec: Codec
    """That filled it, on the crew's device."""
    detector: Detector
    """Loaded, on the crew's device."""
    detector_fp: str
    """Its fingerprint."""
    packs: tuple[Pack, ...]
    """What is looked through: copies of the same few, all frames of one size."""
    num_copies: int
    """How many copies."""
    repeats: int
    """Times that everything is measured."""

    @property
    def stopwatch(self) -> Stopwatch:
        """What measures."""
        num_frames = sum(len(pack.frames) for pack in self.packs)
        return Stopwatch(num_frames=num_frames, repeats=self.repeats)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.packs[0].header.coded_height, self.packs[0].header.coded_width

    @property
    def originals(self) -> tuple[Pack, ...]:
        """The packs without their copies."""
        return self.packs[: len(self.packs) // self.num_copies]


def time_detect_job(bench: DetectBench, worker: DetectWorker, stored: Sequence[Sequence[SegmentRecord]]) -> Speed:
    """Measure the stages together, as the job runs them, on what each repeat of the compression stored.

    Args:
        bench: What is measured.
        worker: The job's.
        stored: For each repeat its segments, and at last those for the warm-up.
    """
    *timed, warm_up = ([_task(record) for record in records] for records in stored)
    run_tasks(bench.crew, worker, warm_up)
    return bench.stopwatch.time(
        END_TO_END,
        lambda repeat: run_tasks(bench.crew, worker, timed[repeat]),
        num_workers=bench.crew.executor.num_workers,
    )


def time_reading(bench: DetectBench, records: Sequence[SegmentRecord]) -> Speed:
    """Measure reading packs, with their checksums."""

    def read(record: SegmentRecord, _: int) -> None:
        pack = read_pack(bench.store.read_checked(record.pack))
        for frame in pack.frames:
            pack.payload(frame.frame_number)

    return bench.stopwatch.time_threads("read", read, records, num_workers=bench.crew.num_lanes)


def time_decoding_features(bench: DetectBench) -> Speed:
    """Measure streams to what the detector reads."""
    device, head = bench.crew.device, _load_head(bench)

    def work(pack: Pack, _: int) -> None:
        _decode_pack(bench, head, pack)
        wait_for_device(device)

    return bench.stopwatch.time_threads("decode", work, bench.packs, num_workers=bench.crew.num_slots)


def time_dicm_parts(bench: DetectBench, codec: DicmCodec, frames: Sequence[Tensor]) -> list[Speed]:
    """Measure the parts of the decoder on the frames' own symbols.

    Args:
        bench: What is measured.
        codec: The codec that filled the vault.
        frames: RGB uint8 [N, 3, H, W], a call's frames each.
    """
    parts, device = DicmParts(codec), bench.crew.device
    coded = parts.code(frames) * bench.num_copies

    def timed(name: str, part: Part) -> Speed:
        def work(batch: CodedBatch, _: int) -> None:
            part(batch)
            wait_for_device(device)

        return bench.stopwatch.time_threads(f"decode: {name}", work, coded, num_workers=bench.crew.num_slots)

    has_synthesis = not isinstance(bench.detector, ReadsLatents)
    return [timed(name, part) for name, part in parts.of_decoder.items() if has_synthesis or name != SYNTHESIS]


def time_detector(bench: DetectBench) -> Speed:
    """Measure the detector alone, on decoded features."""
    height, width = bench.size
    head = _load_head(bench)
    features = [features_nchw for pack in bench.originals for features_nchw in _decode_pack(bench, head, pack)]

    def detect(features_nchw: Tensor, _: int) -> None:
        bench.detector(features_nchw, height=height, width=width)

    num_slots = bench.crew.num_slots
    return bench.stopwatch.time_threads("detect", detect, features * bench.num_copies, num_workers=num_slots)


def time_writing_detections(bench: DetectBench) -> Speed:
    """Measure making and storing the detections parts, flushed to the disk."""
    height, width = bench.size
    head = _load_head(bench)
    by_pack = [
        [
            one
            for features_nchw in _decode_pack(bench, head, pack)
            for one in bench.detector(features_nchw, height=height, width=width)
        ]
        for pack in bench.originals
    ]
    items = list(zip(bench.packs, by_pack * bench.num_copies, strict=True))

    def write(item: tuple[Pack, list[Detections]], repeat: int) -> None:
        pack, detections = item
        rows = [
            (frame.frame_number, frame.pts, one.boxes_xyxy, one.scores, one.labels)
            for frame, one in zip(pack.frames, detections, strict=True)
        ]
        segment_id = derive_id(pack.header.segment_id, f"detections, repeat {repeat}")
        table = detections_table(rows, labels=bench.detector.labels)
        write_detections(bench.store, bench.detector_fp, segment_id, table, num_frames=len(rows))

    return bench.stopwatch.time_threads("write", write, items, num_workers=bench.crew.num_lanes)


def _load_head(bench: DetectBench) -> DicmCodec | None:
    """Return what makes features from a codec that decodes to pixels; None for others."""
    if bench.codec.spec.row.decodes_to == "features":
        return None
    return load_dicm(CodecSpec(name="dicm", device=bench.crew.device))


def _decode_pack(bench: DetectBench, head: DicmCodec | None, pack: Pack) -> list[Tensor]:
    """Do what the worker does with a pack's streams: a call's features or latents each, of all frames."""
    height, width = bench.size
    # A frame's stream may depend on the pack's earlier ones: a decoder each.
    decoder = bench.codec.decoder(height=height, width=width)
    if head is not None:
        return [head.head_features(decoder.decode(streams)) for streams in _calls(bench, pack)]
    if not isinstance(bench.detector, ReadsLatents):
        return [decoder.decode(streams) for streams in _calls(bench, pack)]
    calls: list[Tensor] = []
    for streams in _calls(bench, pack):
        inputs = [] if not calls else [calls[-1][-1]]
        num_before = len(inputs)
        add_inputs(inputs, decode_inputs(decoder, bench.detector, streams))
        calls.append(torch.stack(inputs[num_before:]))
    return calls


def _calls(bench: DetectBench, pack: Pack) -> list[Streams]:
    """Return a pack's streams as the worker gives them to the networks."""
    height, width = bench.size
    size = batch_size(bench.job, FEATURE_PIXELS_PER_BATCH, pixels=height * width, device=bench.crew.device)
    return [
        tuple(pack.payload(number) for number in range(first, min(first + size, len(pack.frames))))
        for first in range(0, len(pack.frames), size)
    ]


def _task(record: SegmentRecord) -> StoredSegment:
    return StoredSegment(
        segment_id=record.segment_id,
        video_id=record.video_id,
        run_fp=_NO_RUN,
        pack=record.pack,
        num_frames=record.num_frames,
    )
