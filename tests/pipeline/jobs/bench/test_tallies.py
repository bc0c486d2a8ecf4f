"""Tests of the scores: worked by hand, with networks that say what they are told."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.pipeline.jobs.bench.material import Frame
from framevault.pipeline.jobs.bench.tallies import BoxTally, Top1Tally
from framevault.pipeline.jobs.bench.truth import TruthImage
from framevault.workers.classifier import Classifier, FrameFacts
from framevault.workers.detectors.base import Detections


class SaysClasses(Classifier):
    """Ranks the classes from the number in a frame's features on."""

    def __init__(self) -> None:
        """Needs no weights."""

    def __call__(self, features_nchw: Tensor) -> FrameFacts:
        ids_nk = features_nchw[:, 0, 0, :1].long().numpy() + np.arange(10)
        return FrameFacts(ids_nk, np.ones(ids_nk.shape, np.float32), np.zeros((len(ids_nk), 1), np.float16))


def picture(class_id: int) -> Frame[int]:
    return Frame(target=class_id, source_size=(64, 64))


def test_top1_and_top5_are_shares_of_the_pictures() -> None:
    tally = Top1Tally(SaysClasses())

    tally.add([picture(7), picture(11)], torch.full((2, 1, 1, 1), 7.0))
    tally.add([picture(12), picture(6)], torch.full((2, 1, 1, 1), 7.0))

    scored = tally.result()
    assert scored.metrics == {"top1": 0.25, "top5": 0.5}
    assert scored.values_p["top1"].tolist() == [1, 0, 0, 0]
    assert scored.values_p["top5"].tolist() == [1, 1, 0, 0]


@dataclass
class FindsOne:
    """Finds one box in every frame."""

    box: tuple[float, float, float, float]
    name: str = "toy"
    backbone: str = "toy"
    labels: tuple[str, ...] = ("man", "cat")
    asked: tuple[int, int] = (0, 0)

    def __call__(self, features_nchw: Tensor, *, height: int, width: int, score_floor: float = 0.5) -> list[Detections]:
        assert score_floor < 0.05
        self.asked = (width, height)
        one = Detections(
            boxes_xyxy=np.asarray([self.box], np.float32), scores=np.ones(1, np.float32), labels=np.zeros(1, np.int64)
        )
        return [one] * len(features_nchw)


def frame(image_id: int) -> Frame[TruthImage]:
    image = TruthImage(image_id=image_id, frame_index=image_id, file_name=None, size=None)
    return Frame(target=image, source_size=(129, 96))


def score(detector: FindsOne, *, size: tuple[int, int] | None) -> dict[str, float]:
    """Frame 1 has a person, frame 2 none, frame 3 is not looked at."""
    pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")
    truth = {
        "images": [{"id": number} for number in (1, 2, 3)],
        "categories": [{"id": 5, "name": "person"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 5, "bbox": [40, 20, 40, 40], "area": 1600, "iscrowd": 0}
            for n, image in ((1, 1), (2, 3))
        ],
    }
    tally = BoxTally(detector, ["person", None], truth, size)
    tally.add([frame(1), frame(2)], torch.zeros(2, 1, 1, 1))
    return dict(tally.result().metrics)


def test_a_box_counts_in_the_pixels_of_the_source() -> None:
    """Frame 2 has no person, and so costs precision: both boxes have the same score."""
    halved = FindsOne(box=(20, 10, 40, 30))
    metrics = score(halved, size=(64, 48))
    assert halved.asked == (64, 48)
    assert metrics["ap50"] >= 0.5

    whole = FindsOne(box=(20, 10, 40, 30))
    assert score(whole, size=None)["ap50"] == 0
    assert whole.asked == (128, 96)


def test_frames_that_were_not_added_cost_nothing() -> None:
    exact = score(FindsOne(box=(40, 20, 80, 60)), size=None)

    assert exact["ap50"] == exact["ap"] >= 0.5
