"""`framevault compress` and its stages, each alone on the machine."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass, replace

from framevault.codecs.base import Codec
from framevault.codecs.dicm.codec import DicmCodec
from framevault.configs.run import CompressJob
from framevault.pipeline.jobs.bench.dicm_parts import CodedBatch, DicmParts, Part
from framevault.pipeline.jobs.bench.sampling import keep_frames
from framevault.pipeline.jobs.bench.timing import END_TO_END, Speed, Stopwatch, wait_for_device
from framevault.pipeline.jobs.bench.workload import Crew, batch_size, derive_id, rename, run_tasks
from framevault.pipeline.jobs.settings import decode_limits
from framevault.storage.index import SegmentRecord, write_segment
from framevault.storage.packs import Pack, PackWriter, read_pack
from framevault.storage.store import Store
from framevault.workers.colour import rgb_from_batch
from framevault.workers.encode import PIXELS_PER_BATCH, EncodeWorker
from framevault.workers.frames import FrameBatch, FrameReader
from framevault.workers.tasks import Segment

WARM_UP_FRAMES = 8
"""Frames of a segment that each thread of a job does before it is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressBench:
    """A compression that is about to be measured."""

    job: CompressJob
    """Its settings."""
    crew: Crew
    """Who works."""
    store: Store
    """An empty vault."""
    codec: Codec
    """Loaded, on the crew's device."""
    originals: tuple[Segment, ...]
    """The frames to measure on."""
    segments: tuple[Segment, ...]
    """Their copies, as `copy_evenly` makes them."""
    repeats: int
    """Times that everything is measured."""

    @property
    def stopwatch(self) -> Stopwatch:
        """What measures."""
        num_frames = sum(segment.num_frames for segment in self.segments)
        return Stopwatch(num_frames=num_frames, repeats=self.repeats)

    @property
    def num_copies(self) -> int:
        """How often a repeat does each frame."""
        return len(self.segments) // len(self.originals)

    def batch_size(self, segment: Segment) -> int:
        """Return how many frames the worker takes at once."""
        pixels = segment.width * segment.height
        return batch_size(self.job, PIXELS_PER_BATCH, pixels=pixels, device=self.crew.device)


def time_compress_job(bench: CompressBench, worker: EncodeWorker) -> tuple[Speed, list[list[SegmentRecord]]]:
    """Measure the stages together, as the job runs them.

    Returns:
        The speed, and what was stored: by each repeat, and at last by the warm-up.
    """
    shorts = [_shorten(segment) for segment in bench.segments[: bench.crew.num_lanes]]
    warm_up = [receipt.record for receipt in run_tasks(bench.crew, worker, shorts)]
    stored: list[list[SegmentRecord]] = []

    def run(repeat: int) -> None:
        segments = [rename(segment, f"repeat {repeat}") for segment in bench.segments]
        stored.append([receipt.record for receipt in run_tasks(bench.crew, worker, segments)])

    speed = bench.stopwatch.time(END_TO_END, run, num_workers=bench.crew.executor.num_workers)
    return speed, [*stored, warm_up]


def time_decoding(bench: CompressBench) -> Speed:
    """Measure decoding into shared memory in as many guarded children as the job has; nobody looks at the frames."""
    idle: queue.SimpleQueue[FrameReader] = queue.SimpleQueue()
    readers = [FrameReader(limits=decode_limits(bench.job)) for _ in range(bench.crew.num_lanes)]
    for reader in readers:
        idle.put(reader)

    def decode(segment: Segment, _: int) -> None:
        reader = idle.get()
        with reader.batches(segment, batch_size=bench.batch_size(segment)) as batches:
            for _batch in batches:
                pass
        idle.put(reader)

    try:
        return bench.stopwatch.time_threads("decode", decode, bench.segments, num_workers=len(readers))
    finally:
        for reader in readers:
            reader.close()


def time_encoding(bench: CompressBench, segments: Sequence[Sequence[FrameBatch]]) -> list[Speed]:
    """Measure colour conversion and the codec on decoded frames of one size; then its parts, where they can be seen."""
    height, width = bench.originals[0].display_height, bench.originals[0].display_width
    device = bench.crew.device

    def encode(batches: Sequence[FrameBatch], _: int) -> None:
        # A frame's stream may depend on the segment's earlier ones: an encoder each.
        encoder = bench.codec.encoder(height=height, width=width)
        for batch in batches:
            encoder.encode(rgb_from_batch(batch, device=device))

    def convert(batches: Sequence[FrameBatch], _: int) -> None:
        for batch in batches:
            rgb_from_batch(batch, device=device)
        wait_for_device(device)

    stopwatch, num_slots = bench.stopwatch, bench.crew.num_slots
    repeated = list(segments) * bench.num_copies
    speeds = [
        stopwatch.time_threads("encode", encode, repeated, num_workers=num_slots),
        stopwatch.time_threads("encode: colour", convert, repeated, num_workers=num_slots),
    ]
    return speeds + (_time_dicm(bench, bench.codec, segments) if isinstance(bench.codec, DicmCodec) else [])


def _time_dicm(bench: CompressBench, codec: DicmCodec, segments: Sequence[Sequence[FrameBatch]]) -> list[Speed]:
    parts, device = DicmParts(codec), bench.crew.device
    coded = [
        one for batches in segments for one in parts.code(rgb_from_batch(batch, device=device) for batch in batches)
    ] * bench.num_copies

    def timed(name: str, part: Part) -> Speed:
        def work(batch: CodedBatch, _: int) -> None:
            part(batch)
            wait_for_device(device)

        return bench.stopwatch.time_threads(f"encode: {name}", work, coded, num_workers=bench.crew.num_slots)

    return [timed(name, part) for name, part in parts.of_encoder.items()]


def time_writing(bench: CompressBench, packs: Sequence[Pack]) -> Speed:
    """Measure packing the streams and storing pack and frames part, both flushed to the disk."""

    def write(pack: Pack, repeat: int) -> None:
        segment_id = derive_id(pack.header.segment_id, f"write, repeat {repeat}")
        writer = PackWriter(replace(pack.header, segment_id=segment_id))
        for frame in pack.frames:
            writer.add(
                pack.payload(frame.frame_number),
                pts=frame.pts,
                is_keyframe=frame.is_keyframe,
                is_independent=frame.is_independent,
            )
        write_segment(bench.store, writer.finish())

    return bench.stopwatch.time_threads("write", write, packs, num_workers=bench.crew.num_lanes)


def decode_all(bench: CompressBench) -> list[list[FrameBatch]]:
    """Decode the frames of each segment and keep them."""
    with FrameReader(limits=decode_limits(bench.job)) as reader:
        return [
            [
                replace(batch, planes=tuple(plane.copy() for plane in batch.planes))
                for batch in reader.batches(segment, batch_size=bench.batch_size(segment))
            ]
            for segment in bench.originals
        ]


def read_packs(store: Store, records: Sequence[SegmentRecord]) -> list[Pack]:
    """Read what a job stored."""
    return [read_pack(store.read_checked(record.pack)) for record in records]


def _shorten(segment: Segment) -> Segment:
    """Return a segment's first few frames as a segment of its own, for a warm-up."""
    short = keep_frames(segment, list(range(min(WARM_UP_FRAMES, segment.num_frames))))
    return rename(short, "warm-up")
