"""Tests of the detector's targets, losses and stand-in damage."""

import numpy as np
import pytest
import torch
from torchvision.ops import generalized_box_iou

from framevault.workers.detectors.checkpoint import DetectorConfig
from framevault.workers.detectors.mobilenet_v2 import DetectorNetwork, fold_normalisation
from framevault.workers.detectors.peaks import PeakDetector
from framevault.workers.detectors.training import (
    BOX_LOSS_WEIGHT,
    Annotation,
    BlindArea,
    box_loss,
    compute_losses,
    degrade_features,
    draw_targets,
    generalised_iou,
    heat_loss,
)

PERSON, CAR = 0, 1


def annotate(
    *boxes: tuple[int, float, float, float, float, float], blind_areas: tuple[BlindArea, ...] = ()
) -> Annotation:
    """Make an annotation of rows (label, x_min, y_min, x_max, y_max, weight)."""
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    return Annotation(
        boxes_k4=rows[:, 1:5], labels_k=rows[:, 0].astype(np.int64), weights_k=rows[:, 5], blind_areas=blind_areas
    )


def test_the_heat_is_one_at_the_centre_and_falls_off() -> None:
    targets = draw_targets([annotate((CAR, 16, 8, 80, 40, 1.0))], 2, height=16, width=24)

    heat_hw = targets.heat_nchw[0, CAR]
    assert heat_hw[6, 12] == 1
    assert (heat_hw == 1).sum() == 1
    assert 0 < heat_hw[6, 14] < heat_hw[6, 13] < 1
    assert targets.heat_nchw[0, PERSON].max() == 0


def test_positions_near_the_centre_shall_predict_the_whole_box() -> None:
    targets = draw_targets([annotate((CAR, 16, 8, 80, 40, 1.0))], 2, height=16, width=24)

    assert targets.boxes_nchw[0, :, 6, 13].tolist() == [16, 8, 80, 40]
    assert targets.box_weights_nhw[0, 6, 12] > targets.box_weights_nhw[0, 6, 14] > 0
    assert targets.box_weights_nhw[0, 0, 0] == 0


def test_a_small_object_in_front_of_a_large_one_keeps_its_positions() -> None:
    large, small = (PERSON, 0.0, 0.0, 96.0, 64.0, 1.0), (PERSON, 44.0, 28.0, 52.0, 36.0, 1.0)

    for order in ((large, small), (small, large)):
        targets = draw_targets([annotate(*order)], 1, height=16, width=24)

        assert targets.boxes_nchw[0, :, 8, 12].tolist() == [44, 28, 52, 36]


def test_an_unsure_box_counts_less_and_hides_its_area() -> None:
    targets = draw_targets([annotate((PERSON, 16, 8, 80, 40, 0.25))], 2, height=16, width=24)

    assert targets.weights_nchw[0, PERSON, 6, 12] == 0.25
    assert targets.weights_nchw[0, PERSON, 3, 5] == 0
    assert targets.weights_nchw[0, PERSON, 12, 5] == 1
    assert targets.weights_nchw[0, CAR, 3, 5] == 1


def test_a_blind_area_takes_weight_from_its_labels_alone() -> None:
    area = BlindArea(first_label=1, end_label=2, box=(0, 0, 32, 16), weight=0.0)

    targets = draw_targets([annotate(blind_areas=(area,))], 2, height=16, width=24)

    assert targets.weights_nchw[0, CAR, :4, :8].max() == 0
    assert targets.weights_nchw[0, CAR].sum() == 16 * 24 - 4 * 8
    assert targets.weights_nchw[0, PERSON].min() == 1


def test_a_blind_area_never_gives_weight_back() -> None:
    areas = tuple(BlindArea(first_label=0, end_label=1, box=(0, 0, 8, 8), weight=weight) for weight in (0.0, 0.5))

    targets = draw_targets([annotate(blind_areas=areas)], 1, height=4, width=4)

    assert targets.weights_nchw[0, 0, :2, :2].max() == 0


def test_the_heat_loss_prefers_the_right_answer() -> None:
    targets = draw_targets([annotate((CAR, 16, 8, 80, 40, 1.0))], 2, height=16, width=24)
    right_nchw = torch.full((1, 2, 16, 24), -8.0)
    right_nchw[0, CAR, 6, 12] = 8.0
    wrong_label_nchw = right_nchw.flip(1)
    nothing_nchw = torch.full((1, 2, 16, 24), -8.0)

    right = float(heat_loss(right_nchw, targets))

    assert right < 0.01
    assert float(heat_loss(nothing_nchw, targets)) > 1
    assert float(heat_loss(wrong_label_nchw, targets)) > float(heat_loss(nothing_nchw, targets))


def test_the_heat_loss_ignores_what_is_blind() -> None:
    area = BlindArea(first_label=0, end_label=1, box=(0, 0, 16, 16), weight=0.0)
    targets = draw_targets([annotate(blind_areas=(area,))], 1, height=4, width=4)

    loss = heat_loss(torch.full((1, 1, 4, 4), 5.0), targets)

    assert float(loss) == 0


def test_the_box_loss_is_zero_for_the_box_itself() -> None:
    targets = draw_targets([annotate((CAR, 16, 8, 80, 40, 1.0))], 2, height=16, width=24)
    xs_w, ys_h = torch.arange(24) + 0.5, torch.arange(16)[:, None] + 0.5
    distances = (xs_w - 4, ys_h - 2, 20 - xs_w, 10 - ys_h)
    exact_nchw = torch.stack([d.expand(16, 24).clamp(min=0.01).log() for d in distances])[None]

    assert float(box_loss(exact_nchw, targets)) == pytest.approx(0, abs=1e-5)
    assert float(box_loss(exact_nchw + 0.5, targets)) > 0.1


def test_losses_of_a_picture_without_objects_are_finite() -> None:
    targets = draw_targets([annotate()], 2, height=8, width=8)

    heat = heat_loss(torch.zeros(1, 2, 8, 8), targets)
    boxes = box_loss(torch.zeros(1, 4, 8, 8), targets)

    assert torch.isfinite(heat)
    assert float(boxes) == 0


def test_generalised_iou_equals_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, generator=generator) * 20
    first_p4, second_p4 = torch.cat((corners, corners + torch.rand(2, 50, 2, generator=generator) * 20 + 0.1), dim=2)

    got_p = generalised_iou(first_p4, second_p4)

    # float32, another order of additions
    torch.testing.assert_close(got_p, generalized_box_iou(first_p4, second_p4).diag(), atol=1e-5, rtol=1e-5)


def test_training_a_toy_network_finds_the_toy_object() -> None:
    torch.manual_seed(0)
    config = DetectorConfig(name="toy", labels=("person", "car"), pyramid_channels=8, map_channels=16, nms_iou=0.6)
    network = DetectorNetwork(config.network_shape(), is_normalised=True).train()
    features_nchw = torch.randn(2, 24, 16, 24) * 0.1
    features_nchw[0, :12, 2:10, 4:20] += 2.0
    targets = draw_targets([annotate((CAR, 16, 8, 80, 40, 1.0)), annotate()], 2, height=16, width=24)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-2)

    for _ in range(30):
        heat, boxes = compute_losses(network, features_nchw, targets)
        optimiser.zero_grad()
        (heat + BOX_LOSS_WEIGHT * boxes).backward()  # type: ignore[no-untyped-call]  # torch's
        optimiser.step()
    for _ in range(100):  # the running statistics, with a momentum of 0.03, catch up with the weights
        with torch.no_grad():
            network(features_nchw)
    detector = PeakDetector(fold_normalisation(network), config)
    found, nothing = detector(features_nchw, height=64, width=96, score_floor=0.3)

    assert found.labels.tolist() == [CAR]
    np.testing.assert_allclose(found.boxes_xyxy[0], [16, 8, 80, 40], atol=6)
    assert len(nothing.scores) == 0


def test_degraded_features_keep_their_shape_and_stay_close() -> None:
    torch.manual_seed(0)
    features_nchw = torch.randn(32, 24, 7, 9)

    damaged_nchw = degrade_features(features_nchw)

    errors_n = (damaged_nchw - features_nchw).square().mean((1, 2, 3)).sqrt() / features_nchw.std((1, 2, 3))
    assert damaged_nchw.shape == features_nchw.shape
    assert (errors_n == 0).any()
    assert 0.1 < float(errors_n.max()) < 1.0
