"""`framevault bench stages`: how fast each stage is alone, how fast the jobs are, and what lies between.

**A stage's ceiling** is its frames a second when it has the machine to itself, with as many workers and threads as it
has in the job: one decoding child a segment in flight, as many calls of the networks at once as the job's placement
says, one torch thread a call. On a CPU decoding children and networks share the cores, so the job can't reach the
slowest stage's ceiling even if nothing is ever waited for: `shared_fps` is what is left when the stages take turns on
the machine, the reciprocal of the sum of their seconds a frame. A job that reaches that wastes nothing.

Everything is measured warm: networks loaded, children started, each thread has run once. Start-up is reported apart.
The frames are the video's first ones, in copies enough that all threads have an equal share: the end of a job, where
some threads have nothing left to do, is not measured; a short video spends much of its time there.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.registry import load_codec
from framevault.configs.run import CompressJob, DetectJob
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench import compress_stages, detect_stages
from framevault.pipeline.jobs.bench.compress_stages import CompressBench
from framevault.pipeline.jobs.bench.detect_stages import DetectBench
from framevault.pipeline.jobs.bench.dicm_parts import ENTROPY_PARTS
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.sampling import cut_source, locate_source, probe, read_batches
from framevault.pipeline.jobs.bench.scaling import scale_clip
from framevault.pipeline.jobs.bench.timing import REPEATS, Speed
from framevault.pipeline.jobs.bench.workload import Crew, batch_size, copy_evenly, meet_crew, take_frames
from framevault.pipeline.jobs.detector_choice import choose_detector
from framevault.pipeline.jobs.settings import codec_spec, decode_limits
from framevault.pipeline.placement import open_executor
from framevault.pipeline.probing import ProbedSource
from framevault.storage.index import SegmentRecord
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.detect import DetectSettings
from framevault.workers.detectors.registry import detector_fingerprint, load_detector
from framevault.workers.encode import PIXELS_PER_BATCH, EncodeSettings
from framevault.workers.tasks import Segment

T = TypeVar("T")

NUM_FRAMES = 128
"""Frames to measure on, unless told otherwise: a segment of usual length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpeeds:
    """A job and its stages."""

    job: str
    """compress or detect."""
    end_to_end: Speed
    """All stages together."""
    stages: tuple[Speed, ...]
    """Each alone; parts of stages among them."""

    @property
    def slowest(self) -> Speed:
        """The stage with the lowest ceiling."""
        return min((stage for stage in self.stages if not stage.is_part), key=lambda stage: stage.median_fps)

    @property
    def shared_fps(self) -> float:
        """Frames a second if the stages took turns on the machine."""
        return 1 / sum(1 / stage.median_fps for stage in self.stages if not stage.is_part)

    def share(self, stage: Speed) -> float:
        """Of the time that all stages take in turns, what one of them, or a part of one, takes."""
        return self.shared_fps / stage.median_fps

    @property
    def entropy_share(self) -> float | None:
        """Of the time that the codec takes, what integer networks, transfers and entropy coding take; if measured."""
        seconds = {stage.stage: 1 / stage.median_fps for stage in self.stages}
        for codec in ("encode", "decode"):
            if parts := [seconds[name] for part in ENTROPY_PARTS if (name := f"{codec}: {part}") in seconds]:
                return sum(parts) / seconds[codec]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesReport:
    """All that was measured."""

    jobs: tuple[JobSpeeds, ...]
    """compress and detect."""
    start_up_s: tuple[tuple[str, float], ...]
    """What is done once a job, and its seconds."""
    num_frames: int
    """Frames of a repeat."""
    size: tuple[int, int]
    """Their width and height."""
    detector: str
    """Name of the detector that looked."""


def print_stages(
    video: str,
    *,
    codec: str,
    quality: int,
    num_frames: int | None,
    output: OutputFormat,
    detector: str | None = None,
    size: tuple[int, int] | None = None,
) -> ExitCode:
    """Measure the stages on a video, and print the tables.

    Args:
        video: The source.
        codec: What is measured.
        quality: Of the codec.
        num_frames: Frames to measure on; None for the usual number.
        output: How rows are printed.
        detector: Its name; None for the one that such a vault would be looked at with.
        size: Width and height to which the frames are scaled before; None leaves them as they are.

    Raises:
        InputError: There is no such video.
        PreflightError: It can't be read, has frames of several sizes, or the detector can't read what is stored.
        DetectorError: There is no such detector, or its checkpoint is damaged.
        JobStoppedError: A segment can't be encoded.
    """
    most = num_frames or NUM_FRAMES
    with tempfile.TemporaryDirectory(prefix="framevault-bench-") as folder:
        if size is not None:
            video = scale_clip(video, Path(folder) / "scaled.mp4", width=size[0], height=size[1], num_frames=most)
        report = measure_stages(video, codec=codec, quality=quality, num_frames=most, detector=detector)
    width, height = report.size
    what = (
        f"{codec}, quality {quality}, detector {report.detector}, {width}x{height}, {report.num_frames} frames a repeat"
    )
    print_rows(_speeds_table(report), output, title=f"Frames a second, warm: {what}")
    print_rows(_ratios_table(report), output, title="End to end against the stages")
    start_up = {
        "what": [name for name, _ in report.start_up_s],
        "seconds": [round(seconds, 2) for _, seconds in report.start_up_s],
    }
    print_rows(pa.table(start_up), output, title="Start-up, once a job")
    return ExitCode.DONE


def measure_stages(
    video: str, *, codec: str, quality: int, num_frames: int, repeats: int = REPEATS, detector: str | None = None
) -> StagesReport:
    """Measure compression, detection and their stages on a video's first frames; errors as `print_stages`."""
    location = locate_source(video)
    probed, probe_s = _timed(lambda: probe(location))
    segments = take_frames(cut_source(probed), num_frames)
    if len({(segment.width, segment.height) for segment in segments}) > 1:
        raise PreflightError(f"{video}: frames of several sizes; give frames of one size to measure on")
    with tempfile.TemporaryDirectory(prefix="framevault-bench-") as folder:
        job = CompressJob(inputs=(video,), vault=f"{folder}/vault", codec=codec, quality=quality)
        looking = DetectJob(vault=job.vault, detector=detector)
        choice = choose_detector(looking, [(video, codec_spec(job, device="cpu"))])
        store = open_vault(job.vault, create=True)
        with open_executor(job, store) as executor:
            crew = meet_crew(job, executor)
            compress, stored, encode_start_s = _measure_compress(job, crew, store, segments, repeats)
            frames = _read_frames(probed, num_frames, job, crew)
            detect, detect_start_s = _measure_detect(job, choice.detector, crew, store, frames, stored, repeats)
    return StagesReport(
        jobs=(compress, detect),
        start_up_s=(
            ("compress: imports", _time_imports()),
            ("compress: start the probing child, probe and hash the source", probe_s),
            ("compress: load the codec", encode_start_s),
            ("detect: load the detector", detect_start_s),
        ),
        num_frames=sum(record.num_frames for record in stored[0]),
        size=(segments[0].display_width, segments[0].display_height),
        detector=choice.detector,
    )


def _measure_compress(
    job: CompressJob, crew: Crew, store: Store, segments: list[Segment], repeats: int
) -> tuple[JobSpeeds, list[list[SegmentRecord]], float]:
    spec = codec_spec(job, device=crew.device)
    settings = EncodeSettings(
        vault_url=job.vault,
        codec=spec,
        limits=decode_limits(job),
        batch_size=job.batch_size,
        num_slots=crew.num_slots,
        threads_per_slot=job.threads_per_worker,
    )
    worker, start_s = _timed(settings)
    bench = CompressBench(
        job=job,
        crew=crew,
        store=store,
        codec=load_codec(spec),
        originals=tuple(segments),
        segments=tuple(copy_evenly(segments, crew)),
        repeats=repeats,
    )
    try:
        end_to_end, stored = compress_stages.time_compress_job(bench, worker)
    finally:
        worker.close()
    stages = (
        compress_stages.time_decoding(bench),
        *compress_stages.time_encoding(bench, compress_stages.decode_all(bench)),
        compress_stages.time_writing(bench, compress_stages.read_packs(store, stored[0])),
    )
    return JobSpeeds(job="compress", end_to_end=end_to_end, stages=stages), stored, start_s


def _measure_detect(
    compress: CompressJob,
    detector: str,
    crew: Crew,
    store: Store,
    frames: list[Tensor],
    stored: list[list[SegmentRecord]],
    repeats: int,
) -> tuple[JobSpeeds, float]:
    job = DetectJob(vault=compress.vault, detector=detector)
    detector_fp = detector_fingerprint(detector)[:16]
    settings = DetectSettings(
        vault_url=job.vault,
        detector=detector,
        detector_fp=detector_fp,
        device=crew.device,
        batch_size=job.batch_size,
        num_slots=crew.num_slots,
        threads_per_slot=job.threads_per_worker,
    )
    worker, start_s = _timed(settings)
    codec = load_codec(codec_spec(compress, device=crew.device))
    packs = compress_stages.read_packs(store, stored[0])
    bench = DetectBench(
        job=job,
        crew=crew,
        store=store,
        codec=codec,
        detector=load_detector(detector, device=crew.device),
        detector_fp=detector_fp,
        packs=tuple(packs),
        num_copies=sum(len(pack.frames) for pack in packs) // sum(len(batch) for batch in frames),
        repeats=repeats,
    )
    end_to_end = detect_stages.time_detect_job(bench, worker, stored)
    stages = (
        detect_stages.time_reading(bench, stored[0]),
        detect_stages.time_decoding_features(bench),
        *(detect_stages.time_dicm_parts(bench, codec, frames) if isinstance(codec, DicmCodec) else ()),
        detect_stages.time_detector(bench),
        detect_stages.time_writing_detections(bench),
    )
    return JobSpeeds(job="detect", end_to_end=end_to_end, stages=stages), start_s


def _read_frames(probed: ProbedSource, num_frames: int, job: CompressJob, crew: Crew) -> list[Tensor]:
    """Return the frames as RGB, in batches as the networks get them."""
    pixels = probed.info.width * probed.info.height
    size = batch_size(job, PIXELS_PER_BATCH, pixels=pixels, device=crew.device)
    return [batch.rgb_nchw for batch in read_batches(probed, range(num_frames), batch_size=size)]


def _timed(make: Callable[[], T]) -> tuple[T, float]:
    """Call something, and return what it gave and its seconds."""
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def _time_imports() -> float:
    """Time a fresh interpreter that imports what compressing needs."""
    command = [sys.executable, "-c", "import framevault.pipeline.jobs.compress"]
    _, seconds = _timed(lambda: subprocess.run(command, check=True))
    return seconds


def _speeds_table(report: StagesReport) -> pa.Table:
    rows = [(job, speed) for job in report.jobs for speed in (*job.stages, job.end_to_end)]
    return pa.table(
        {
            "job": [job.job for job, _ in rows],
            "stage": [speed.stage for _, speed in rows],
            "workers": [speed.num_workers for _, speed in rows],
            "frames_per_s": [_round(speed.median_fps) for _, speed in rows],
            "best": [_round(speed.best_fps) for _, speed in rows],
            "cpu_ms_a_frame": [round(speed.cpu_ms, 2) for _, speed in rows],
            "share": [None if speed is job.end_to_end else round(job.share(speed), 3) for job, speed in rows],
        }
    )


def _ratios_table(report: StagesReport) -> pa.Table:
    jobs = report.jobs
    return pa.table(
        {
            "job": [job.job for job in jobs],
            "end_to_end": [_round(job.end_to_end.median_fps) for job in jobs],
            "slowest_stage": [job.slowest.stage for job in jobs],
            "its_ceiling": [_round(job.slowest.median_fps) for job in jobs],
            "ratio": [_ratio(job.end_to_end.median_fps, job.slowest.median_fps) for job in jobs],
            "stages_in_turns": [_round(job.shared_fps) for job in jobs],
            "ratio_to_that": [_ratio(job.end_to_end.median_fps, job.shared_fps) for job in jobs],
            "entropy_share": [None if job.entropy_share is None else round(job.entropy_share, 3) for job in jobs],
        }
    )


def _round(frames_per_s: float) -> float:
    """Keep what the measurement is good for: three or four digits."""
    return round(frames_per_s, 1 if frames_per_s < 1000 else 0)


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 3)
