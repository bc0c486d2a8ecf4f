"""`framevault bench accuracy`: average precision against boxes that people drew, from pixels and from the vault.

"From the vault" means from real streams: each frame is encoded at each quality, its stream decoded, and the detector
run on the decoded features. "From pixels" means from the features of the original frame, as the encoder sees them.

N frames, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.pipeline.coco import require_scorer
from framevault.pipeline.exits import ExitCode, PreflightError
from framevault.pipeline.jobs.bench.detector_inputs import (
    add_inputs,
    decode_inputs,
    inputs_of_pixels,
    load_bench_detector,
)
from framevault.pipeline.jobs.bench.labels import drop_duplicates, map_labels, parse_pairs
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows
from framevault.pipeline.jobs.bench.sampling import RgbBatch, locate_source, probe, read_batches
from framevault.pipeline.jobs.bench.truth import Truth, TruthImage, keep_labels, load_truth
from framevault.pipeline.jobs.settings import with_usual_slices
from framevault.pipeline.probing import ProbedSource
from framevault.pipeline.sources import SourceLocation
from framevault.workers.detectors.base import Detections, Detector
from framevault.workers.detectors.evaluation import (
    SCORED_FROM,
    CocoResult,
    LabelScore,
    average_precision,
    coco_results,
    rename_labels,
)

QUALITIES = (1, 3, 5, 8)
"""Measured, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRow:
    """What the detector finds in one form of the frames."""

    source: str
    """`pixels`, or `quality 5`."""
    bytes_per_frame: float | None
    """Of the streams; None for pixels."""
    bits_per_pixel: float | None
    """The same in bits, over the pixels of a frame; None for pixels."""
    scores: tuple[LabelScore, ...]
    """A row a label that has boxes."""

    @property
    def mean_ap50(self) -> float:
        """Mean over the labels."""
        return sum(score.ap50 for score in self.scores) / len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyReport:
    """All that was measured."""

    rows: tuple[AccuracyRow, ...]
    """Pixels first, then the qualities."""
    num_frames: int
    """Frames scored."""


def print_accuracy(
    labels_file: Path,
    frames: str,
    *,
    labels: str | None,
    merge: str | None,
    every: int,
    qualities: Sequence[int],
    output: OutputFormat,
    detector_name: str | None = None,
    detector_weights: str | None = None,
) -> ExitCode:
    """Measure average precision on labelled frames, and print the table.

    Raises:
        InputError: The video is not there.
        DetectorError: There is no such detector, or its checkpoint is damaged.
        PreflightError: The detector can't read dicm's streams, an argument is wrong, the label file does not fit the
            frames, or faster-coco-eval is missing.
    """
    require_scorer()
    detector = load_bench_detector(detector_name, weights=detector_weights)
    truth = load_truth(labels_file, video_name=Path(frames).name, merge=parse_pairs(merge, option="--merge"))
    pairs = parse_pairs(labels, option="--labels")
    names = map_labels(detector.labels, truth.labels, pairs=pairs, source=labels_file)
    report = measure_accuracy(truth, frames, detector=detector, names=names, every=every, qualities=qualities)
    title = f"AP50 of {detector.name} on {report.num_frames} frames of {Path(frames).name}"
    print_rows(_wide_table(report) if output == "table" else _long_table(report), output, title=title)
    return ExitCode.DONE


def measure_accuracy(
    truth: Truth,
    frames: str,
    *,
    detector: Detector,
    names: Mapping[str, str],
    every: int = 1,
    qualities: Sequence[int] = QUALITIES,
) -> AccuracyReport:
    """Measure average precision from pixels and through real streams.

    Args:
        truth: The boxes.
        frames: The video, or the folder that the pictures' names are relative to.
        detector: Finds objects.
        names: What the detector's labels are called in the truth; others don't count.
        every: Takes frames 0, K, 2K... of a video, or every K-th picture of the file.
        qualities: Of dicm.

    Raises:
        InputError: The video is not there.
        PreflightError: The frames can't be read, or are not those of the truth.
    """
    images = _choose(truth, every)
    counted = rename_labels(detector.labels, names)
    forms = [
        _Form(None),
        *(_Form(load_dicm(with_usual_slices(CodecSpec(name="dicm", quality=quality)))) for quality in qualities),
    ]
    head = load_dicm(CodecSpec(name="dicm"))
    for batch in _read(truth, images, frames):
        shown = [images[number] for number in batch.frame_numbers]
        _check_sizes(truth, shown, batch)
        height, width = batch.rgb_nchw.shape[2:]
        for form in forms:
            features_nchw = form.inputs(batch.rgb_nchw, head, detector)
            found = detector(features_nchw, height=height, width=width, score_floor=SCORED_FROM)
            form.add(shown, found, counted)
    scored = keep_labels(truth, sorted(set(names.values())))
    image_ids = [image.image_id for image in images.values()]
    rows = tuple(form.row(scored, image_ids) for form in forms)
    if not rows[0].scores:
        raise PreflightError(f"{truth.path}: no boxes of {', '.join(sorted(set(names.values())))} in the chosen frames")
    return AccuracyReport(rows=rows, num_frames=len(images))


@dataclass(slots=True)
class _Form:
    """One form of the frames, and what is found in it."""

    codec: DicmCodec | None
    num_bytes: int = 0
    num_pixels: int = 0
    results: list[CocoResult] = field(default_factory=list)

    def inputs(self, rgb_nchw: Tensor, head: DicmCodec, detector: Detector) -> Tensor:
        """Return what a detector sees of frames in this form: features [N, 24, h, w], or latents."""
        if self.codec is None:
            return inputs_of_pixels(head, detector, rgb_nchw)
        num_frames, _, height, width = rgb_nchw.shape
        streams = self.codec.encoder(height=height, width=width).encode(rgb_nchw)
        self.num_bytes += sum(map(len, streams))
        self.num_pixels += num_frames * height * width
        inputs: list[Tensor] = []
        add_inputs(inputs, decode_inputs(self.codec.decoder(height=height, width=width), detector, streams))
        return torch.stack(inputs)

    def add(self, images: Sequence[TruthImage], found: Sequence[Detections], names: Sequence[str | None]) -> None:
        """Enter what was found in some frames."""
        for image, detections in zip(images, found, strict=True):
            self.results += coco_results(image.image_id, drop_duplicates(detections, names), names)

    def row(self, scored: Mapping[str, object], image_ids: Sequence[int]) -> AccuracyRow:
        """Score all of it."""
        scores = tuple(average_precision(scored, self.results, image_ids=image_ids))
        if self.codec is None:
            return AccuracyRow(source="pixels", bytes_per_frame=None, bits_per_pixel=None, scores=scores)
        return AccuracyRow(
            source=f"quality {self.codec.spec.quality}",
            bytes_per_frame=self.num_bytes / len(image_ids),
            bits_per_pixel=8 * self.num_bytes / self.num_pixels,
            scores=scores,
        )


def _choose(truth: Truth, every: int) -> dict[int, TruthImage]:
    """Return the images to score by the number that their frame has in the source."""
    if not truth.is_video:
        return dict(enumerate(truth.images[::every]))
    by_index = {image.frame_index or 0: image for image in truth.images}
    chosen = {index: by_index[index] for index in sorted(by_index) if index % every == 0}
    if not chosen:
        raise PreflightError(f"{truth.path}: no labelled frame has a frame_index divisible by {every}")
    return chosen


def _read(truth: Truth, images: Mapping[int, TruthImage], frames: str) -> Iterator[RgbBatch]:
    probed = probe(locate_source(frames) if truth.is_video else locate_pictures(truth, images, frames))
    check_source(truth, images, probed, frames)
    return read_batches(probed, images.keys())


def locate_pictures(truth: Truth, images: Mapping[int, TruthImage], folder: str) -> SourceLocation:
    """Return the label file's pictures as one source, in its order.

    Raises:
        PreflightError: One of them is not there.
    """
    files = tuple(str(Path(folder, image.file_name or "")) for image in images.values())
    if missing := [file for file in files if not Path(file).is_file()]:
        raise PreflightError(
            f"{truth.path}: {len(missing)} of {len(files)} pictures are not there, such as {missing[0]}"
        )
    return SourceLocation(url=folder, name=Path(folder).name, kind="pictures", files=files)


def check_source(truth: Truth, images: Mapping[int, TruthImage], probed: ProbedSource, frames: str) -> None:
    """Check that a source can be the one whose frames a label file names.

    Raises:
        PreflightError: It is no video and should be one, or has too few frames.
    """
    if truth.is_video and probed.info.kind != "video":
        raise PreflightError(f"{truth.path} names frames by frame_index, but {frames} is no video")
    if (last := max(images)) >= probed.info.num_frames:
        raise PreflightError(
            f"{truth.path} has boxes in frame {last}, but {frames} has {probed.info.num_frames} frames"
        )


def _check_sizes(truth: Truth, images: Sequence[TruthImage], batch: RgbBatch) -> None:
    """Refuse frames of another size than the boxes were drawn in: nothing would match, and the score would be wrong."""
    height, width = batch.rgb_nchw.shape[2:]
    for image in images:
        if image.size not in (None, (width, height)):
            raise PreflightError(
                f"{truth.path}: image {image.image_id} is {image.size}, the frame is {(width, height)}"
            )


def _wide_table(report: AccuracyReport) -> pa.Table:
    """A row a form of the frames, a column a label: for people."""
    rows = report.rows
    columns: dict[str, list[object]] = {
        "source": [row.source for row in rows],
        "bytes_per_frame": [None if row.bytes_per_frame is None else round(row.bytes_per_frame) for row in rows],
        "bits_per_pixel": [None if row.bits_per_pixel is None else round(row.bits_per_pixel, 4) for row in rows],
        "mean": [round(row.mean_ap50, 4) for row in rows],
    }
    for position, score in enumerate(rows[0].scores):
        columns[f"{score.label} ({score.num_boxes})"] = [round(row.scores[position].ap50, 4) for row in rows]
    return pa.table(columns)


def _long_table(report: AccuracyReport) -> pa.Table:
    """A row a form of the frames and label: for programs, as columns don't depend on the labels."""
    return pa.Table.from_pylist(
        [
            {
                "source": row.source,
                "bytes_per_frame": row.bytes_per_frame,
                "bits_per_pixel": row.bits_per_pixel,
                "label": score.label,
                "num_boxes": score.num_boxes,
                "ap50": score.ap50,
                "ap": score.ap,
            }
            for row in report.rows
            for score in row.scores
        ]
    )
