"""`framevault bench detection`: detecting from the vault's streams against decoding H.265 and detecting.

Both begin with streams in main memory and end with boxes:

- **vault**: streams -> latents or features -> detector; frames in which nothing moved are looked at once.
- **h265**: x265's streams -> pixels (PyAV) -> head of the backbone -> the detector on features.

Each way has as many threads as `framevault detect` would have, each with a whole copy of the clip and one torch thread.
The ways take turns, so that whatever else the machine does is shared fairly.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.configs.run import DetectJob
from framevault.pipeline.executors.base import count_cpus
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.detector_inputs import decode_inputs, load_bench_detector
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches
from framevault.pipeline.jobs.bench.timing import REPEATS
from framevault.pipeline.jobs.bench.workload import batch_size
from framevault.pipeline.jobs.settings import with_usual_slices
from framevault.pipeline.x265 import MIN_SIDE, X265Settings, decode_x265, encode_x265
from framevault.workers.detectors.base import Detections, Detector
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, LATENT_DETECTOR
from framevault.workers.features import FEATURE_PIXELS_PER_BATCH

NUM_FRAMES = 128
"""Frames to measure on, unless told otherwise."""

DETECTORS = (LATENT_DETECTOR, DEFAULT_DETECTOR)
"""Those that look through the vault."""

X265 = X265Settings(crf=28, is_intra=False, preset="medium")
"""The opponent: libx265's own defaults."""

SURE = 0.3
"""Score from which objects are counted."""

Look = Callable[[], list[Detections]]
"""Goes from streams to the boxes of each frame that was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRow:
    """One way from streams to boxes."""

    source: str
    """vault or h265."""
    detector: str
    """Its name."""
    median_fps: float
    """Frames a second, median of the repeats."""
    best_fps: float
    """Frames a second, best of the repeats."""
    cpu_ms: float
    """Milliseconds of CPU a frame, median."""
    bytes_per_frame: float
    """Of the streams."""
    objects: float
    """Objects with a score of 0.3 or more, in a frame that was looked at."""


def print_detection(
    video: str, *, quality: int, num_frames: int | None, workers: int | None, output: OutputFormat
) -> ExitCode:
    """Measure on a video, and print the table.

    Raises:
        InputError: There is no such video.
        PreflightError: It can't be read, is too small for x265, or has frames of several sizes.
    """
    rows = measure_detection(video, quality=quality, num_frames=num_frames or NUM_FRAMES, workers=workers)
    print_rows(_table(rows), output, title="Detection from the vault against decoding H.265 and detecting")
    return ExitCode.DONE


def measure_detection(
    video: str, *, quality: int, num_frames: int, workers: int | None = None, repeats: int = REPEATS
) -> tuple[DetectionRow, ...]:
    """Measure all ways on a video's first frames, the vault's first; errors as `print_detection`."""
    probed = probe(locate_source(video))
    frames = [batch.rgb_nchw for batch in read_batches(probed, range(num_frames))]
    sizes = {tuple(rgb_nchw.shape[2:]) for rgb_nchw in frames}
    if len(sizes) > 1 or min(min(size) for size in sizes) < MIN_SIDE:
        raise PreflightError(f"{video}: frames must have one size of at least {MIN_SIDE} pixels a side for x265")
    ways = _prepare(frames, quality=quality, fps=probed.info.fps)
    return _race(ways, num_threads=workers or count_cpus(), num_frames=sum(map(len, frames)), repeats=repeats)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    source: str
    detector: str
    num_bytes: int
    look: Look


def _prepare(frames: Sequence[Tensor], *, quality: int, fps: float) -> list[_Way]:
    """Encode the frames both ways, and load what looks at them."""
    codec = load_dicm(with_usual_slices(CodecSpec(name="dicm", quality=quality)))
    height, width = frames[0].shape[2:]
    size = batch_size(DetectJob(vault="none"), FEATURE_PIXELS_PER_BATCH, pixels=height * width, device="cpu")
    encoder = codec.encoder(height=height, width=width)
    streams = [stream for rgb_nchw in frames for stream in encoder.encode(rgb_nchw)]
    packets = encode_x265(
        [frame for rgb_nchw in frames for frame in rgb_nchw.permute(0, 2, 3, 1).numpy()], X265, fps=fps
    )
    ways = [
        _Way(
            source="vault",
            detector=name,
            num_bytes=sum(map(len, streams)),
            look=_look_at_vault(codec, load_bench_detector(name), streams, size=(height, width), batch=size),
        )
        for name in DETECTORS
    ]
    look = _look_at_video(codec, load_bench_detector(DEFAULT_DETECTOR), packets, batch=size)
    return [*ways, _Way(source="h265", detector=DEFAULT_DETECTOR, num_bytes=sum(map(len, packets)), look=look)]


def _look_at_vault(
    codec: DicmCodec, detector: Detector, streams: Sequence[bytes], *, size: tuple[int, int], batch: int
) -> Look:
    height, width = size

    def look() -> list[Detections]:
        decoder = codec.decoder(height=height, width=width)
        found: list[Detections] = []
        for first in range(0, len(streams), batch):
            changes = decode_inputs(decoder, detector, streams[first : first + batch])
            if len(changes.decoded):
                found += detector(changes.decoded, height=height, width=width)
        return found

    return look


def _look_at_video(codec: DicmCodec, detector: Detector, packets: Sequence[bytes], *, batch: int) -> Look:
    def look() -> list[Detections]:
        frames = decode_x265(packets)
        height, width = frames[0].shape[:2]
        found: list[Detections] = []
        for first in range(0, len(frames), batch):
            rgb_nchw = torch.from_numpy(np.stack(frames[first : first + batch])).permute(0, 3, 1, 2)
            found += detector(codec.head_features(rgb_nchw), height=height, width=width)
        return found

    return look


def _race(ways: Sequence[_Way], *, num_threads: int, num_frames: int, repeats: int) -> tuple[DetectionRow, ...]:
    """Let the ways take turns, after a warm-up each."""
    torch.set_num_threads(1)
    rates: list[list[float]] = [[] for _ in ways]
    costs: list[list[float]] = [[] for _ in ways]
    with ThreadPoolExecutor(num_threads) as pool:
        found = [_look_at_once(pool, way, num_threads)[0] for way in ways]
        for _ in range(repeats):
            for number, way in enumerate(ways):
                start, cpu_start = time.perf_counter(), time.process_time()
                _look_at_once(pool, way, num_threads)
                rates[number].append(num_threads * num_frames / (time.perf_counter() - start))
                costs[number].append(1000 * (time.process_time() - cpu_start) / (num_threads * num_frames))
    return tuple(
        DetectionRow(
            source=way.source,
            detector=way.detector,
            median_fps=statistics.median(rates[number]),
            best_fps=max(rates[number]),
            cpu_ms=statistics.median(costs[number]),
            bytes_per_frame=way.num_bytes / num_frames,
            objects=sum(int((one.scores >= SURE).sum()) for one in found[number]) / max(len(found[number]), 1),
        )
        for number, way in enumerate(ways)
    )


def _look_at_once(pool: ThreadPoolExecutor, way: _Way, num_threads: int) -> list[list[Detections]]:
    """Go one way in all threads; return what each found."""
    return list(pool.map(lambda look: look(), [way.look] * num_threads))


def _table(rows: Sequence[DetectionRow]) -> pa.Table:
    opponent = rows[-1]
    return pa.table(
        {
            "source": [row.source for row in rows],
            "detector": [row.detector for row in rows],
            "frames_per_s": [round(row.median_fps, 1) for row in rows],
            "best": [round(row.best_fps, 1) for row in rows],
            "cpu_ms_a_frame": [round(row.cpu_ms, 2) for row in rows],
            "times_as_fast": [round(row.median_fps / opponent.median_fps, 2) for row in rows],
            "bytes_a_frame": [round(row.bytes_per_frame) for row in rows],
            "objects_a_frame": [round(row.objects, 2) for row in rows],
        }
    )
