"""Tests of reading boxes from heat maps."""

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.checkpoint import DetectorConfig
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, NetworkShape
from framevault.workers.detectors.peaks import MAX_OBJECTS, PeakDetector, find_peaks
from tests.workers.detectors.fixed_maps import detector_that_sees

CONFIG = DetectorConfig(name="toy", labels=("person", "car"), pyramid_channels=8, map_channels=8, nms_iou=0.6)


def random_detector() -> PeakDetector:
    torch.manual_seed(0)
    network = DetectorNetwork(NetworkShape(num_labels=2, pyramid_channels=8, map_channels=8)).eval()
    return PeakDetector(network, CONFIG)


def test_a_peak_becomes_a_box_with_its_label_and_score() -> None:
    detector = detector_that_sees((1, 4, 6, 0.75))

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=40, width=80)

    assert found.labels.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.75])
    # The middle of position (row 4, column 6) is pixel (26, 18); 2 positions are 8 pixels.
    assert found.boxes_xyxy.tolist() == [[18, 10, 34, 26]]
    assert found.boxes_xyxy.dtype == np.dtype(np.float32)
    assert found.scores.dtype == np.dtype(np.float32)
    assert found.labels.dtype == np.dtype(np.int64)


def test_the_best_object_comes_first() -> None:
    detector = detector_that_sees((0, 2, 2, 0.4), (1, 7, 15, 0.9), (0, 7, 3, 0.6))

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=40, width=80)

    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.4])


def test_scores_below_the_floor_are_left_out() -> None:
    detector = detector_that_sees((0, 2, 2, 0.4), (1, 7, 15, 0.9))

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=40, width=80, score_floor=0.5)

    assert found.scores.tolist() == pytest.approx([0.9])


def test_a_neighbour_of_a_peak_is_no_object() -> None:
    detector = detector_that_sees((0, 4, 6, 0.8), (0, 4, 7, 0.7), size=0.4)

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=40, width=80)

    assert found.scores.tolist() == pytest.approx([0.8])


def test_the_same_object_twice_is_reported_once_but_two_labels_may_overlap() -> None:
    detector = detector_that_sees((0, 4, 6, 0.8), (0, 4, 8, 0.7), (1, 4, 8, 0.6), size=8.0)

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=40, width=80)

    assert list(zip(found.labels.tolist(), found.scores.tolist(), strict=True)) == [
        (0, pytest.approx(0.8)),
        (1, pytest.approx(0.6)),
    ]


def test_boxes_end_at_the_frames_border() -> None:
    detector = detector_that_sees((0, 0, 0, 0.8), (1, 9, 19, 0.7), size=3.0)

    (found,) = detector(torch.zeros(1, 24, 10, 20), height=37, width=79)

    assert found.boxes_xyxy.tolist() == [[0, 0, 14, 14], [66, 26, 79, 37]]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33), (4096, 16), (5, 300)])
def test_frames_of_any_size_work(height: int, width: int) -> None:
    features_nchw = torch.randn(2, 24, -(-height // 4), -(-width // 4))

    found = random_detector()(features_nchw, height=height, width=width, score_floor=0.001)

    assert len(found) == 2
    for frame in found:
        assert frame.boxes_xyxy.shape == (len(frame.scores), 4)
        assert len(frame.scores) == len(frame.labels)
        assert (frame.boxes_xyxy >= 0).all()
        assert (frame.boxes_xyxy <= [width, height, width, height]).all()
        assert (frame.boxes_xyxy[:, 2:] > frame.boxes_xyxy[:, :2]).all()


def test_a_second_run_gives_the_same_detections() -> None:
    detector = random_detector()
    features_nchw = torch.randn(1, 24, 30, 40)

    first, second = (detector(features_nchw, height=120, width=160, score_floor=0.001)[0] for _ in range(2))

    assert len(first.scores) > 10
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_no_frames_give_no_detections() -> None:
    assert random_detector()(torch.zeros(0, 24, 2, 2), height=8, width=8) == []


@pytest.mark.parametrize(
    "features_nchw", [torch.zeros(1, 24, 9, 20), torch.zeros(1, 3, 10, 20), torch.zeros(1, 24, 10, 20).half()]
)
def test_other_features_are_refused_with_what_was_expected(features_nchw: Tensor) -> None:
    with pytest.raises(DetectorError, match=r"80 x 40 pixels must be float32 \[N, 24, 10, 20\], got torch\.float"):
        random_detector()(features_nchw, height=40, width=80)


def test_one_label_is_found_as_among_all_of_them() -> None:
    detector = random_detector()
    features_nchw = torch.randn(2, 24, 30, 40, generator=torch.Generator().manual_seed(1))

    everything = detector(features_nchw, height=120, width=160, score_floor=0.001)
    cars = detector.find_label("car", features_nchw, height=120, width=160, score_floor=0.001, most=MAX_OBJECTS)

    assert sum(len(found.scores) for found in cars) > 10
    for found, among in zip(cars, everything, strict=True):
        mine = among.labels == 1
        best = len(found.scores) if len(among.scores) < MAX_OBJECTS else mine.sum()
        assert set(found.labels.tolist()) <= {1}
        np.testing.assert_array_equal(found.boxes_xyxy[:best], among.boxes_xyxy[mine])
        np.testing.assert_array_equal(found.scores[:best], among.scores[mine])


def test_of_one_label_there_may_be_more_objects_than_are_returned_of_all() -> None:
    places = [(row, column) for row in range(0, 60, 3) for column in range(0, 60, 3)]
    peaks = [(label, row, column, 0.5) for label in range(2) for row, column in places]
    detector = detector_that_sees(*peaks, size=1.0, rows=60, columns=60)

    (found,) = detector.find_label("car", torch.zeros(1, 24, 60, 60), height=240, width=240, score_floor=0.3, most=1000)
    (few,) = detector.find_label("car", torch.zeros(1, 24, 60, 60), height=240, width=240, score_floor=0.3, most=7)

    assert (len(found.scores), len(few.scores)) == (len(places), 7)
    assert len(places) > MAX_OBJECTS


def test_a_label_that_the_detector_does_not_know_is_refused() -> None:
    with pytest.raises(DetectorError, match="'toy' finds no 'face', only person, car"):
        random_detector().find_label("face", torch.zeros(1, 24, 10, 20), height=40, width=80, score_floor=0.3, most=5)


def test_only_the_highest_of_a_neighbourhood_is_a_peak() -> None:
    logits_nchw = torch.logit(torch.tensor([[[[0.1, 0.5, 0.2, 0.1, 0.3]]]]))

    assert find_peaks(logits_nchw, score_floor=0.05).tolist() == [[0, 0, 0, 1], [0, 0, 0, 4]]
    assert find_peaks(logits_nchw, score_floor=0.4).tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("score_floor", [0.0, 0.3, 0.9, 1.0])
def test_peaks_are_those_that_a_pooling_of_whole_maps_leaves(score_floor: float) -> None:
    logits_nchw = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    highest_nchw = torch.nn.functional.max_pool2d(logits_nchw, 3, stride=1, padding=1)

    found_p4 = find_peaks(logits_nchw.contiguous(memory_format=torch.channels_last), score_floor=score_floor)

    wanted = (highest_nchw == logits_nchw) & (logits_nchw.sigmoid() >= score_floor)
    assert found_p4.tolist() == torch.nonzero(wanted).tolist()
