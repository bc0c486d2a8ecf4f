"""Tests of the detector's network."""

import pytest
import torch

from framevault.workers.detectors.mobilenet_v2 import (
    ConvUnit,
    DetectorNetwork,
    NetworkShape,
    boxes_from_distances,
    fold_normalisation,
    upsample_to,
)

TOY = NetworkShape(num_labels=3, pyramid_channels=8, map_channels=8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (1024, 4), (8, 16), (17, 3)])
def test_the_maps_are_as_large_as_the_features(height: int, width: int) -> None:
    network = DetectorNetwork(TOY).eval()

    with torch.inference_mode():
        logits_nchw, log_distances_nchw = network(torch.zeros(2, 24, height, width))

    assert logits_nchw.shape == (2, 3, height, width)
    assert log_distances_nchw.shape == (2, 4, height, width)


def test_an_untrained_network_is_sure_of_nothing() -> None:
    torch.manual_seed(0)
    network = DetectorNetwork(TOY).eval()

    with torch.inference_mode():
        logits_nchw, _ = network(torch.randn(1, 24, 16, 16))

    assert 0.001 < float(logits_nchw.sigmoid().mean()) < 0.05


def test_folding_the_normalisation_changes_no_output() -> None:
    torch.manual_seed(0)
    network = DetectorNetwork(TOY, is_normalised=True)
    features_nchw = torch.randn(2, 24, 16, 24)
    network.train()
    for _ in range(3):
        network(features_nchw)  # moves the running statistics away from 0 and 1
    network.eval()

    folded = fold_normalisation(network)

    with torch.inference_mode():
        for expected_nchw, got_nchw in zip(network(features_nchw), folded(features_nchw), strict=True):
            # Folding rounds each weight once more in float32.
            torch.testing.assert_close(got_nchw, expected_nchw, atol=1e-4, rtol=1e-4)
    assert not any("norm" in name for name, _ in folded.named_modules())


def test_folding_leaves_the_trained_network_as_it_was() -> None:
    network = DetectorNetwork(TOY, is_normalised=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    fold_normalisation(network)

    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert network.training


def test_a_unit_has_a_normalisation_only_where_asked() -> None:
    assert "norm" in dict(ConvUnit(2, 2, kernel=1, is_normalised=True).named_children())
    assert "norm" not in dict(ConvUnit(2, 2, kernel=1, is_normalised=False).named_children())


def test_distances_become_boxes_around_each_positions_middle() -> None:
    distances_nchw = torch.zeros(1, 4, 2, 3)
    distances_nchw[0, :, 1, 2] = torch.tensor([1.0, 0.5, 2.0, 4.0])

    boxes_nchw = boxes_from_distances(distances_nchw.log())

    # Position (row 1, column 2) has its middle at pixel (10, 6).
    expected = torch.tensor([10 - 4.0, 6 - 2.0, 10 + 8.0, 6 + 16.0])
    torch.testing.assert_close(boxes_nchw[0, :, 1, 2], expected)


def test_absurd_distances_stay_finite() -> None:
    boxes_nchw = boxes_from_distances(torch.full((1, 4, 1, 1), 1e9))

    assert torch.isfinite(boxes_nchw).all()


def test_upsampling_repeats_positions_and_cuts() -> None:
    small_nchw = torch.tensor([[[[1.0, 2.0]]]])

    large_nchw = upsample_to(small_nchw, torch.zeros(1, 1, 1, 3))

    assert large_nchw.tolist() == [[[[1.0, 1.0, 2.0]]]]
