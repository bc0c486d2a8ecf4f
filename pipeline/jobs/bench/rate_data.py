"""The labelled frames of a comparison, and what scores them: for classification, or for detection."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from framevault.codecs.spec import CodecSpec
from framevault.pipeline.coco import require_scorer
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.accuracy import check_source, locate_pictures
from framevault.pipeline.jobs.bench.class_labels import load_classes
from framevault.pipeline.jobs.bench.labels import map_labels, parse_pairs
from framevault.pipeline.jobs.bench.material import Frame, Material, read_pictures, read_video, spread
from framevault.pipeline.jobs.bench.sampling import locate_source, probe
from framevault.pipeline.jobs.bench.tallies import BoxTally, Tally, Top1Tally
from framevault.pipeline.jobs.bench.truth import Truth, TruthImage, keep_labels, load_truth
from framevault.pipeline.sources import SourceLocation
from framevault.workers.classifier import (
    DEFAULT_CLASSIFIER,
    Classifier,
    check_head,
    classifier_backbone,
    find_classifier,
)
from framevault.workers.detectors.evaluation import rename_labels
from framevault.workers.detectors.registry import DEFAULT_DETECTOR, detector_head, detector_row, load_detector
from framevault.workers.weights import backbone_of, has_head

T = TypeVar("T")

Task = Literal["classify", "detect"]
"""What the network does."""

VIDEO_FRAMES = 300
"""Frames of a video that are looked at, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which frames, and which network looks at them."""

    data: str
    """A folder of pictures, or a video."""
    labels: Path | None
    """What the frames show."""
    label_names: str | None = None
    """Detector's label=file's label, ...; the names that both have, if not given."""
    merge: str | None = None
    """Labels of the file that count as another."""
    every: int = 1
    """Pictures: each K-th. Videos: frames at least K apart are scored; all of them are coded."""
    num_frames: int | None = None
    """Most pictures, evenly spread; frames from a video's start."""
    size: tuple[int, int] | None = None
    """Width and height that frames are scaled to."""
    frame_steps: tuple[int, ...] = (1,)
    """Of a video, frames 0, S, 2S... are coded, for each S."""
    segment_frames: int
    """Frames after which a codec begins anew."""
    network: str | None = None
    """The classifier's or detector's name; the shipped codec's, if not given."""
    network_weights: str | None = None
    """Its weights; by its name, if not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination(Generic[T]):
    """Labelled frames and who looks at them."""

    read: Callable[[int], Material[T]]
    """Reads every S-th frame of a video; 1 for pictures."""
    new_tally: Callable[[], Tally[T]]
    """Starts to score one form of the frames."""
    what: str
    """What is measured, for titles."""
    is_video: bool
    """Whether there are frames to predict from."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know."""


def prepare_classification(settings: DataSettings, spec: CodecSpec) -> Examination[int]:
    """Find labelled pictures and load a classifier.

    Raises:
        CheckpointError: The classifier's weights can't be had, or were trained behind another head than the codec's.
        PreflightError: There are no labelled pictures.
    """
    name = settings.network or DEFAULT_CLASSIFIER
    _check_backbone(spec, classifier_backbone(name), reader=f"classifier {name}", option="--classifier")
    path = find_classifier(name, weights=settings.network_weights)
    check_head(name, path, spec)
    classifier = Classifier(name, path)
    pictures = load_classes(Path(settings.data), settings.labels, known=classifier.labels)
    chosen = spread(pictures[:: settings.every], settings.num_frames)
    _refuse_steps(settings)
    files = tuple(picture.path for picture in chosen)
    probed = probe(
        SourceLocation(url=settings.data, name=Path(settings.data).resolve().name, kind="pictures", files=files)
    )
    return Examination(
        read=lambda _: read_pictures(probed, [picture.class_id for picture in chosen], size=settings.size),
        new_tally=lambda: Top1Tally(classifier),
        what=f"classifier {name} of {len(classifier.labels)} classes",
        is_video=False,
    )


def prepare_detection(settings: DataSettings, spec: CodecSpec) -> Examination[TruthImage]:
    """Find frames with boxes and load a detector.

    Raises:
        DetectorError: The detector's weights can't be had.
        InputError: The video is not there.
        PreflightError: There are no boxes, or they are not those of the frames.
    """
    if settings.labels is None:
        raise PreflightError("detection is scored against boxes that people drew: name a COCO file with --labels")
    require_scorer()
    name = settings.network or DEFAULT_DETECTOR
    row = detector_row(name)
    _check_backbone(spec, row.backbone, reader=f"detector {name}", option="--detector")
    if row.reads != "features":
        raise PreflightError(
            f"detector {name} reads dicm's {row.reads}, which no other codec has: name one of features"
        )
    detector = load_detector(name, weights=settings.network_weights)
    merge = parse_pairs(settings.merge, option="--merge")
    truth = load_truth(settings.labels, video_name=Path(settings.data).name, merge=merge)
    names = map_labels(
        detector.labels,
        truth.labels,
        pairs=parse_pairs(settings.label_names, option="--label-names"),
        source=settings.labels,
        option="--label-names",
    )
    scored = keep_labels(truth, sorted(set(names.values())))
    read = _video_reader(truth, settings) if truth.is_video else _picture_reader(truth, settings)

    def read_checked(frame_step: int) -> Material[TruthImage]:
        material = read(frame_step)
        _check_boxes(material, scored, source=settings.labels, labels=sorted(set(names.values())))
        return material

    return Examination(
        read=read_checked,
        new_tally=lambda: BoxTally(detector, rename_labels(detector.labels, names), scored, settings.size),
        what=f"detector {detector.name}, {', '.join(sorted(set(names.values())))}",
        is_video=truth.is_video,
        notes=_detector_notes(name, settings.network_weights, spec),
    )


def _video_reader(truth: Truth, settings: DataSettings) -> Callable[[int], Material[TruthImage]]:
    probed = probe(locate_source(settings.data))
    images = {image.frame_index: image for image in truth.images if image.frame_index is not None}
    check_source(truth, images, probed, settings.data)

    def read(frame_step: int) -> Material[TruthImage]:
        return read_video(
            probed,
            images,
            num_frames=settings.num_frames or VIDEO_FRAMES,
            frame_step=frame_step,
            score_step=settings.every,
            size=settings.size,
            segment_frames=settings.segment_frames,
        )

    return read


def _picture_reader(truth: Truth, settings: DataSettings) -> Callable[[int], Material[TruthImage]]:
    _refuse_steps(settings)
    images = spread(truth.images[:: settings.every], settings.num_frames)
    probed = probe(locate_pictures(truth, dict(enumerate(images)), settings.data))
    return lambda _: read_pictures(probed, images, size=settings.size)


def _check_backbone(spec: CodecSpec, wanted: str, *, reader: str, option: str) -> None:
    if (found := backbone_of(spec)) != wanted:
        raise PreflightError(
            f"{spec.checkpoint_path} holds features of {found}, {reader} reads those of {wanted}: name one that reads "
            f"{found} with {option}"
        )


def _detector_notes(name: str, weights: str | None, spec: CodecSpec) -> tuple[str, ...]:
    if has_head(spec, detector_head(name, weights=weights)):
        return ()
    return (
        f"{spec.checkpoint_path}: its features are of another backbone than those that detector {name} was trained "
        "on; expect it to find less",
    )


def _refuse_steps(settings: DataSettings) -> None:
    if settings.frame_steps != (1,):
        raise PreflightError(
            "--fps-every leaves out frames of a video, these are pictures: --every leaves out pictures"
        )


def _check_boxes(
    material: Material[TruthImage], truth: dict[str, list[dict[str, object]]], *, source: object, labels: list[str]
) -> None:
    """Refuse frames of another size than the boxes were drawn in, and frames without any box."""
    scored: list[Frame[TruthImage]] = [frame for frame in material.frames if frame.target is not None]
    image_ids = set()
    for frame in scored:
        assert frame.target is not None
        image_ids.add(frame.target.image_id)
        if frame.target.size not in (None, frame.source_size):
            raise PreflightError(
                f"{source}: image {frame.target.image_id} is {frame.target.size}, the frame is {frame.source_size}"
            )
    if not any(row["image_id"] in image_ids for row in truth["annotations"]):
        raise PreflightError(f"{source}: no boxes of {', '.join(labels)} in the {len(scored)} frames to score")
