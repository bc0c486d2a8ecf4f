"""How well detections match boxes drawn by people: COCO's average precision.

Computed by the library faster-coco-eval, of the extra `bench`; it is imported only when something is scored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framevault.workers.detectors.base import Detections

SCORED_FROM = 0.02
"""Average precision looks at the whole curve, and so at objects of lower scores than a vault stores."""

CocoDict = Mapping[str, Any]
"""A COCO file as JSON gives it: `images`, `annotations`, `categories`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """Average precision of one label."""

    label: str
    """Its name in the ground truth."""
    num_boxes: int
    """Boxes in the ground truth."""
    ap50: float
    """Average precision at an IoU of 0.5, 0..1."""
    ap: float
    """Mean over IoUs of 0.50 to 0.95, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoResult:
    """One detection as COCO writes it."""

    image_id: int
    """The picture's `id`."""
    label: str
    """Name of the category."""
    bbox_xywh: tuple[float, float, float, float]
    """x_min, y_min, width, height in pixels."""
    score: float
    """0..1."""


def coco_results(image_id: int, detections: Detections, names: Sequence[str | None]) -> list[CocoResult]:
    """Write one picture's detections as COCO does; label k is called `names[k]` there, None leaves it out."""
    results: list[CocoResult] = []
    rows = zip(detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    for (x_min, y_min, x_max, y_max), score, label in rows:
        name = names[label]
        if name is not None:
            box = (x_min, y_min, x_max - x_min, y_max - y_min)
            results.append(CocoResult(image_id=image_id, label=name, bbox_xywh=box, score=score))
    return results


def rename_labels(labels: Sequence[str], names: Mapping[str, str]) -> list[str | None]:
    """Return what each of a detector's labels is called in a ground truth; several may share a name."""
    return [names.get(label) for label in labels]


def average_precision(
    ground_truth: CocoDict, results: Iterable[CocoResult], *, image_ids: Collection[int] | None = None
) -> list[LabelScore]:
    """Score results against boxes drawn by people.

    Args:
        ground_truth: A COCO file; pictures without boxes count too.
        results: Detections of labels that the ground truth names; up to 100 a picture and label count.
        image_ids: Only these pictures are scored; None for all.

    Returns:
        A row for each label that has boxes in the scored pictures, in the ground truth's order.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    chosen = {image["id"] for image in ground_truth["images"]}
    chosen = chosen if image_ids is None else chosen & set(image_ids)
    numbers = {category["name"]: category["id"] for category in ground_truth["categories"]}
    rows = [
        {
            "image_id": result.image_id,
            "category_id": numbers[result.label],
            "bbox": list(result.bbox_xywh),
            "score": result.score,
        }
        for result in results
        if result.image_id in chosen
    ]
    counts = dict.fromkeys(numbers.values(), 0)
    for annotation in ground_truth["annotations"]:
        if annotation["image_id"] in chosen:
            counts[annotation["category_id"]] += 1
    scores: list[LabelScore] = []
    truth = COCO(dict(ground_truth))
    for name, number in numbers.items():
        if counts[number] == 0:
            continue
        ap50, ap = 0.0, 0.0
        if any(row["category_id"] == number for row in rows):
            ap50, ap = _score_label(COCOeval_faster, truth, rows, number=number, image_ids=sorted(chosen))
        scores.append(LabelScore(label=name, num_boxes=counts[number], ap50=ap50, ap=ap))
    return scores


def _score_label(
    evaluator_class: Any,  # noqa: ANN401  # the library has no types
    truth: Any,  # noqa: ANN401
    rows: list[dict[str, object]],
    *,
    number: int,
    image_ids: list[int],
) -> tuple[float, float]:
    """Return AP50 and AP of one category."""
    evaluator = evaluator_class(truth, truth.loadRes(rows), "bbox", print_function=lambda *_: None)
    evaluator.params.catIds = [number]
    evaluator.params.imgIds = image_ids
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return float(evaluator.stats[1]), float(evaluator.stats[0])
