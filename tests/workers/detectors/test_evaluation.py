"""Tests of average precision on hand-made boxes."""

from typing import Any

import numpy as np
import pytest

from framevault.workers.detectors.base import Detections
from framevault.workers.detectors.evaluation import CocoResult, average_precision, coco_results, rename_labels

pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")


def ground_truth() -> dict[str, Any]:
    """Two pictures: a person in each, and a car in the second."""
    boxes = [(1, 1, [10, 10, 20, 40]), (2, 1, [50, 10, 20, 40]), (2, 2, [0, 60, 60, 30])]
    return {
        "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (image, category, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}, {"id": 3, "name": "dog"}],
    }


def find(image_id: int, label: str, *bbox_xywh: float, score: float = 0.9) -> CocoResult:
    x, y, width, height = bbox_xywh
    return CocoResult(image_id=image_id, label=label, bbox_xywh=(x, y, width, height), score=score)


PERSON_1, PERSON_2 = find(1, "person", 10, 10, 20, 40), find(2, "person", 50, 10, 20, 40)


def test_exact_boxes_score_one() -> None:
    scores = average_precision(ground_truth(), [PERSON_1, PERSON_2, find(2, "car", 0, 60, 60, 30)])

    assert [(s.label, s.num_boxes) for s in scores] == [("person", 2), ("car", 1)]
    assert [s.ap50 for s in scores] == pytest.approx([1, 1])
    assert [s.ap for s in scores] == pytest.approx([1, 1])


def test_a_missed_object_and_a_label_without_results_cost() -> None:
    person, car = average_precision(ground_truth(), [PERSON_1])

    # COCO reads precision at 101 recalls; it is 1 up to a recall of 0.5, which are 51 of them.
    assert person.ap50 == pytest.approx(51 / 101)
    assert car.ap50 == 0


def test_a_better_scored_false_object_costs_precision() -> None:
    wrong = find(1, "person", 70, 70, 10, 10, score=0.95)

    person, _ = average_precision(ground_truth(), [PERSON_1, PERSON_2, wrong])

    assert person.ap50 == pytest.approx(2 / 3, abs=0.01)


def test_a_loose_box_counts_at_half_overlap_but_not_at_all_overlaps() -> None:
    loose = [find(1, "person", 10, 10, 20, 30), find(2, "person", 50, 10, 20, 30)]

    person, _ = average_precision(ground_truth(), loose)

    assert person.ap50 == pytest.approx(1)
    assert 0.5 < person.ap < 0.7


def test_only_the_chosen_pictures_are_scored() -> None:
    (person,) = average_precision(ground_truth(), [PERSON_1], image_ids=[1])

    assert person.num_boxes == 1
    assert person.ap50 == pytest.approx(1)


def test_no_results_at_all_score_zero() -> None:
    assert [s.ap50 for s in average_precision(ground_truth(), [])] == [0, 0]


def test_detections_are_written_as_coco_does_under_the_ground_truths_names() -> None:
    detections = Detections(
        boxes_xyxy=np.array([[1, 2, 4, 8], [0, 0, 1, 1], [5, 5, 6, 7]], np.float32),
        scores=np.array([0.75, 0.5, 0.25], np.float32),
        labels=np.array([1, 2, 0]),
    )
    names = rename_labels(("car", "truck", "dog"), {"car": "vehicle", "truck": "vehicle"})

    results = coco_results(7, detections, names)

    assert results == [
        CocoResult(image_id=7, label="vehicle", bbox_xywh=(1, 2, 3, 6), score=0.75),
        CocoResult(image_id=7, label="vehicle", bbox_xywh=(5, 5, 1, 2), score=0.25),
    ]
