"""`framevault bench rate`: bytes a frame against what the detector still finds, for every quality and for x265.

The yardstick needs no labels: what the detector finds in the original pixels (score 0.3 or more) is taken as the truth,
and everything compressed is scored against it as AP50, mean over the labels found, weighted by their boxes. The figure
is called *agreement*; it says how much compression costs the detector, not how good the detector is.

x265 is 4:2:0 and knows even sizes only, so all codecs get the frames cut to even sizes. `--every` leaves frames out for
all of them; x265 inter then predicts over the gaps.

N frames, C channels, H rows, W columns; h = ceil(H / 4), w = ceil(W / 4).
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from framevault.codecs.base import Codec, Decoder
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CODECS, HIGHEST_QUALITY, LOWEST_QUALITY, CodecSpec
from framevault.pipeline.coco import require_scorer
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.detector_inputs import (
    add_inputs,
    decode_inputs,
    inputs_of_pixels,
    load_bench_detector,
)
from framevault.pipeline.jobs.bench.matching import Match, match_bytes
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.sampling import locate_source, probe, read_batches, split_calls
from framevault.pipeline.jobs.settings import with_usual_slices
from framevault.pipeline.probing import ProbedSource
from framevault.pipeline.x265 import MIN_SIDE, RgbFrame, X265Settings, decode_x265, encode_x265
from framevault.workers.detectors.base import Detections, Detector
from framevault.workers.detectors.evaluation import CocoResult, average_precision, coco_results

TRUTH_SCORE = 0.3
"""Detections in the original with at least this score count as the truth."""

X265_CRFS = (16, 22, 28, 34, 40, 46, 51)
"""From nearly transparent to the worst there is."""

FEW_OBJECTS = 50
"""With fewer objects in the original, one that is missed moves the agreement by percents: the table says so."""

NUM_FRAMES = 60
"""Frames that are measured, unless told otherwise."""

INTRA_NAME = "dicm intra"
"""What the tables call dicm with every frame by itself."""

QUALITIES = range(LOWEST_QUALITY, HIGHEST_QUALITY + 1)
"""All of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """What one codec with one setting makes of the frames."""

    codec: str
    """What compressed the frames."""
    setting: str
    """Quality or rate factor."""
    bytes_per_frame: float
    """Real bytes of the streams over the number of frames, without a container's."""
    bits_per_pixel: float
    """The same in bits, over the pixels of a frame."""
    feature_error: float
    """Squared error of the stride-4 features over their variance."""
    agreement: float
    """AP50 against what is found in the original, 0..1; NaN if nothing is found in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateReport:
    """All that was measured."""

    points: tuple[RatePoint, ...]
    """raw, dicm intra and dicm at each quality, x265 intra and inter at each rate factor."""
    num_frames: int
    """Frames measured."""
    num_objects: int
    """Boxes that the detector found in the original."""

    def of_codec(self, codec: str) -> list[RatePoint]:
        """Return one codec's points."""
        return [point for point in self.points if point.codec == codec]

    def matches(self, point: RatePoint) -> tuple[Match, Match]:
        """Say what x265 intra and inter need for a point's agreement."""
        intra, inter = (
            match_bytes([(one.bytes_per_frame, one.agreement) for one in self.of_codec(codec)], point.agreement)
            for codec in ("x265 intra", "x265 inter")
        )
        return intra, inter


def print_rates(
    video: str,
    *,
    num_frames: int,
    every: int,
    qualities: Sequence[int],
    output: OutputFormat,
    detector_name: str | None = None,
) -> ExitCode:
    """Measure the rates on a video's frames 0, K, 2K..., and print the tables.

    Raises:
        InputError: There is no such video.
        DetectorError: There is no such detector, or its checkpoint is damaged.
        PreflightError: The video can't be read, has frames of several sizes or too small, the detector can't read
            dicm's streams, or faster-coco-eval is missing.
    """
    require_scorer()
    detector = load_bench_detector(detector_name)
    probed = probe(locate_source(video))
    frames_nchw = read_even_frames(probed, num_frames=num_frames, every=every)
    report = measure_rates(frames_nchw, detector=detector, fps=probed.info.fps / every, qualities=qualities)
    what = f"{report.num_frames} frames, {report.num_objects} objects found in the original"
    if report.num_objects < FEW_OBJECTS:
        what += ": too few to trust the agreement; take more frames"
    print_rows(_points_table(report), output, title=f"Rates: {what}")
    print_rows(_matches_table(report), output, title="Bytes a frame of x265 where the detector agrees as much")
    return ExitCode.DONE


def read_even_frames(probed: ProbedSource, *, num_frames: int, every: int) -> Tensor:
    """Return frames 0, K, 2K... of a source, at most so many, as RGB uint8 [N, 3, H, W] with even H and W.

    Raises:
        PreflightError: It can't be read, or the frames have several sizes or are too small for x265.
    """
    chosen = range(0, probed.info.num_frames, every)[:num_frames]
    batches = [batch.rgb_nchw for batch in read_batches(probed, chosen)]
    even = [rgb_nchw[:, :, : rgb_nchw.shape[2] // 2 * 2, : rgb_nchw.shape[3] // 2 * 2] for rgb_nchw in batches]
    sizes = sorted({(rgb_nchw.shape[3], rgb_nchw.shape[2]) for rgb_nchw in even})
    if len(sizes) != 1 or min(sizes[0]) < MIN_SIDE:
        got = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise PreflightError(
            f"{probed.info.url}: expected frames of one size, {MIN_SIDE}x{MIN_SIDE} or larger, got {got}"
        )
    return torch.cat(even)


def measure_rates(
    frames_nchw: Tensor, *, detector: Detector, fps: float, qualities: Iterable[int] = QUALITIES
) -> RateReport:
    """Measure raw, dicm without and with prediction, and x265 intra and inter, on the same frames.

    Args:
        frames_nchw: RGB uint8 [N, 3, H, W], H and W even.
        detector: Whose findings are compared.
        fps: Frames a second that x265 is told.
        qualities: Of dicm.
    """
    yardstick = _Yardstick(frames_nchw, load_dicm(CodecSpec(name="dicm")), detector)
    points = [_measure_codec(frames_nchw, load_codec(CodecSpec(name="raw")), yardstick, setting="lossless")]
    row = CODECS["dicm"]
    for version, quality in itertools.product((row.intra_version, row.usual_version), qualities):
        codec = load_codec(with_usual_slices(CodecSpec(name="dicm", quality=quality, bitstream_version=version)))
        points.append(_measure_codec(frames_nchw, codec, yardstick, setting=f"quality {quality}"))
    for is_intra in (True, False):
        for crf in X265_CRFS:
            points.append(_measure_x265(frames_nchw, X265Settings(crf=crf, is_intra=is_intra), yardstick, fps=fps))
    return RateReport(points=tuple(points), num_frames=len(frames_nchw), num_objects=yardstick.num_objects)


class _Yardstick:
    """What the detector finds in the original, and the original's features."""

    def __init__(self, frames_nchw: Tensor, head: DicmCodec, detector: Detector) -> None:
        self._height, self._width = frames_nchw.shape[2:]
        self._head = head
        self._detector = detector
        self._features_nchw = self.inputs_of(frames_nchw)
        self._variance = self._features_nchw.var()
        found = [row for row in self._detect(self._features_nchw) if row.score >= TRUTH_SCORE]
        self.num_objects = len(found)
        self._labels = sorted({row.label for row in found})
        self._truth = _as_truth(found, self._labels, num_frames=len(frames_nchw))

    def inputs_of(self, frames_nchw: Tensor) -> Tensor:
        """Return what the detector sees of pixels: features [N, 24, h, w], or latents."""
        chunks = split_calls(frames_nchw)
        return torch.cat([inputs_of_pixels(self._head, self._detector, chunk) for chunk in chunks])

    def decode(self, decoder: Decoder, streams: Sequence[bytes], inputs: list[Tensor]) -> None:
        """Append what the detector sees of the segment's next frames to those before them, from a codec of features."""
        add_inputs(inputs, decode_inputs(decoder, self._detector, streams))

    def score(self, features_nchw: Tensor, *, num_bytes: int, codec: str, setting: str) -> RatePoint:
        """Make a row from decoded features and the bytes that they took."""
        bytes_per_frame = num_bytes / len(self._features_nchw)
        error = (features_nchw - self._features_nchw).square().mean() / self._variance
        return RatePoint(
            codec=codec,
            setting=setting,
            bytes_per_frame=bytes_per_frame,
            bits_per_pixel=8 * bytes_per_frame / (self._height * self._width),
            feature_error=float(error),
            agreement=self._agreement(features_nchw),
        )

    def _agreement(self, features_nchw: Tensor) -> float:
        if not self._labels:
            return math.nan
        rows = [row for row in self._detect(features_nchw) if row.label in self._labels]
        scores = average_precision(self._truth, rows)
        return sum(score.ap50 * score.num_boxes for score in scores) / sum(score.num_boxes for score in scores)

    def _detect(self, features_nchw: Tensor) -> list[CocoResult]:
        found: list[Detections] = []
        for chunk in split_calls(features_nchw):
            found.extend(self._detector(chunk, height=self._height, width=self._width))
        return [row for n, one in enumerate(found) for row in coco_results(n, one, self._detector.labels)]


def _as_truth(found: Sequence[CocoResult], labels: Sequence[str], *, num_frames: int) -> dict[str, object]:
    """Write detections as a COCO file has boxes that people drew."""
    return {
        "images": [{"id": n} for n in range(num_frames)],
        "categories": [{"id": n, "name": label} for n, label in enumerate(labels)],
        "annotations": [
            {
                "id": n + 1,
                "image_id": row.image_id,
                "category_id": labels.index(row.label),
                "bbox": list(row.bbox_xywh),
                "area": row.bbox_xywh[2] * row.bbox_xywh[3],
                "iscrowd": 0,
            }
            for n, row in enumerate(found)
        ],
    }


def _measure_codec(frames_nchw: Tensor, codec: Codec, yardstick: _Yardstick, *, setting: str) -> RatePoint:
    """Encode to real streams, decode them, and score the features."""
    height, width = frames_nchw.shape[2:]
    encoder, decoder = codec.encoder(height=height, width=width), codec.decoder(height=height, width=width)
    is_pixels = codec.spec.row.decodes_to == "frames"
    num_bytes = 0
    inputs: list[Tensor] = []
    for chunk in split_calls(frames_nchw):
        streams = encoder.encode(chunk)
        num_bytes += sum(map(len, streams))
        if is_pixels:
            inputs += yardstick.inputs_of(decoder.decode(streams))
        else:
            yardstick.decode(decoder, streams, inputs)
    features_nchw = torch.stack(inputs)
    name = INTRA_NAME if codec.spec.name == "dicm" and codec.spec.bitstream_version == 1 else codec.spec.name
    return yardstick.score(features_nchw, num_bytes=num_bytes, codec=name, setting=setting)


def _measure_x265(frames_nchw: Tensor, settings: X265Settings, yardstick: _Yardstick, *, fps: float) -> RatePoint:
    frames: list[RgbFrame] = list(frames_nchw.permute(0, 2, 3, 1).numpy())
    packets = encode_x265(frames, settings, fps=fps)
    decoded_nhwc = torch.from_numpy(np.stack(decode_x265(packets)))
    return yardstick.score(
        yardstick.inputs_of(decoded_nhwc.permute(0, 3, 1, 2)),
        num_bytes=sum(map(len, packets)),
        codec=f"x265 {'intra' if settings.is_intra else 'inter'}",
        setting=f"crf {settings.crf}",
    )


def _points_table(report: RateReport) -> pa.Table:
    points = report.points
    return pa.table(
        {
            "codec": [point.codec for point in points],
            "setting": [point.setting for point in points],
            "bytes_per_frame": [round(point.bytes_per_frame) for point in points],
            "bits_per_pixel": [round(point.bits_per_pixel, 4) for point in points],
            "feature_error": [round(point.feature_error, 4) for point in points],
            "agreement": [round(point.agreement, 4) for point in points],
        }
    )


def _matches_table(report: RateReport) -> pa.Table:
    points = report.of_codec(INTRA_NAME) + report.of_codec("dicm")
    matches = [report.matches(point) for point in points]
    return pa.table(
        {
            "codec": [point.codec for point in points],
            "setting": [point.setting for point in points],
            "agreement": [round(point.agreement, 4) for point in points],
            "bytes_per_frame": [round(point.bytes_per_frame) for point in points],
            "x265_intra": [intra.text for intra, _ in matches],
            "x265_inter": [inter.text for _, inter in matches],
        }
    )
