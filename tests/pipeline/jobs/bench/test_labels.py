"""Tests of which label counts as which."""

import numpy as np
import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.labels import drop_duplicates, map_labels, parse_pairs
from framevault.workers.detectors.base import Detections

KNOWN = ("person", "car", "truck")


def found(*objects: tuple[int, float, tuple[float, float, float, float]]) -> Detections:
    return Detections(
        boxes_xyxy=np.asarray([box for _, _, box in objects], np.float32).reshape(-1, 4),
        scores=np.asarray([score for _, score, _ in objects], np.float32),
        labels=np.asarray([label for label, _, _ in objects], np.int64),
    )


def test_pairs_are_read() -> None:
    assert parse_pairs("car=vehicle, truck=vehicle", option="--labels") == {"car": "vehicle", "truck": "vehicle"}
    assert parse_pairs(None, option="--labels") == {}


@pytest.mark.parametrize("text", ["", "car", "car=", "=car", "car=a,,b=c", "car=a,car=b"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(PreflightError, match="--labels must be like"):
        parse_pairs(text, option="--labels")


def test_without_pairs_the_names_that_both_have_are_taken() -> None:
    assert map_labels(KNOWN, ("dog", "person"), pairs={}, source="file") == {"person": "person"}


@pytest.mark.parametrize(
    ("pairs", "scored", "message"),
    [
        ({"horse": "person"}, ("person",), "the detector has no horse; it has person, car, truck"),
        ({"car": "vehicle"}, ("person",), "file has no vehicle; it has person"),
        ({}, ("dog",), "share no label"),
    ],
)
def test_labels_that_do_not_fit_are_named(pairs: dict[str, str], scored: tuple[str, ...], message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        map_labels(KNOWN, scored, pairs=pairs, source="file")


def test_the_best_of_overlapping_boxes_that_count_as_one_label_is_kept() -> None:
    objects = found(
        (1, 0.9, (0, 0, 100, 50)), (2, 0.8, (0, 0, 100, 51)), (2, 0.7, (200, 0, 300, 50)), (0, 0.6, (0, 0, 100, 50))
    )

    kept = drop_duplicates(objects, ["person", "vehicle", "vehicle"])

    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert kept.labels.tolist() == [1, 2, 0]


def test_boxes_of_different_labels_do_not_push_each_other_out() -> None:
    objects = found((1, 0.9, (0, 0, 100, 50)), (2, 0.8, (0, 0, 100, 50)))

    kept = drop_duplicates(objects, ["person", "car", "truck"])

    assert kept.labels.tolist() == [1, 2]
