"""What an exported detector finds in held-out pictures, through real streams."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.detector.features import FeatureSource
from framevault.pipeline.jobs.train.detector.labels import LabelBook
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Row
from framevault.workers.detectors.evaluation import (
    SCORED_FROM,
    CocoResult,
    average_precision,
    coco_results,
    rename_labels,
)
from framevault.workers.detectors.peaks import PeakDetector
from framevault.workers.detectors.registry import DEFAULT_DETECTOR
from framevault.workers.detectors.training import Annotation


@torch.inference_mode()
def measure_detector(
    path: Path, pictures: PictureSet, book: LabelBook, source: FeatureSource, *, quality: int, device: torch.device
) -> Row:
    """Encode pictures, decode their features, look for objects, and score what is found.

    Args:
        path: The detector's checkpoint.
        pictures: At least one, all in the book.
        book: The boxes.
        source: The codec.
        quality: 1 to 8.
        device: Where the detector computes.

    Returns:
        `quality`, `pictures`, `boxes`, `bits_per_pixel` of the real streams, and, if there are boxes, `ap50` and `ap`:
        means over the labels that have some.
    """
    detector = PeakDetector.from_checkpoint(path, name=DEFAULT_DETECTOR, device=str(device))
    names = rename_labels(detector.labels, {label: label for label in book.labels})
    results: list[CocoResult] = []
    annotations: list[Annotation] = []
    num_bytes = num_pixels = 0
    for number, (name, rgb_hwc) in enumerate(zip(pictures.names, pictures.rgb_hwc, strict=True)):
        height, width = rgb_hwc.shape[:2]
        frames_nchw = torch.from_numpy(np.array(rgb_hwc)).permute(2, 0, 1)[None]
        features_nchw, size_bytes = source.through_streams(frames_nchw, quality=quality)
        (found,) = detector(features_nchw, height=height, width=width, score_floor=SCORED_FROM)
        results += coco_results(number, found, names)
        annotations.append(annotation_of(book, name, width=width, height=height))
        num_bytes += size_bytes
        num_pixels += height * width
    scores = average_precision(_as_coco(annotations, book.labels), results)
    means = {name: float(np.mean([getattr(score, name) for score in scores])) for name in ("ap50", "ap") if scores}
    return {
        "quality": quality,
        "pictures": len(pictures),
        "boxes": sum(len(annotation.labels_k) for annotation in annotations),
        "bits_per_pixel": 8 * num_bytes / num_pixels,
        **means,
    }


def annotation_of(book: LabelBook, name: str, *, width: int, height: int) -> Annotation:
    """Return what is known of a decoded picture, in its pixels.

    Raises:
        PreflightError: The label file does not know it.
    """
    image = book.find(name)
    if image is None:
        raise PreflightError(f"{book.path}: picture {name} is not in images")
    return image.scaled_to(width=width, height=height)


def _as_coco(annotations: list[Annotation], labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the boxes as COCO's evaluation wants them; pictures and labels are numbered, the latter from 1."""
    rows: list[dict[str, object]] = []
    for number, annotation in enumerate(annotations):
        boxes = [
            (label, box, 0)
            for label, box in zip(annotation.labels_k.tolist(), annotation.boxes_k4.tolist(), strict=True)
        ]
        boxes += [(area.first_label, list(area.box), 1) for area in annotation.blind_areas]
        for label, (x_min, y_min, x_max, y_max), is_crowd in boxes:
            width, height = x_max - x_min, y_max - y_min
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x_min, y_min, width, height],
                    "area": width * height,
                    "iscrowd": is_crowd,
                }
            )
    return {
        "images": [{"id": number} for number in range(len(annotations))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels, start=1)],
        "annotations": rows,
    }
